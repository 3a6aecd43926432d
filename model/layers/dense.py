"""The fully connected layers of attention units."""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.layers.group_norm import GroupNorm
from model.layers.initialization import FanInUniform
from model.layers.widths import divisible

__all__ = ['LEAST_NORMED', 'dense', 'hidden_width', 'normed', 'vector_norm']

#: Channels of a hidden layer with a layer norm, which leaves nothing of one and hardly more than a sign of two.
LEAST_NORMED = 4


def hidden_width(channels: int, reduction: int, divisor: int = 1) -> int:
    """Return ``channels // reduction``, or the multiple of ``divisor`` next to it, one at least.

    Raises ``ValueError`` if nothing is left.
    """
    if divisor > 1:
        return divisible(channels / reduction, divisor)
    if reduction < 1 or channels // reduction < 1:
        raise ValueError(f'reduction {reduction} leaves none of the {channels} channels: allowed are 1 to {channels}')
    return channels // reduction


def dense(
    in_units: int, units: int, activation: Optional[str] = None, use_bias: bool = True, zero_bias: bool = False
) -> nn.Dense:
    """Return a layer ``(N, in_units) -> (N, units)`` that starts as PyTorch's do, on which the units were published.

    ``zero_bias`` starts the bias at zero.
    """
    return nn.Dense(
        units,
        activation=activation,
        use_bias=use_bias,
        in_units=in_units,
        weight_initializer=FanInUniform(),
        bias_initializer='zeros' if zero_bias else FanInUniform(in_units),
    )


def vector_norm(make: Callable[[int], gluon.HybridBlock], width: int) -> Tuple[gluon.HybridBlock, int]:
    """Return a norm for vectors of ``width`` numbers, and that width, which a layer norm may need a greater one of."""
    norm = make(width)
    if not isinstance(norm, GroupNorm):
        return norm, width
    # A vector is one group, as groups of one value would all be zero.
    width = max(width, LEAST_NORMED)
    return nn.LayerNorm(in_channels=width), width


def normed(F: Any, norm: gluon.HybridBlock, x: Any) -> Any:
    """Return vectors (N, C) under a norm of :func:`vector_norm`."""
    if isinstance(norm, nn.LayerNorm):
        return norm(x)
    # MXNet takes the batch norm of a vector (N, C) for one of a map (N, C, 1, 1) that it has met before, and dies.
    return F.Flatten(norm(F.reshape(x, (0, 0, 1, 1))))
