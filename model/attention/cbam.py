"""CBAM, the convolutional block attention module: channel attention, then spatial attention."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from mxnet import gluon

from model.attention.dca import ChannelMapConnection, SpatialMapConnection, shrink
from model.attention.unit import AttentionUnit
from model.layers.broadcast import channel_max_and_mean, scale_channels, scale_positions
from model.layers.carry import join, split
from model.layers.dense import dense, hidden_width
from model.layers.factories import NormFactory, batch_norm
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import with_channel_max_and_mean, with_mean_and_max
from model.layers.single_map import SingleMapConv

__all__ = ['CBAM', 'CONNECTED', 'CBAMChannel', 'CBAMSpatial']

#: Which of the two attentions DCA may connect.
CONNECTED = ('both', 'channel', 'spatial')


class CBAMChannel(AttentionUnit):
    """``x * sigmoid(MLP(mean(x)) + MLP(max(x)))`` with one MLP (C, ``C // reduction``, C) for both (paper, equation 2).

    In a chain it passes on the gated map (N, C, H, W), and that map's mean and maximum (N, C). Since the gate is
    positive, these are the mean and maximum of x times the gate.
    """

    def __init__(self, channels: int, reduction: int = 16, bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        width = hidden_width(channels, reduction)
        self.mean = GlobalAvgPool()
        self.reduce = dense(channels, width, 'relu', use_bias=bias)
        self.expand = dense(width, channels, use_bias=bias)

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        x, *contexts = with_mean_and_max(F, x, self.mean)
        return x, tuple(contexts)

    def transform(self, F: Any, mean: Any, maximum: Any) -> Any:
        logits = F.elemwise_add(self.expand(self.reduce(mean)), self.expand(self.reduce(maximum)))
        return F.Activation(logits, act_type='sigmoid')

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return scale_channels(F, features, attention)

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Any, out: Any) -> Tuple[Any, ...]:
        return (out, *(F.elemwise_mul(context, attention) for context in contexts))

    def connection_to(self, previous: int, **options: Any) -> gluon.HybridBlock:
        return ChannelMapConnection(previous, self.channels, **options)


class CBAMSpatial(AttentionUnit):
    """``x * sigmoid(BN(conv7x7([max_c(x), mean_c(x)])))`` (paper, equation 3).

    In a chain it passes on the gated map (N, C, H, W), and that map's maximum and mean over channels (N, 2, H, W).
    Since the gate is positive, these are the maximum and mean of x times the gate.
    """

    def __init__(
        self,
        channels: int,
        norm: NormFactory = batch_norm,
        norm_momentum: float = 0.99,
        original_init: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.original_init = original_init
        self.conv = SingleMapConv(7, padding=3, in_channels=2)
        self.norm = norm(1, momentum=norm_momentum, gamma_initializer='zeros' if original_init else 'ones')

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        x, pooled = with_channel_max_and_mean(F, x, self.channels)
        return x, (pooled,)

    def transform(self, F: Any, pooled: Any) -> Any:
        return F.Activation(self.norm(self.conv(pooled)), act_type='sigmoid')

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return scale_positions(F, features, attention, self.channels)

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Any, out: Any) -> Tuple[Any, ...]:
        (pooled,) = contexts
        return out, F.concat(
            *(F.elemwise_mul(half, attention) for half in F.split(pooled, num_outputs=2, axis=1)), dim=1
        )

    def connection_to(
        self, previous: int, stride: int = 1, norm: NormFactory = batch_norm, **options: Any
    ) -> gluon.HybridBlock:
        def read(F: Any, gated: Any, pooled: Any) -> Any:
            return pooled if stride == 1 else channel_max_and_mean(F, shrink(F, gated, stride), previous)

        return SpatialMapConnection(2, read, norm=norm, dead_start=self.original_init)


class CBAM(gluon.HybridBlock):
    """Channel attention, then spatial attention: ``(N, C, H, W)`` in and out.

    Woo, Park, Lee, Kweon, "CBAM", arXiv 1807.06521. In a chain each of the two has a memory of its own.

    ``original_init`` starts the scale of the spatial norms at zero, as in the repository 13952522076/DCANet's ResNets:
    see :class:`model.attention.dca.SpatialMapConnection` for what that kills. ``norm_momentum`` is that of the spatial
    norm, 0.99 as published. Without ``bias`` the channel attention's layers have none, as timm's.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        norm: NormFactory = batch_norm,
        norm_momentum: float = 0.99,
        original_init: bool = False,
        bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channel = CBAMChannel(channels, reduction, bias)
        self.spatial = CBAMSpatial(channels, norm, norm_momentum, original_init)

    def chain(self, previous: Optional[int], connected: str = 'both', **options: Any) -> None:
        """See :meth:`model.attention.unit.AttentionUnit.chain`.

        ``connected``: which of the two attentions is connected, ``'both'`` as published.
        """
        if connected not in CONNECTED:
            raise ValueError(f'connected is {connected!r}: allowed are {", ".join(map(repr, CONNECTED))}')
        for name, part in self._parts():
            if connected in ('both', name):
                part.chain(previous, **options)

    def _parts(self) -> Tuple[Tuple[str, AttentionUnit], ...]:
        return ('channel', self.channel), ('spatial', self.spatial)

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        own = 3 if self.channel.chained else 0  # the channel attention's share of the carry
        x, channel = split(self.channel(x, *carry[:own]))
        x, spatial = split(self.spatial(x, *carry[own:]))
        return join(x, (*channel, *spatial))
