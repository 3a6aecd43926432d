"""GC, the global context block."""

from __future__ import annotations

from typing import Any, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

import kernels
from kernels import fused
from model.attention.dca import TermConnection
from model.attention.unit import AttentionUnit
from model.layers.broadcast import add_to_channels
from model.layers.dense import LEAST_NORMED, dense, hidden_width
from model.layers.initialization import HeFanOut

__all__ = ['GC']


class GC(AttentionUnit):
    """``x + W2 relu(layer_norm(W1 context))``; input and output are ``(N, C, H, W)``.

    Cao, Xu, Lin, Wei, Hu, "GCNet", arXiv 1904.11492, figure 4d. The context (N, C) is the mean of x over space with the
    weights ``softmax(m x)``, where m is a 1x1 convolution to one channel; W1 maps C to ``C // reduction`` channels, at
    least 4, and W2 maps back, all with biases. timm rounds this width to multiples of 8 (``divisor``), and its layer
    norm has an epsilon of 1e-6 (``norm_epsilon``).

    As in the paper the unit starts as the identity (W2 at zero), and m with the standard deviation ``sqrt(2 / C)``. In
    DCANet the network's own initialisation then overwrites both, which makes the first softmaxes nearly one-hot;
    ``original_init`` reproduces this. In a chain the unit passes on the term that it adds (N, C).
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        original_init: bool = False,
        divisor: int = 1,
        norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.width = width = max(LEAST_NORMED, hidden_width(channels, reduction, divisor))
        he = HeFanOut()
        mask = he if original_init else mx.init.Normal((2 / channels) ** 0.5)
        self.mask = nn.Conv2D(1, 1, in_channels=channels, weight_initializer=mask)
        self.reduce = dense(channels, width)
        self.norm = nn.LayerNorm(epsilon=norm_epsilon, in_channels=width)
        self.expand = dense(width, channels, zero_bias=True)
        self.expand.weight.init = mx.init.Zero()
        if original_init:
            self.reduce.weight.init = self.expand.weight.init = he

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        if kernels.fuses():
            x, context = fused.attend(F, x, *fused.values_of(F, x, self.mask.weight, self.mask.bias))
            return x, (context,)
        weights = F.softmax(F.reshape(self.mask(x), (0, 1, -1)), axis=-1)
        context = F.batch_dot(F.reshape(x, (0, 0, -1)), weights, transpose_b=True)
        return x, (F.Flatten(context),)

    def transform(self, F: Any, context: Any) -> Any:
        return self.expand(F.Activation(self.norm(self.reduce(context)), act_type='relu'))

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return add_to_channels(F, features, attention)

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Any, out: Any) -> Tuple[Any, ...]:
        return (attention,)

    def connection_to(self, previous: int, **options: Any) -> gluon.HybridBlock:
        return TermConnection(previous, self.channels, self.width)
