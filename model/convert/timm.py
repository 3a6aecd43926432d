"""Names of timm's networks (``timm.create_model``): ResNets with their attention units, MobileNetV2 and MnasNet."""

from __future__ import annotations

from typing import Any, Dict, Optional

from mxnet import gluon

from model.backbone.resnet_v1b import ResNetV1b
from model.convert.counterparts import Found, by_rules
from model.convert.naming import named, of_family
from model.convert.torchvision import RESNET

__all__ = ['counterpart', 'names']

SOURCE = 'timm'

_FAMILIES = {ResNetV1b: RESNET}


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}``; ``ValueError`` where timm has no such network."""
    return named(net, of_family(net, _FAMILIES, SOURCE), SOURCE)


# The letter at the end of a ResNet's name: its stem and shortcuts.
_LETTERS: Dict[Optional[str], Dict[str, Any]] = {
    None: {},
    'c': {'deep_stem': True},
    'd': {'deep_stem': True, 'avg_down': True},
    's': {'deep_stem': True, 'stem_width': 64},
    't': {'tiered_stem': True, 'avg_down': True},
}


def _resnet(depth: str, letter: Optional[str]) -> Found:
    return f'resnet{depth}_v1b', dict(_LETTERS[letter])


_RULES = {
    r'resnet(?P<depth>18|26|34|50|101|152)(?P<letter>[cdst])?': _resnet,
    r'(?P<name>resnext\d+_\d+x\d+d|wide_resnet(50|101)_2)': lambda name: (name, {}),
}


def counterpart(name: str) -> Found:
    """Return our name and arguments for timm's ``name``; ``ValueError`` with the reason where there are none."""
    return by_rules(SOURCE, name.partition('.')[0], _RULES, {})
