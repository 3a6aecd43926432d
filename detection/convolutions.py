"""The convolutions of detectors' heads."""

from __future__ import annotations

import mxnet as mx
from mxnet.gluon import nn

__all__ = ['head_convolution']


def head_convolution(channels: int, outputs: int, kernel: int = 3, bias: float = 0.0) -> nn.Conv2D:
    """Return a convolution (N, channels, H, W) -> (N, outputs, H, W), whose weights start at N(0, 0.01)."""
    return nn.Conv2D(
        outputs,
        kernel,
        padding=kernel // 2,
        in_channels=channels,
        weight_initializer=mx.init.Normal(0.01),
        bias_initializer=mx.init.Constant(bias),
    )
