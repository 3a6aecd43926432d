"""Names of torchvision's networks (``torchvision.models``): ResNet, ResNeXt, Wide ResNet, MobileNetV2 and MnasNet."""

from __future__ import annotations

from typing import Any, Dict

from mxnet import gluon

from model.backbone.mnasnet import MnasNet
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.resnet_v1b import ResNetV1b
from model.convert.counterparts import Found, by_rules
from model.convert.naming import Layers, Naming, named, of_family

__all__ = ['counterpart', 'names']

SOURCE = 'torchvision'

RESNET = Naming(
    {name: name for name in ('conv1', 'bn1', 'fc')},
    'layer{s:1}.{b}',
    {name: name for name in ('conv1', 'bn1', 'conv2', 'bn2', 'conv3', 'bn3', 'downsample')},
)


def _inverted(block: gluon.Block) -> Layers:
    first = 0 if block.expand is None else 1
    return {
        'expand': 'conv.0',
        'depthwise': f'conv.{first}',
        'project.0': f'conv.{first + 1}',
        'project.1': f'conv.{first + 2}',
    }


# Convolution, norm and activation, three times over.
_THREE = {
    f'{part}.{layer}': f'layers.{3 * index + layer}'
    for index, part in enumerate(('expand', 'depthwise', 'project'))
    for layer in (0, 1)
}

_FAMILIES = {
    ResNetV1b: RESNET,
    MobileNetV2: Naming(
        {'stem': 'features.0', 'last': 'features.18', 'fc': 'classifier.1'}, 'features.{n:1}', _inverted
    ),
    MnasNet: Naming(
        {
            **{f'stem.{part}.{layer}': f'layers.{3 * part + layer}' for part in (0, 1, 2) for layer in (0, 1)},
            'last.0': 'layers.14',
            'last.1': 'layers.15',
            'fc': 'classifier.1',
        },
        'layers.{s:8}.{b}',
        _THREE,
    ),
}


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}``. Raises ``ValueError`` if torchvision has no such network."""
    return named(net, of_family(net, _FAMILIES, SOURCE), SOURCE)


def _mnasnet(whole: str, decimals: str) -> Found:
    options: Dict[str, Any] = {} if (whole, decimals) == ('1', '0') else {'scaled_stem': True}
    return f'mnasnet{whole}_{decimals}', options


_RULES = {
    r'(?P<name>resnet(18|34|50|101|152))': lambda name: (f'{name}_v1b', {}),
    r'(?P<name>resnext\d+_\d+x\d+d|wide_resnet(50|101)_2|mobilenet_v2)': lambda name: (name, {}),
    r'mnasnet(?P<whole>0|1)_(?P<decimals>5|75|0|3)': _mnasnet,
}


def counterpart(name: str) -> Found:
    """Return our name and arguments for torchvision's ``name``.

    Raises ``ValueError`` with the reason if there is none.
    """
    return by_rules(SOURCE, name, _RULES, {r'.*_quantized.*|quantized.*': 'its weights are whole numbers'})
