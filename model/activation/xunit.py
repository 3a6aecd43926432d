"""xUnit, a learned spatial activation.

Kligvasser, Shaham, Michaeli, "xUnit: Learning a Spatial Activation Function for Efficient Image Restoration", arXiv
1711.06445; the slim form of the repository kligvasser/xUnit, which is the one that the ATAC paper compares with (its
plotted parameter counts are 12 C per activation).
"""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn

from model.activation.gate import Gate

__all__ = ['XUnit']


class XUnit(Gate):
    """``y = x * sigmoid(BN(D x))`` with D a depth-wise k x k convolution with bias; ``(N, C, H, W)`` in and out.

    ``(k^2 + 3) C`` parameters, ``k^2 C`` multiply-adds per position. ``kernel`` is odd (else ``ValueError``).
    """

    def __init__(self, channels: int, kernel: int = 3, use_global_stats: bool = False, **kwargs: Any) -> None:
        if kernel % 2 == 0:
            raise ValueError(f'kernel {kernel} is even: only odd kernels keep the shape')
        super().__init__(
            nn.Conv2D(channels, kernel, 1, kernel // 2, groups=channels, in_channels=channels),
            nn.BatchNorm(in_channels=channels, use_global_stats=use_global_stats),
            **kwargs,
        )
