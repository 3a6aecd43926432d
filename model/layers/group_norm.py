"""Group normalisation (Wu and He, arXiv 1803.08494) with a scale and a shift for every channel, as in the paper.

Gluon's own layer has one of each for every group only.
"""

from __future__ import annotations

import math
from typing import Any

from mxnet import gluon

from model.layers.broadcast import affine

__all__ = ['GroupNorm', 'group_norm']

GROUPS = 32  # the paper's


class GroupNorm(gluon.HybridBlock):
    """``(N, C, H, W) -> (N, C, H, W)``: each image's groups of channels get mean 0 and variance 1, then the affine map.

    ``groups`` divides ``channels``; ``gamma_initializer`` as for Gluon's norms.
    """

    def __init__(
        self, channels: int, groups: int, epsilon: float = 1e-5, gamma_initializer: str = 'ones', **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if channels % groups:
            raise ValueError(f'{groups} groups do not divide {channels} channels')
        self._groups, self._epsilon = groups, epsilon
        with self.name_scope():
            self.gamma = self.params.get('gamma', shape=(channels,), init=gamma_initializer)
            self.beta = self.params.get('beta', shape=(channels,), init='zeros')

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        each = F.slice_axis(gamma, axis=0, begin=0, end=self._groups)
        # The operator wants an affine map of its own.
        x = F.GroupNorm(x, F.ones_like(each), F.zeros_like(each), num_groups=self._groups, eps=self._epsilon)
        return affine(F, x, gamma, beta)


def group_norm(channels: int, **kwargs: Any) -> GroupNorm:
    """Return a factory of norms for ``get_model``: 32 groups, or fewer where they would not divide the channels."""
    for statistic in ('use_global_stats', 'momentum'):  # it has none
        kwargs.pop(statistic, None)
    return GroupNorm(channels, math.gcd(channels, GROUPS), **kwargs)
