"""Triplet attention: a gate for each pair of the axes channel, height and width."""

from __future__ import annotations

from typing import Any, Tuple

from mxnet import gluon

from model.attention.unit import AttentionUnit
from model.layers.broadcast import add_to_positions, max_and_mean, rows_plus_columns
from model.layers.factories import NormFactory, batch_norm
from model.layers.pooled import with_channel_max_and_mean
from model.layers.single_map import SingleMapConv

__all__ = ['TripletAttention']

KERNEL = 7
MOMENTUM = 0.99  # of the norms' running statistics: 0.01 in PyTorch's terms


class PairGate(gluon.HybridBlock):
    """``sigmoid(norm(conv(pooled)))``, (N, 2, A, B) to (N, 1, A, B); the convolution is 7x7, without bias."""

    def __init__(self, norm: NormFactory, norm_momentum: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = SingleMapConv(KERNEL, padding=KERNEL // 2, in_channels=2)
        self.norm = norm(1, momentum=norm_momentum)

    def hybrid_forward(self, F: Any, pooled: Any) -> Any:
        return F.Activation(self.norm(self.conv(pooled)), act_type='sigmoid')


class TripletAttention(AttentionUnit):
    """``x * (g_cw + g_hc + g_hw) / 3``; input and output are ``(N, C, H, W)``; 300 parameters for any C.

    Misra, Nalamada, Arasanipalai, Hou, "Rotate to Attend: Convolutional Triplet Attention Module", arXiv 2010.03045,
    equations 1 to 4. Each gate sees the maximum and the mean of x over the axis that it does not depend on (Z-pool),
    and applies a 7x7 convolution to the two, a norm and a sigmoid. The paper rotates x so that this axis comes second;
    here the small pooled maps are transposed instead. Names and momentum are those of landskape-ai/triplet-attention.
    """

    def __init__(
        self, channels: int, norm: NormFactory = batch_norm, norm_momentum: float = MOMENTUM, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.cw = PairGate(norm, norm_momentum)
        self.hc = PairGate(norm, norm_momentum)
        self.hw = PairGate(norm, norm_momentum)

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        by_width = max_and_mean(F, x, axis=2)  # (N, 2, C, W)
        by_height = F.transpose(max_and_mean(F, x, axis=3), axes=(0, 1, 3, 2))  # (N, 2, H, C)
        x, by_position = with_channel_max_and_mean(F, x, self.channels)
        return x, (by_width, by_height, by_position)

    def transform(self, F: Any, by_width: Any, by_height: Any, by_position: Any) -> Any:
        columns = F.transpose(self.cw(by_width), axes=(0, 2, 1, 3))  # (N, C, 1, W)
        rows = F.transpose(self.hc(by_height), axes=(0, 3, 2, 1))  # (N, C, H, 1)
        gates = rows_plus_columns(F, rows, columns)
        return add_to_positions(F, gates, self.hw(by_position)) / 3

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return F.elemwise_mul(features, attention)
