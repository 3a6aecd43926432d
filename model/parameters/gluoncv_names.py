"""Recognise networks of GluonCV's zoo that differ from ours of the same name, or whose parameters have other names."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional

import numpy as np

__all__ = ['NETWORKS', 'gluoncv_network']


class Network(NamedTuple):
    """A network of GluonCV: its number of arrays, of numbers outside its classifier, and what it is."""

    arrays: int
    numbers: int
    differs: str = ''


_WIDE = 'its stages have 256, 512 and 1024 channels, where ours, as in DIANet, have half of that'
_NORMED = "it begins with a norm of the images, which our wide ResNets, as DIANet's, do not"

NETWORKS: Dict[str, Network] = {
    'cifar_resnet20_v1': Network(107, 273392),
    'cifar_resnet56_v1': Network(287, 859376),
    'cifar_resnet110_v1': Network(557, 1738352),
    'cifar_resnext29_32x4d': Network(157, 4790720, _WIDE),
    'cifar_resnext29_16x64d': Network(157, 68245440, _WIDE),
    'cifar_wideresnet16_10': Network(78, 17119292, _NORMED),
    'cifar_wideresnet28_10': Network(138, 36490812, _NORMED),
    'cifar_wideresnet40_8': Network(198, 35764796, _NORMED),
}


def gluoncv_network(arrays: Mapping[str, np.ndarray]) -> Optional[str]:
    """Return a clause that says which network of :data:`NETWORKS` has as many arrays and numbers, or None."""
    if any(name.startswith('layer') for name in arrays):  # ours
        return None
    dense = [array for array in arrays.values() if array.ndim == 2]
    if len(dense) != 1:
        return None
    numbers = sum(array.size for array in arrays.values()) - dense[0].size - dense[0].shape[0]
    for name, network in NETWORKS.items():
        if (network.arrays, network.numbers) == (len(arrays), numbers):
            other = network.differs and f', another network: {network.differs}'
            return (
                f"by number and size these are the arrays of GluonCV's {name}{other}; "
                f'scripts/convert_params.py --source gluoncv --model {name} makes ours of them'
            )
    return None
