"""SE, squeeze and excitation."""

from __future__ import annotations

from typing import Any

from model.attention.unit import ChannelUnit
from model.layers.dense import dense, hidden_width

__all__ = ['SE']


class SE(ChannelUnit):
    """``x * sigmoid(W2 relu(W1 mean(x)))``, ``(N, C, H, W)`` in and out.

    Hu, Shen, Sun, "Squeeze-and-Excitation Networks", arXiv 1709.01507, equations 2 to 4. W1 maps C to ``C //
    reduction`` and W2 back, both with biases: ``2 C (C // r)`` multiply-adds per sample.
    """

    def __init__(self, channels: int, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        width = hidden_width(channels, reduction)
        self.reduce = dense(channels, width, 'relu')
        self.expand = dense(width, channels)

    def transform(self, F: Any, mean: Any) -> Any:
        return F.Activation(self.expand(self.reduce(mean)), act_type='sigmoid')
