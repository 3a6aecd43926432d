"""SE, squeeze and excitation."""

from __future__ import annotations

from typing import Any

from model.attention.dense import dense
from model.attention.unit import ChannelUnit

__all__ = ['SE', 'hidden_width']


def hidden_width(channels: int, reduction: int) -> int:
    """Return ``channels // reduction``; ``ValueError`` when nothing is left."""
    if reduction < 1 or channels // reduction < 1:
        raise ValueError(f'reduction {reduction} leaves none of {channels} channels: allowed are 1 to {channels}')
    return channels // reduction


class SE(ChannelUnit):
    """``x * sigmoid(W2 relu(W1 mean(x)))``, ``(N, C, H, W)`` in and out.

    Hu, Shen, Sun, "Squeeze-and-Excitation Networks", arXiv 1709.01507, equations 2 to 4. W1 maps C to ``C //
    reduction`` and W2 back, both with biases: ``2 C (C // r)`` multiply-adds per sample.
    """

    def __init__(self, channels: int, reduction: int = 16, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        width = hidden_width(channels, reduction)
        self.reduce = dense(channels, width, 'relu')
        self.expand = dense(width, channels)

    def transform(self, F, mean):
        return F.Activation(self.expand(self.reduce(mean)), act_type='sigmoid')
