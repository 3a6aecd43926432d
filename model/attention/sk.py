"""SK, selective kernels: two convolutions instead of one, weighted per channel."""

from __future__ import annotations

from typing import Any, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.attention.dca import VectorConnections
from model.attention.unit import AttentionUnit
from model.layers.broadcast import scale_channels
from model.layers.dense import dense, hidden_width, normed, vector_norm
from model.layers.factories import Convolution
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import with_mean
from model.layers.sample_variance import with_sample_variance

__all__ = ['BRANCHES', 'SK']

BRANCHES = ('dilated', 'grouped')
HANDED_ON = ('contexts', 'weights')


class SK(AttentionUnit):
    """``sum_i softmax_i(W2 relu(BN(W1 (mean(U_1) + mean(U_2))))) U_i`` in place of a 3x3 convolution.

    Li, Wang, Hu, Yang, "Selective Kernel Networks", arXiv 1903.06586, equations 1 to 6. ``U_1`` is the convolution that
    the unit stands for, with its norm and activation; ``U_2`` a second one: the same with twice the dilation
    (``branches='dilated'``, SK-ResNet-50 as published in DCANet), or the same in 32 groups (``'grouped'``). W1 maps C
    to ``C // reduction`` and W2 to two logits per channel, both without bias. ``(N, C_in, H, W) -> (N, C, H / stride, W
    / stride)``.

    timm rounds the width to multiples of ``divisor``, and in most of its networks each convolution sees half of the
    input's channels only, the first the first half (``split``).

    In a chain it passes on the two weighted means (``hand_on='contexts'``, DCANet's ResNets) or the weights
    (``'weights'``, its MobileNetV2): two arrays (N, C). W1's norm sees N values per channel: training needs batches of
    more than one. ``sample_variance``: its running variance divides by N - 1, as PyTorch's, in place of N.
    """

    def __init__(
        self,
        channels: int,
        convolution: Convolution,
        reduction: int = 16,
        branches: str = 'dilated',
        hand_on: str = 'contexts',
        sample_variance: bool = False,
        divisor: int = 1,
        split: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if branches not in BRANCHES:
            raise ValueError(f'sk_branches is {branches!r}: allowed are {", ".join(map(repr, BRANCHES))}')
        if hand_on not in HANDED_ON:
            raise ValueError(f'hand_on is {hand_on!r}: allowed are {", ".join(map(repr, HANDED_ON))}')
        if split and convolution.in_channels % 2:
            raise ValueError(f'sk_split is True, and {convolution.in_channels} channels cannot be halved')
        self.channels, self.hand_on, self.split = channels, hand_on, split
        if split:
            convolution = convolution._replace(in_channels=convolution.in_channels // 2)
        dilation, groups = convolution.dilation, convolution.groups
        second = (2 * dilation, groups) if branches == 'dilated' else (dilation, 32)
        self.branch1 = self._branch(channels, convolution, dilation, groups)
        self.branch2 = self._branch(channels, convolution, *second)
        self.pool = GlobalAvgPool()
        width = hidden_width(channels, reduction, divisor)
        norm, width = vector_norm(convolution.norm, width)
        if sample_variance and isinstance(norm, nn.BatchNorm):
            norm = with_sample_variance(norm)
        self.reduce = dense(channels, width, use_bias=False)
        self.norm = norm
        self.expand = dense(width, 2 * channels, use_bias=False)

    @staticmethod
    def _branch(channels: int, convolution: Convolution, dilation: int, groups: int) -> nn.HybridSequential:
        if channels % groups or convolution.in_channels % groups:
            raise ValueError(f'{channels} channels cannot be divided into {groups} groups')
        branch = nn.HybridSequential()
        branch.add(
            nn.Conv2D(
                channels,
                3,
                convolution.stride,
                dilation,
                dilation,
                groups,
                use_bias=False,
                in_channels=convolution.in_channels,
            ),
            convolution.norm(channels),
            convolution.activation(channels),
        )
        return branch

    def take_layers_of(self, other: SK) -> None:
        """Share with ``other`` the layers that compute the weights; the convolutions remain this unit's own."""
        self.reduce, self.norm, self.expand = other.reduce, other.norm, other.expand

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        inputs = F.split(x, num_outputs=2, axis=1) if self.split else (x, x)
        branches = (self.branch1(inputs[0]), self.branch2(inputs[1]))
        features, means = zip(*(with_mean(F, branch, self.pool) for branch in branches))
        return features, means

    def transform(self, F: Any, *contexts: Any) -> Tuple[Any, ...]:
        total = F.elemwise_add(*contexts)
        hidden = F.Activation(normed(F, self.norm, self.reduce(total)), act_type='relu')
        logits = F.reshape(self.expand(hidden), (0, 2, -1))
        return tuple(F.split(F.softmax(logits, axis=1), num_outputs=2, axis=1, squeeze_axis=True))

    def fuse(self, F: Any, features: Tuple[Any, ...], attention: Tuple[Any, ...]) -> Any:
        return F.elemwise_add(*(scale_channels(F, feature, weight) for feature, weight in zip(features, attention)))

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Tuple[Any, ...], out: Any) -> Tuple[Any, ...]:
        if self.hand_on == 'weights':
            return attention
        return tuple(F.elemwise_mul(context, weight) for context, weight in zip(contexts, attention))

    def connection_to(self, previous: int, **options: Any) -> gluon.HybridBlock:
        return VectorConnections(2, previous, self.channels, **options)
