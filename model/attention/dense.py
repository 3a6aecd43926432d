"""The fully connected layer of attention units."""

from __future__ import annotations

from typing import Optional

from mxnet.gluon import nn

from model.initialization import FanInUniform

__all__ = ['dense']


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
