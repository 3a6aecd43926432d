"""ECA, efficient channel attention."""

from __future__ import annotations

import math
from typing import Any

from mxnet.gluon import nn

from model.attention.unit import ChannelUnit

__all__ = ['ECA', 'kernel_size']


def kernel_size(channels: int) -> int:
    """Return the odd number next to ``(log2(channels) + 1) / 2``, 3 to 7 for 16 to 2048 channels (equation 12)."""
    size = int(abs((math.log2(channels) + 1) / 2))
    return size if size % 2 else size + 1


class ECA(ChannelUnit):
    """``x * sigmoid(conv1d(mean(x)))``; input and output are ``(N, C, H, W)``.

    Wang, Wu, Zhu, Li, Zuo, Hu, "ECA-Net", arXiv 1910.03151, equations 7 and 12. The convolution runs along the
    channels, without bias, with a kernel of :func:`kernel_size`. Fewer than ten parameters.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        kernel = kernel_size(channels)
        self.conv = nn.Conv1D(1, kernel, padding=kernel // 2, use_bias=False, in_channels=1)

    def transform(self, F: Any, mean: Any) -> Any:
        return F.Activation(F.Flatten(self.conv(F.expand_dims(mean, axis=1))), act_type='sigmoid')
