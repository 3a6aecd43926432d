"""SGE, spatial group-wise enhance."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Tuple

from mxnet import gluon
from mxnet.gluon import nn

import kernels
from kernels import fused
from model.attention.dca import SpatialMapConnection, shrink
from model.attention.unit import AttentionUnit
from model.layers.broadcast import add_to_channels, sample_variance, scale_channels, scale_positions
from model.layers.factories import NormFactory, batch_norm
from model.layers.pool import GlobalAvgPool

__all__ = ['SGE']

EPSILON = 1e-5  # added to standard deviations


class MapAffine(gluon.HybridBlock):
    """``weight x / deviation + bias`` of maps (N, G, H, W) and deviations (N, G); one weight and bias per map."""

    def __init__(self, maps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = self.params.get('weight', shape=(1, maps, 1, 1), init='zeros')
        self.bias = self.params.get('bias', shape=(1, maps, 1, 1), init='ones')

    def hybrid_forward(self, F: Any, x: Any, deviation: Any, weight: Any, bias: Any) -> Any:
        scale = F.broadcast_div(F.reshape(weight, (1, -1)), deviation)
        shift = F.broadcast_like(F.reshape(bias, (1, -1)), deviation)
        return add_to_channels(F, scale_channels(F, x, scale), shift)


class SGE(AttentionUnit):
    """``x * sigmoid(w t + b)`` with one map t per group of channels; input and output are ``(N, C, H, W)``.

    Li, Hu, Yang, "Spatial Group-wise Enhance", arXiv 1905.09646, equations 1 to 5. t is the scalar product of each
    position with the mean of its group, normalised over space to mean 0 and standard deviation 1 (with n - 1 and an
    epsilon of 1e-5, as in the repository 13952522076/DCANet); w starts at 0 and b at 1. If C is not a multiple of
    ``groups``, the largest number of groups that divides both is used. A map with a single position, which has no
    deviation (and gives NaN in the original), is normalised to 0.

    No chain of SGE units has been published. Ours passes on the importance maps times their gates (N, G, H, W), just as
    SE passes on its means times their gates, and merges them like CBAM's spatial attention, see
    :class:`model.attention.dca.SpatialMapConnection`.
    """

    def __init__(self, channels: int, groups: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most_groups = groups
        self.groups = math.gcd(groups, channels)
        self.channels = channels
        self.pool = GlobalAvgPool()
        self.affine = MapAffine(self.groups)

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        if kernels.fuses() and not self.chained:
            affine = fused.values_of(F, x, self.affine.weight, self.affine.bias)
            return fused.sge(F, x, *affine, groups=self.groups, epsilon=EPSILON)
        return super().hybrid_forward(F, x, *carry)

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        size = self.channels // self.groups
        mean = F.reshape(F.reshape(self.pool(x), (0, 0, -1)), (-1, size, 0))
        grouped = F.reshape(F.reshape(x, (0, 0, -1)), (-1, size, 0))
        importance = F.reshape(F.batch_dot(mean, grouped, transpose_a=True), (-1, self.groups, 0))
        return x, (F.reshape_like(importance, x, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4),)

    def transform(self, F: Any, importance: Any) -> Any:
        centred = add_to_channels(F, importance, -F.Flatten(self.pool(importance)))
        variance = sample_variance(F, importance, F.Flatten(self.pool(F.square(centred))))
        # The floor keeps the root's gradient finite if a map is constant.
        deviation = F.sqrt(F.maximum(variance, 1e-12)) + EPSILON
        return F.Activation(self.affine(centred, deviation), act_type='sigmoid')

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return scale_positions(F, features, attention, self.channels, self.groups)

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Any, out: Any) -> Tuple[Any, ...]:
        return (F.elemwise_mul(contexts[0], attention),)

    def connection_to(
        self, previous: int, stride: int = 1, norm: NormFactory = batch_norm, **options: Any
    ) -> gluon.HybridBlock:
        groups = math.gcd(self.most_groups, previous)
        adapter = None
        if groups != self.groups:
            adapter = nn.HybridSequential()
            adapter.add(nn.Conv2D(self.groups, 1, in_channels=groups), norm(self.groups), nn.Activation('relu'))
        return SpatialMapConnection(self.groups, partial(shrink, stride=stride), adapter, norm)
