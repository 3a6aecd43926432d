"""Coordinate attention: gates along the height and along the width."""

from __future__ import annotations

from typing import Any, Tuple

from mxnet.gluon import nn

from model.attention.unit import AttentionUnit
from model.layers.broadcast import row_and_column_means, rows_times_columns
from model.layers.factories import NormFactory, batch_norm

__all__ = ['CoordinateAttention']

LEAST_WIDTH = 8


class CoordinateAttention(AttentionUnit):
    """``x * g_h * g_w`` with gates (N, C, H, 1) and (N, C, 1, W): ``(N, C, H, W)`` in and out.

    Hou, Zhou, Feng, "Coordinate Attention for Efficient Mobile Network Design", arXiv 2103.02907, equations 4 to 9: the
    means over the width and those over the height, one after the other along one axis, go through a 1x1 convolution to
    ``max(8, C // reduction)`` channels, a norm and h-swish; then each part through a 1x1 convolution back to C channels
    and a sigmoid. All convolutions have biases, as in houqb/CoordAttention.
    """

    before_norm = False

    def __init__(self, channels: int, reduction: int = 32, norm: NormFactory = batch_norm, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        width = max(LEAST_WIDTH, channels // reduction)
        self.squeeze = nn.Conv2D(width, 1, in_channels=channels)
        self.norm = norm(width)
        self.rows = nn.Conv2D(channels, 1, in_channels=width)
        self.columns = nn.Conv2D(channels, 1, in_channels=width)

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        return x, row_and_column_means(F, x)

    def transform(self, F: Any, rows: Any, columns: Any) -> Any:
        hidden = self.norm(self.squeeze(F.concat(rows, columns, dim=2)))
        hidden = F.elemwise_mul(hidden, F.clip(hidden + 3, 0, 6) / 6)
        # The graph does not know the length, so that what follows it is sliced from the other end.
        last = F.reverse(F.slice_like(F.reverse(hidden, axis=2), columns, axes=(2,)), axis=2)
        rows = F.Activation(self.rows(F.slice_like(hidden, rows, axes=(2,))), act_type='sigmoid')
        columns = F.Activation(self.columns(last), act_type='sigmoid')
        return rows_times_columns(F, rows, F.reshape(columns, (0, 0, 1, -1)))

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return F.elemwise_mul(features, attention)
