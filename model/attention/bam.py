"""BAM, the bottleneck attention module, which is placed between the stages of a network."""

from __future__ import annotations

from typing import Any, Tuple

from mxnet.gluon import nn

from model.attention.unit import AttentionUnit
from model.layers.broadcast import channels_times_positions
from model.layers.dense import dense, hidden_width, normed, vector_norm
from model.layers.factories import NormFactory, batch_norm
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import with_mean

__all__ = ['BAM']

DILATION = 4


class BAM(AttentionUnit):
    """``x * (1 + sigmoid(M_c(x) * M_s(x)))``, ``(N, C, H, W)`` in and out.

    Park, Woo, Lee, Kweon, "BAM: Bottleneck Attention Module", arXiv 1807.06514, equations 1 to 5, with the product of
    the authors' code where the paper adds. ``M_c`` (N, C, 1, 1) is ``W2 relu(BN(W1 mean(x)))`` with ``C // reduction``
    channels between; ``M_s`` (N, 1, H, W) a 1x1 convolution to as many, two 3x3 ones of dilation 4, each with a norm
    and a ReLU, and a 1x1 one to a single channel; all with biases. It stands in front of the stages but the first.
    """

    def __init__(self, channels: int, reduction: int = 16, norm: NormFactory = batch_norm, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        width = hidden_width(channels, reduction)
        self.pool = GlobalAvgPool()
        self.norm, hidden = vector_norm(norm, width)
        self.reduce = dense(channels, hidden)
        self.expand = dense(hidden, channels)
        self.spatial = nn.HybridSequential()
        self.spatial.add(nn.Conv2D(width, 1, in_channels=channels), norm(width), nn.Activation('relu'))
        for _ in range(2):
            conv = nn.Conv2D(width, 3, padding=DILATION, dilation=DILATION, in_channels=width)
            self.spatial.add(conv, norm(width), nn.Activation('relu'))
        self.spatial.add(nn.Conv2D(1, 1, in_channels=width))

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        x, mean = with_mean(F, x, self.pool)
        return x, (mean, self.spatial(x))

    def transform(self, F: Any, mean: Any, positions: Any) -> Any:
        channel = self.expand(F.Activation(normed(F, self.norm, self.reduce(mean)), act_type='relu'))
        return F.Activation(channels_times_positions(F, channel, positions), act_type='sigmoid')

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return F.elemwise_mul(features, 1 + attention)
