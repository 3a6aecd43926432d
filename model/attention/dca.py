"""DCA: attention units connected to the units before them.

Ma, Guo, Tang, Zhang, "DCANet: Learning Connected Attentions for Convolutional Neural Networks", arXiv 2007.05099; the
forms of merging and adapting are those of the repository 13952522076/DCANet.

A connection is a block ``(*contexts, *carry) -> contexts``. It brings what the unit before passed on to this unit's
width (an adapter, where widths differ) and resolution, and merges it into the contexts. Contexts are vectors for SE, GE
and SK, a term of the sum for GC, whole maps for CBAM.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

from mxnet import gluon
from mxnet.gluon import nn

import kernels
from kernels import fused
from model.layers.broadcast import scale_map
from model.layers.dense import dense
from model.layers.factories import NormFactory, batch_norm
from model.layers.initialization import HeFanOut
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import mean_and_max

__all__ = [
    'ADAPTERS',
    'MERGES',
    'ChannelMapConnection',
    'Merge',
    'ScaledMerge',
    'SpatialMapConnection',
    'TermConnection',
    'VectorConnection',
    'VectorConnections',
    'adapter',
    'merge_of',
    'shrink',
]

ADAPTERS = ('linear', 'bottleneck')
#: How two vectors become one: ``'learned'`` by :class:`Merge`, the others by :class:`ScaledMerge`.
MERGES = ('learned', 'sum', 'weighted', 'softmax')


def adapter(previous: int, channels: int, kind: str = 'linear', reduction: int = 16) -> Optional[nn.HybridSequential]:
    """Return the block ``(N, previous) -> (N, channels)`` between units of different width.

    None if the width is the same.

    ``'linear'``: dense, layer norm, ReLU (the form in DCANet's ResNets). ``'bottleneck'``: the same with ``channels //
    reduction`` units between, each dense layer followed by a layer norm and a ReLU (the form in its MnasNets, which
    also gives the published parameter counts of DCA-SE- and DCA-GE-ResNet-50).
    """
    if kind not in ADAPTERS:
        raise ValueError(f'adapter is {kind!r}: allowed are {", ".join(map(repr, ADAPTERS))}')
    if previous == channels:
        return None
    widths = [previous, channels] if kind == 'linear' else [previous, max(1, channels // reduction), channels]
    layers = nn.HybridSequential()
    for in_units, units in zip(widths, widths[1:]):
        layers.add(dense(in_units, units), nn.LayerNorm(in_channels=units), nn.Activation('relu'))
    return layers


def shrink(F: Any, x: Any, stride: int) -> Any:
    """Return ``x`` averaged over windows of ``stride``, to the size that a strided convolution gives: ceil(H / stride).

    If the size is not a multiple of the stride, the windows at the border are smaller; the original refuses such sizes.
    """
    if stride == 1:
        return x
    window = (stride, stride)
    return F.Pooling(
        x, kernel=window, stride=window, pool_type='avg', pooling_convention='full', count_include_pad=False
    )


class Merge(gluon.HybridBlock):
    """``relu(layer_norm(a current + b previous + c))`` of two vectors (N, C), with learned scalars a, b, c.

    The two are stacked as channels and go through a 1x1 convolution. The layer norm removes any constant, so ``c`` has
    no gradient; it exists because the original's files contain it. This is the form in the repository.
    """

    def __init__(self, channels: int, bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = nn.Conv2D(1, 1, in_channels=2, use_bias=bias, weight_initializer=HeFanOut())
        self.norm = nn.LayerNorm(in_channels=channels)

    def hybrid_forward(self, F: Any, current: Any, previous: Any) -> Any:
        if kernels.fuses():
            learned = [
                one for one in (self.conv.weight, self.conv.bias, self.norm.gamma, self.norm.beta) if one is not None
            ]
            values = fused.values_of(F, current, *learned)
            return fused.merge_vectors(F, current, previous, *values, epsilon=self.norm._epsilon)
        pair = F.expand_dims(F.stack(current, previous, axis=1), axis=2)
        return F.Activation(self.norm(F.Flatten(self.conv(pair))), act_type='relu')


class ScaledMerge(gluon.HybridBlock):
    """Merge two vectors (N, C) with learned scalars a and b and no further layer.

    These are our reading of the direct and the weighted connection that section 3.2 of the paper describes; no code of
    them was published.

    ``'sum'`` is the direct connection: ``u + v`` with ``u = a current`` and ``v = b previous``. ``'weighted'``
    weights each by its share: ``(u u + v v) / (u + v)``, or 0 if the sum is 0; it grows without bound where the two
    nearly cancel. ``'softmax'`` does not: ``p u + (1 - p) v`` with ``p = sigmoid(u - v)``, the softmax of the two. a
    starts at 1 and b at 0, like the corresponding scalars in the repository.
    """

    def __init__(self, form: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.form = form
        self.p1 = self.params.get('p1', shape=(1,), init='ones')
        self.p2 = self.params.get('p2', shape=(1,), init='zeros')

    def hybrid_forward(self, F: Any, current: Any, previous: Any, p1: Any, p2: Any) -> Any:
        u = F.broadcast_mul(current, F.reshape(p1, (1, 1)))
        v = F.broadcast_mul(previous, F.reshape(p2, (1, 1)))
        if self.form == 'sum':
            return F.elemwise_add(u, v)
        if self.form == 'softmax':
            share = F.Activation(F.elemwise_sub(u, v), act_type='sigmoid')
            return F.elemwise_add(v, F.elemwise_mul(share, F.elemwise_sub(u, v)))
        total = F.elemwise_add(u, v)
        squares = F.elemwise_add(F.elemwise_mul(u, u), F.elemwise_mul(v, v))
        # Multiply by total / (total^2 + epsilon) instead of 1 / total, which is undefined for zeros, as of a
        # dead map.
        return F.elemwise_div(F.elemwise_mul(squares, total), F.elemwise_mul(total, total) + 1e-12)


def merge_of(form: str, channels: int, bias: bool = True) -> gluon.HybridBlock:
    """Return the block ``(current, previous) -> context`` of vectors (N, channels) for one of :data:`MERGES`."""
    if form not in MERGES:
        raise ValueError(f'merge is {form!r}: allowed are {", ".join(map(repr, MERGES))}')
    return Merge(channels, bias) if form == 'learned' else ScaledMerge(form)


class VectorConnection(gluon.HybridBlock):
    """Merges a vector from the previous unit, (N, previous), into a context (N, channels): SE, GE and the like."""

    def __init__(
        self,
        previous: int,
        channels: int,
        adapter_kind: str = 'linear',
        reduction: int = 16,
        merge_bias: bool = True,
        merge: str = 'learned',
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.adapter = adapter(previous, channels, adapter_kind, reduction)
        self.merge = merge_of(merge, channels, merge_bias)

    def hybrid_forward(self, F: Any, current: Any, previous: Any) -> Any:
        return self.merge(current, previous if self.adapter is None else self.adapter(previous))


class VectorConnections(gluon.HybridBlock):
    """One :class:`VectorConnection` for each of ``count`` contexts: the branches of SK."""

    def __init__(self, count: int, previous: int, channels: int, **options: Any) -> None:
        super().__init__()
        self.branches = nn.HybridSequential()
        self.branches.add(*(VectorConnection(previous, channels, **options) for _ in range(count)))

    def hybrid_forward(self, F: Any, *vectors: Any) -> Tuple[Any, ...]:
        count = len(self.branches)
        return tuple(branch(vectors[i], vectors[count + i]) for i, branch in enumerate(self.branches))


class TermConnection(gluon.HybridBlock):
    """``context + beta adapted(term)`` with a learned scalar beta that starts at 0: GC.

    The adapter is a bottleneck of ``width`` channels without a norm at its end, because it represents what GC adds to a
    map.
    """

    def __init__(self, previous: int, channels: int, width: int, **kwargs: Any) -> None:
        super().__init__()
        self.adapter = None
        if previous != channels:
            self.adapter = nn.HybridSequential()
            self.adapter.add(
                dense(previous, width),
                nn.LayerNorm(in_channels=width),
                nn.Activation('relu'),
                dense(width, channels),
            )
        self.beta = self.params.get('beta', shape=(1,), init='zeros')

    def hybrid_forward(self, F: Any, context: Any, term: Any, beta: Any) -> Any:
        term = term if self.adapter is None else self.adapter(term)
        return F.elemwise_add(context, F.broadcast_mul(term, F.reshape(beta, (1, 1))))


class ChannelMapConnection(gluon.HybridBlock):
    """Merges the mean and the maximum of the previous map, (N, previous, H', W'), into two contexts (N, channels).

    This is CBAM's channel attention. The adapter is a 1x1 convolution on the whole map, and one merge serves the mean
    and the maximum. Both are passed on together with the map, so that pooling is only repeated behind an adapter.
    """

    def __init__(
        self,
        previous: int,
        channels: int,
        norm: NormFactory = batch_norm,
        merge_bias: bool = False,
        adapter_bias: bool = True,
        merge: str = 'learned',
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.adapter = None
        if previous != channels:
            self.adapter = nn.HybridSequential()
            self.adapter.add(
                nn.Conv2D(channels, 1, in_channels=previous, use_bias=adapter_bias),
                norm(channels),
                nn.Activation('relu'),
            )
        self.mean = GlobalAvgPool()
        self.merge = merge_of(merge, channels, merge_bias)

    def hybrid_forward(
        self, F: Any, mean: Any, maximum: Any, previous: Any, previous_mean: Any, previous_maximum: Any
    ) -> Tuple[Any, Any]:
        if self.adapter is not None:
            previous = self.adapter(previous)
            previous_mean, previous_maximum = mean_and_max(F, previous, self.mean)
        return self.merge(mean, previous_mean), self.merge(maximum, previous_maximum)


class SpatialMapConnection(gluon.HybridBlock):
    """``relu(norm(p1 current + p2 previous))`` on maps (N, M, H, W): spatial attention of CBAM (M = 2) and of SGE.

    p1 and p2 are learned scalars that start at 1 and 0. ``read`` ``(F, *carry) -> maps`` takes the previous maps from
    the carry, at this unit's resolution; ``adapter`` brings them to M if their number differs. The norm's scale starts
    at 1. In DCANet's ResNets it starts at 0, in front of a ReLU that then passes no gradient, so that their spatial
    attention never learns; ``dead_start`` reproduces this.
    """

    def __init__(
        self,
        maps: int,
        read: Callable[..., Any],
        adapter: Optional[gluon.HybridBlock] = None,
        norm: NormFactory = batch_norm,
        dead_start: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.read, self.adapter = read, adapter
        self.norm = norm(maps, gamma_initializer='zeros' if dead_start else 'ones')
        self.p1 = self.params.get('p1', shape=(1,), init='ones')
        self.p2 = self.params.get('p2', shape=(1,), init='zeros')

    def hybrid_forward(self, F: Any, current: Any, *handed_on: Any, p1: Any, p2: Any) -> Any:
        previous = self.read(F, *handed_on)
        previous = previous if self.adapter is None else self.adapter(previous)
        if kernels.fuses():
            merged = fused.merge_maps(F, current, previous, p1, p2)
        else:
            merged = F.elemwise_add(scale_map(F, current, p1), scale_map(F, previous, p2))
        return F.Activation(self.norm(merged), act_type='relu')
