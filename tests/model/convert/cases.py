"""A small network for each original, and the conversion of its parameters there and back."""

import mxnet as mx
import numpy as np

from model import get_model
from model.backbone.residual_attention import LAYOUTS, ResidualAttentionNetwork


def relu(channels):
    return mx.gluon.nn.Activation('relu')


def residual_attention(layout='cifar_residual_attention92', **options):
    """Return a published layout, 16 times as narrow."""
    arguments = dict(LAYOUTS[layout])
    arguments['channels'] = [channels // 16 for channels in arguments['channels']]
    return ResidualAttentionNetwork(**arguments, activation=relu, default_activation=relu, classes=10, **options)


def small(source):
    """Return an uninitialised network that the original ``source`` has names for."""
    if source == 'residual-attention':
        return residual_attention()
    name = {
        'torch': 'cifar_resnet8_v2',
        'open-atac': 'cifar_atac_resnet8_v2',
        'dianet': 'cifar_dia_resnet11bn_v1',
        'dcanet': 'dca_gc_mobilenet_v2',
        'torchvision': 'mobilenet_v2',
        'timm': 'cbam_resnet18_v1b',
        'pytorchcv': 'cifar_se_resnet8_v1',
        'gluoncv': 'cifar_resnet8_v2',
    }
    options = {'act_type': 'prelu', 'norm': 'group'} if source == 'torch' else {}
    return get_model(name[source], classes=10, **options)


def randomize(net, seed=0):
    """Give every parameter, running statistics included, values of its own."""
    random = np.random.RandomState(seed)
    net.initialize()
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape).astype('float32')))
    return net


def arrays(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}
