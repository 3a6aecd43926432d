"""SimAM, attention from an energy function, without parameters."""

from __future__ import annotations

from typing import Any, Tuple

from model.attention.unit import AttentionUnit
from model.layers.broadcast import add_to_channels, sample_variance, scale_channels
from model.layers.pool import GlobalAvgPool

__all__ = ['SimAM']


class SimAM(AttentionUnit):
    """``x * sigmoid((x - mean)^2 / (4 (variance + e_lambda)) + 1/2)``, ``(N, C, H, W)`` in and out, no parameters.

    Yang, Zhang, Li, Xie, "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML
    2021, PMLR 139, equations 5 and 6: the gate is the sigmoid of ``1 / e``, e the least energy of a linear separation
    of one position from the others of its channel. Mean and variance are each channel's over space. The variance
    divides by ``H W - 1``, as the paper's listing does and its text, with ``H W``, does not; a map of one position has
    the variance 0. ``e_lambda`` is the paper's lambda: 1e-4 on CIFAR, 0.1 on ImageNet (appendix, and ZjjConan/SimAM).
    """

    before_norm = True

    def __init__(self, channels: int, e_lambda: float = 1e-4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.e_lambda = channels, e_lambda
        self.pool = GlobalAvgPool()

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        return x, (x,)

    def transform(self, F: Any, x: Any) -> Any:
        squares = F.square(add_to_channels(F, x, -F.Flatten(self.pool(x))))
        variance = sample_variance(F, squares, F.Flatten(self.pool(squares)))
        scaled = scale_channels(F, squares, 0.25 / (variance + self.e_lambda))
        return F.Activation(scaled + 0.5, act_type='sigmoid')

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return F.elemwise_mul(features, attention)
