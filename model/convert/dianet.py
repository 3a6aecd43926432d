"""Names in checkpoints of gbup-group/DIANet (``models/cifar/dia_{resnet,preresnet,wrn,resnext}.py``)."""

from __future__ import annotations

import re
from typing import Dict, NamedTuple

from mxnet import gluon

from model.backbone.cifar_preresnet import CifarPreResNet, CifarWideResNet
from model.backbone.cifar_resnet_v1 import CifarResNetV1, CifarResNeXt

__all__ = ['names']


class _Names(NamedTuple):
    """Theirs for each of our layers, of one of their files."""

    stage: str  # what precedes its number
    outside: Dict[str, str]  # of layers outside of the stages
    block: Dict[str, str]  # of layers inside a block


_CONV_BN = {f'{kind}{number}': f'{kind}{number}' for kind in ('conv', 'bn') for number in (1, 2, 3)}

_FAMILIES = {
    CifarResNetV1: _Names(
        'layer',
        {'conv1': 'conv1', 'bn1': 'bn1', 'fc': 'fc'},
        {**_CONV_BN, 'downsample.0': 'downsample.0', 'downsample.1': 'downsample.1'},
    ),
    CifarPreResNet: _Names(
        'layer',
        {'conv1': 'conv1', 'bn1': 'bn', 'fc': 'fc'},
        {**_CONV_BN, 'branch_norm': 'bn_additional', 'downsample': 'downsample.0'},
    ),
    CifarWideResNet: _Names(
        'block',
        {'conv1': 'conv1', 'bn1': 'bn1', 'fc': 'fc'},
        {**_CONV_BN, 'branch_norm': 'bn_additional', 'downsample': 'convShortcut'},
    ),
    CifarResNeXt: _Names(
        'stage_',
        {'conv1': 'conv_1_3x3', 'bn1': 'bn_1', 'fc': 'classifier'},
        {
            'conv1': 'conv_reduce',
            'bn1': 'bn_reduce',
            'conv2': 'conv_conv',
            'bn2': 'bn',
            'conv3': 'conv_expand',
            'bn3': 'bn_expand',
            'downsample.0': 'shortcut.shortcut_conv',
            'downsample.1': 'shortcut.shortcut_bn',
        },
    ),
}

# The LSTM's linear maps: w_ih is applied to the pooled features and w_hh to the state.
_CELL = {
    'attention.cell.input_reduce': 'lstm.w_ih.0.seq.0',
    'attention.cell.input_expand': 'lstm.w_ih.0.seq.2',
    'attention.cell.state_reduce': 'lstm.w_hh.0.seq.0',
    'attention.cell.state_expand': 'lstm.w_hh.0.seq.2',
}

# The same of an LSTM's layers without a bottleneck.
_PLAIN = {'input': 'w_ih', 'state': 'w_hh'}

_LEAVES = {
    'weight': 'weight',
    'bias': 'bias',
    'gamma': 'weight',
    'beta': 'bias',
    'running_mean': 'running_mean',
    'running_var': 'running_var',
}


def _layer(family: _Names, layer: str, bottleneck: bool) -> str:
    """Return the original's name of our layer ``layer``; KeyError if it has none.

    ``bottleneck``: whether the first layer of the LSTM has one.
    """
    inside = re.fullmatch(r'layer(\d+)\.(\d+)\.(.+)', layer)
    if inside is None:
        return family.outside[layer]
    stage, block, part = inside.groups()
    if part in _CELL:
        return f'{family.stage}{stage}.{_CELL[part]}'
    plain = re.fullmatch(r'attention\.cell\.(input|state)s\.(\d+)', part)
    if plain is not None:
        number = int(plain[2]) + bottleneck
        return f'{family.stage}{stage}.lstm.{_PLAIN[plain[1]]}.{number}'
    return f'{family.stage}{stage}.ModuleList.{block}.{family.block[part]}'


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}`` of every parameter and running statistic of ``net``.

    The unit that the blocks of a stage share has one name there; ours is that in the stage's first block.

    Raises ``ValueError`` for a network that DIANet does not have: another backbone, or one with other units.
    """
    family = next((table for kind, table in _FAMILIES.items() if isinstance(net, kind)), None)
    if family is None:
        known = ', '.join(kind.__name__ for kind in _FAMILIES)
        raise ValueError(f'DIANet has no {type(net).__name__}; it has {known}, as cifar_dia_resnet164bn_v1 and others')
    theirs: Dict[str, str] = {}
    parameters = net._collect_params_with_prefix()
    bottleneck = any('.cell.input_reduce.' in name for name in parameters)
    for name in parameters:
        layer, leaf = name.rsplit('.', 1)
        try:
            original = f'{_layer(family, layer, bottleneck)}.{_LEAVES[leaf]}'
        except KeyError:
            raise ValueError(
                f'DIANet has no counterpart of {name}; its networks have ReLU and DIA, as cifar_dia_resnet164bn_v1 has'
            ) from None
        theirs.setdefault(original, name)
    return theirs
