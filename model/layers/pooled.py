"""The pools of attention units, each beside the map to go on with.

A unit that pools a map and multiplies it uses the map twice. Where operators are fused (`kernels.fusing`) the map is
taken from the pool: then a single gradient of its size comes back, to which the pool's is added in place.
"""

from __future__ import annotations

from typing import Any, Tuple

import kernels
from kernels import fused
from model.layers.broadcast import channel_max_and_mean, spatial_max
from model.layers.pool import GlobalAvgPool

__all__ = ['mean_and_max', 'with_channel_max_and_mean', 'with_mean', 'with_mean_and_max']


def with_mean(F: Any, x: Any, pool: GlobalAvgPool) -> Tuple[Any, Any]:
    """Return ``x`` (N, C, H, W), and its mean over space (N, C)."""
    return fused.pool_space(F, x) if kernels.fuses() else (x, F.Flatten(pool(x)))


def with_mean_and_max(F: Any, x: Any, pool: GlobalAvgPool) -> Tuple[Any, Any, Any]:
    """Return ``x`` (N, C, H, W), and its mean and maximum over space, (N, C) each."""
    return fused.pool_space_max(F, x) if kernels.fuses() else (x, F.Flatten(pool(x)), spatial_max(F, x))


def mean_and_max(F: Any, x: Any, pool: GlobalAvgPool) -> Tuple[Any, Any]:
    """Return the mean and maximum over space, (N, C) each, of a map (N, C, H, W) that nothing else uses."""
    if kernels.fuses():
        return fused.pool_space_max(F, x, alone=True)[1:]
    return F.Flatten(pool(x)), spatial_max(F, x)


def with_channel_max_and_mean(F: Any, x: Any, channels: int) -> Tuple[Any, Any]:
    """Return ``x`` (N, C, H, W), and its maximum and mean over its ``channels`` (N, 2, H, W)."""
    return fused.pool_channels(F, x) if kernels.fuses() else (x, channel_max_and_mean(F, x, channels))
