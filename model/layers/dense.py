"""The fully connected layers of attention units."""

from __future__ import annotations

from typing import Optional

from mxnet.gluon import nn

from model.layers.initialization import FanInUniform

__all__ = ['LEAST_NORMED', 'dense', 'hidden_width']

#: Channels of a hidden layer with a layer norm, which leaves nothing of one and hardly more than a sign of two.
LEAST_NORMED = 4


def hidden_width(channels: int, reduction: int) -> int:
    """Return ``channels // reduction``; ``ValueError`` when nothing is left."""
    if reduction < 1 or channels // reduction < 1:
        raise ValueError(f'reduction {reduction} leaves none of {channels} channels: allowed are 1 to {channels}')
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
