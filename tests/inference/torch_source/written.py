"""Keep what a network of ours computes beside the module written from it, for `torch_side.py` to compare."""

import json

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from inference.torch_source import torch_source
from model import get_model
from model.convert import to_state_dict
from model.convert.files import write_state

# Numbers that float32 represents exactly, because MXNet converts them to it.
STEPS, RATE, MOMENTUM, DECAY = 3, 2**-7, 0.875, 2**-10


def wake(net, seed=3):
    """Replace initial values, of which zeros would hide what they multiply."""
    random = np.random.RandomState(seed)
    for name, parameter in net._collect_params_with_prefix().items():
        value = parameter.data().asnumpy()
        if 'running_var' in name:
            value = random.uniform(0.5, 1.5, value.shape)
        elif value.ndim == 1:
            value = value + random.uniform(-0.2, 0.2, value.shape)
        parameter.set_data(mx.nd.array(value))


def network(name, seed=1, **options):
    mx.random.seed(seed)
    net = get_model(name, **options)
    net.initialize(mx.init.MSRAPrelu())
    wake(net)
    return net


def images(shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def write(folder, net, name, shape):
    """Write ``net.py``, its parameters, and in float64 the logits, gradients and values of some training steps."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'net.py').write_text(torch_source(net, name, shape[2]))
    write_state(folder / 'net.safetensors', to_state_dict(net))
    net.cast('float64')
    for block in norms(net):
        block.cast('float64')
    data = images(shape)
    labels = np.arange(shape[0]) % 3
    known = {'data': data, 'labels': labels, 'evaluated': net(mx.nd.array(data, dtype='float64')).asnumpy()}
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': RATE, 'momentum': MOMENTUM, 'wd': DECAY})
    for step in range(STEPS):
        with autograd.record():
            logits = net(mx.nd.array(data, dtype='float64'))
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(logits, mx.nd.array(labels)).mean()
        loss.backward()
        if step == 0:
            known['trained'] = logits.asnumpy()
            for key, parameter in by_torchs_names(net).items():
                if parameter.grad_req != 'null':
                    known[f'gradient:{key}'] = parameter.grad().asnumpy()
        trainer.step(1)
    for key, parameter in by_torchs_names(net).items():
        known[f'value:{key}'] = parameter.data().asnumpy()
    known['frozen'] = json.dumps(
        [
            key
            for key, parameter in by_torchs_names(net).items()
            if parameter.grad_req == 'null' or not parameter.lr_mult
        ]
    )
    np.savez(folder / 'known.npz', **known)


def norms(net):
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, gluon.nn.BatchNorm) else None)
    return found


def by_torchs_names(net):
    from model.convert.own import names

    parameters = net._collect_params_with_prefix()
    return {key: parameters[own] for key, own in names(net).items()}
