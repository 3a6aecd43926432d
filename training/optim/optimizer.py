"""The optimizers that --optimizer names, over the trainable parameters."""

from typing import Any, Iterator, List, Mapping, Sequence, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from environment import UsageError
from training.config.optimizer import OptimizerSettings
from training.optim.adam import AdamW, TimmLamb
from training.optim.muon import LEAST, Muon
from training.optim.trainer import Trainer

__all__ = ['UNDECAYED', 'make_trainer', 'undecayed']

# Names of parameters that --no-wd leaves without weight decay: affine parameters of norms, and biases.
UNDECAYED = ('gamma', 'beta', 'bias')
_DEFAULTS = OptimizerSettings()


def _leaves(block: gluon.Block, prefix: str = '') -> Iterator[Tuple[str, gluon.Block]]:
    """Yield the structural name of each parameter, and the layer that it belongs to."""
    for leaf in block._reg_params:
        yield prefix + leaf, block
    for name, child in block._children.items():
        yield from _leaves(child, f'{prefix}{name}.')


def undecayed(net: Any, no_wd: bool = True, no_wd_depthwise: bool = False, wd_layer_norm: bool = False) -> List[str]:
    """Return the structural names of the parameters without weight decay.

    `no_wd`: `UNDECAYED`, except for the gamma of layer norms with `wd_layer_norm`; `no_wd_depthwise`: weights of
    convolutions with groups.
    """
    names = []
    for name, layer in _leaves(net):
        if no_wd and name.endswith(UNDECAYED):
            spared = not (wd_layer_norm and isinstance(layer, nn.LayerNorm) and name.endswith('gamma'))
        else:
            grouped = getattr(layer, '_kwargs', {}).get('num_group', 1) > 1
            spared = no_wd_depthwise and grouped and name.endswith('weight')
        if spared:
            names.append(name)
    return names


def _matrices(net: Any, trained: Sequence[gluon.Parameter]) -> List[int]:
    """Return the numbers of the weights that Muon takes as matrices.

    Of convolutions without bias, which a norm follows or the next block begins with, but not of such with groups, of
    the one that reads the image, or of a few channels.
    """
    weights = [
        layer.weight
        for name, layer in _leaves(net)
        if name.endswith('weight')
        and isinstance(layer, nn.Conv2D)
        and layer.bias is None
        and layer._kwargs['num_group'] == 1
    ]
    unknown = [weight.name for weight in weights if 0 in weight.shape]
    if unknown:
        raise ValueError(f'the shape of {unknown[0]} is not known yet; run the network once before muon is chosen')
    large = {id(weight) for weight in weights if min(weight.shape[:2]) >= LEAST}
    numbers = [number for number, parameter in enumerate(trained) if id(parameter) in large]
    if not numbers:
        raise UsageError(
            f'--optimizer muon is for convolutions of {LEAST} filters or more, and none is trained here; take nag'
        )
    return numbers


def make_trainer(
    net: Any,
    settings: OptimizerSettings = _DEFAULTS,
    lr: float = 0.0,
    multi_precision: bool = False,
    devices: int = 1,
) -> Trainer:
    """Return a trainer of the parameters of `net`, but for those whose gradient is off or whose `lr_mult` is 0.

    It updates on the workers, so that its state can be read whatever the number of devices. What decays is said in
    `undecayed`.

    Args:
        net: has seen an image, so that its parameters have their shapes.
        settings: the optimizer and its settings.
        lr: until `set_learning_rate`, which a run calls before every step.
        multi_precision: keep float32 masters of float16 parameters.
        devices: how many compute the gradients.
    """
    parameters = net._collect_params_with_prefix()
    for name in undecayed(net, settings.no_wd, settings.no_wd_depthwise, settings.wd_layer_norm):
        parameters[name].wd_mult = 0.0
    # Frozen by lr_mult alone, a parameter would still drag its gradient and momentum along. One that several
    # blocks share is trained once.
    trainable = {id(p): p for p in parameters.values() if p.grad_req != 'null' and p.lr_mult != 0.0}
    common = {'learning_rate': lr, 'wd': settings.wd, 'multi_precision': multi_precision}
    optimizer = _optimizer(net, settings, list(trainable.values()), common)
    kvstore = 'device' if devices > 1 else None
    return Trainer(list(trainable.values()), optimizer, kvstore=kvstore, update_on_kvstore=False)


def _optimizer(
    net: Any, settings: OptimizerSettings, trained: Sequence[gluon.Parameter], common: Mapping[str, Any]
) -> mx.optimizer.Optimizer:
    """Return the optimizer of these settings, with what all have in `common`."""
    name, momentum = settings.optimizer, settings.momentum
    if name in ('adamw', 'lamb'):
        options = {**common, 'beta1': momentum, 'beta2': settings.beta2}
        if settings.epsilon is not None:
            options['epsilon'] = settings.epsilon
        return AdamW(**options) if name == 'adamw' else TimmLamb(settings.trust_clip, **options)
    if name == 'muon':
        return Muon(_matrices(net, trained), settings.muon_scale, momentum=momentum, **common)
    return mx.optimizer.create(name, momentum=momentum, **common)
