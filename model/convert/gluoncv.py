"""Structural names of GluonCV's networks (``gluoncv.model_zoo``): the ResNets, MobileNetV2 and those for CIFAR."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np
from mxnet import gluon

from model.attention.se import SE
from model.backbone.cifar_preresnet import CifarWideResNet
from model.backbone.cifar_resnet_v1 import CifarBasicResNet, CifarResNeXt
from model.backbone.cifar_resnet_v2 import CifarResNetV2
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.residual_attention import ResidualAttentionNetwork
from model.backbone.residual_units import ResidualBlock
from model.backbone.resnet_v1b import ResNetV1b
from model.convert.counterparts import Found, by_rules
from model.convert.naming import Layers, Naming, as_maps, covered, named, of_family, own_names
from model.convert.residual_attention import check_form, mask_prefixes
from model.convert.tables import expand
from model.parameters.names import structural_names

__all__ = ['counterpart', 'names', 'shapes', 'structural']

SOURCE = 'gluoncv'


def _body(block: gluon.Block) -> Layers:
    """Return the branch as a sequence: convolution, norm and ReLU, two or three times."""
    layers = {'downsample': 'downsample'}
    for number in (1, 2, 3):
        layers.update({f'conv{number}': f'body.{3 * number - 3}', f'bn{number}': f'body.{3 * number - 2}'})
    return layers


def _out(block: gluon.Block) -> Layers:
    """Return the branch of MobileNetV2, in which ReLUs count too."""
    layers = {}
    parts = ('depthwise', 'project') if block.expand is None else ('expand', 'depthwise', 'project')
    for index, part in enumerate(parts):
        layers.update({f'{part}.0': f'out.{3 * index}', f'{part}.1': f'out.{3 * index + 1}'})
    return layers


def _same(*layers: str) -> Dict[str, str]:
    return {name: name for name in layers}


_SE = {SE: {'reduce': 'se.0', 'expand': 'se.2'}}
_STEM = {'conv1': 'features.0', 'bn1': 'features.1', 'fc': 'output'}
_V1B = Naming(_same('conv1', 'bn1', 'fc'), 'layer{s:1}.{b}', _same(*_body(None).keys()))
_V1 = Naming(_STEM, 'features.{s:4}.{b}', _body, _SE)
_PRE_ACTIVATION = _same('bn1', 'conv1', 'bn2', 'conv2', 'downsample')
_FAMILIES = {
    CifarBasicResNet: Naming(_STEM, 'features.{s:2}.{b}', _body),
    CifarResNeXt: Naming(_STEM, 'features.{s:3}.{b}', _body, _SE),
    CifarResNetV2: Naming(
        _same('features.0', 'features.1', 'features.5', 'output'), 'features.{s:2}.{b}', _PRE_ACTIVATION
    ),
    CifarWideResNet: Naming(
        {'norm0': 'features.0', 'conv1': 'features.1', 'norm1': 'features.2', 'bn1': 'features.6', 'fc': 'output'},
        'features.{s:3}.{b}',
        _PRE_ACTIVATION,
    ),
    MobileNetV2: Naming(
        {
            'stem.0': 'features.0',
            'stem.1': 'features.1',
            'last.0': 'features.20',
            'last.1': 'features.21',
            'fc': 'output.0',
        },
        'features.{n:3}',
        _out,
    ),
}


def _residual_attention(net: ResidualAttentionNetwork) -> Iterator[Tuple[str, str]]:
    """Pairs of the original's prefixes and ours; the names are those of the PyTorch port, with the modules in rows."""
    yield 'conv1', 'stem'
    yield 'mpool2.0', 'bn'
    yield 'fc', 'fc'
    for index, stage in enumerate(net.stages):
        number = index + 1
        for place, block in enumerate(stage):
            ours = f'stages.{index}.{place}'
            if isinstance(block, ResidualBlock):
                yield f'residual_block{number + place}', ours
                continue
            theirs = f'attention_module{number}.{place - 1}'
            yield f'{theirs}.first_residual_blocks.0', f'{ours}.first'
            yield f'{theirs}.trunk_branches', f'{ours}.trunk'
            yield f'{theirs}.last_blocks', f'{ours}.last'
            for mask, own in mask_prefixes(max(1, block.levels), cifar=False):
                row = '.0' if own.startswith(('down', 'up')) else ''
                yield f'{theirs}.{mask}{row}', f'{ours}.mask.{own}'


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}``. Raises ``ValueError`` if GluonCV has no such network."""
    if isinstance(net, ResidualAttentionNetwork):
        check_form(net, SOURCE)
        plain = {name: own for name, own in own_names(net).items() if '.relu' not in name}
        return covered(net, expand(net, _residual_attention(net), plain), SOURCE)
    families: Mapping[type, Naming] = _FAMILIES
    if isinstance(net, ResNetV1b):
        layout = net.layout
        families = {ResNetV1b: _V1 if layout.stride_first or layout.groups > 1 else _V1B}
    return named(net, of_family(net, families, SOURCE), SOURCE, own_names)


def shapes(net: gluon.HybridBlock) -> Dict[str, Tuple[int, ...]]:
    """Return ``{original name: shape}`` where that is not ours: classifiers that are convolutions, ResNeXt's SE."""
    pattern = 'none'
    if isinstance(net, (MobileNetV2, ResidualAttentionNetwork)):
        pattern = r'output\.0\.weight|fc\.weight'
    elif isinstance(net, ResNetV1b) and net.layout.groups > 1:
        pattern = r'.*\.se\.[02]\.weight'
    return as_maps(net, names(net), pattern)


def structural(net: gluon.HybridBlock, arrays: Mapping[str, np.ndarray], origin: str) -> Dict[str, np.ndarray]:
    """Return the arrays of a file by GluonCV's structural names, whichever of MXNet's ways of saving made it.

    The names there count layers as they were made, which GluonCV's own network says. Raises ``UserError`` if they are
    those of no network that this one is the counterpart of.
    """
    from gluoncv import model_zoo  # it takes seconds

    wanted, classes = set(names(net)), net.classifier.weight.shape[0]
    masked, cifar = isinstance(net, ResidualAttentionNetwork), type(net).__name__.startswith('Cifar')
    for name in model_zoo.get_model_list():
        if ('attention' in name) != masked or not masked and name.startswith('cifar') != cifar:
            continue
        if not any(re.fullmatch(rule, name) for rule in _RULES):
            continue
        theirs = model_zoo.get_model(name, pretrained=False, classes=classes)
        if set(theirs._collect_params_with_prefix()) == wanted:
            return structural_names(dict(arrays), theirs, origin)
    return structural_names(dict(arrays), net, origin)


# The letter behind v1: the stem and the shortcuts.
_LETTERS: Dict[str, Dict[str, Any]] = {
    'b': {},
    'c': {'deep_stem': True},
    'd': {'deep_stem': True, 'avg_down': True},
    'e': {'deep_stem': True, 'avg_down': True, 'stem_width': 64},
    's': {'deep_stem': True, 'stem_width': 64},
}


def _resnet_v1(unit: Optional[str], depth: str) -> Found:
    options: Dict[str, Any] = {'conv_bias': True} if int(depth) >= 50 else {}
    if unit:
        options['unit_bias'] = False
    return f'{unit or ""}resnet{depth}_v1', options


def _mobilenet(width: str) -> Found:
    options: Dict[str, Any] = {'classifier_bias': False}
    if width != '1.0':
        options.update(width=float(width), width_divisor=1)
    return 'mobilenet_v2', options


_WIDE = {'input_norm': True, 'stem_norm': True}
_RULES = {
    r'(?P<unit>se_)?resnet(?P<depth>18|34|50|101|152)_v1': _resnet_v1,
    r'resnet(?P<depth>18|34|50|101|152)_v1(?P<letter>[bcdes])': lambda depth, letter: (
        f'resnet{depth}_v1b',
        dict(_LETTERS[letter]),
    ),
    r'(?P<name>(se_)?resnext\d+_\d+x\d+d)': lambda name: (name, {}),
    r'mobilenetv2_(?P<width>[\d.]+)': _mobilenet,
    r'(?P<name>cifar_resnet\d+_v[12])': lambda name: (name, {}),
    r'cifar_wideresnet(?P<numbers>\d+_\d+)': lambda numbers: (f'cifar_wrn{numbers}', dict(_WIDE)),
    r'(?P<name>cifar_resnext\d+_\d+x\d+d)': lambda name: (name, {'channels': (64, 256, 512, 1024)}),
    r'(?P<cifar>cifar_)?residualattentionnet(?P<depth>56|92)': lambda cifar, depth: (
        f'{cifar or ""}residual_attention{depth}',
        {'mask_additions': True},
    ),
}
_REFUSED = {
    r'(se_)?resnet\d+_v2': 'of pre-activation ResNets there are only those for CIFAR',
    r'resnet\d+_v1b_gn': "its group norms have one scale a group, Gluon's own, and not one a channel",
    r'resnest\d+': 'split attention is no unit here',
    r'se_resnext\d+e_.*|senet_\d+e?': 'its first convolutions, stem and shortcuts have no options here',
    r'.*residualattentionnet(128|164|200|236|452)': 'its modules are longer; there are 56 and 92 layers',
}


def counterpart(name: str) -> Found:
    """Return our name and arguments for GluonCV's ``name``. Raises ``ValueError`` with the reason if there is none."""
    return by_rules(SOURCE, name.lower(), _RULES, _REFUSED)
