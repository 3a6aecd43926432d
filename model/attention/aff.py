"""AFF and iAFF, attentional feature fusion: the sum of a residual block, weighted by attention.

Dai, Gieseke, Oehmcke, Wu, Barnard, "Attentional Feature Fusion", arXiv 2009.14082 (WACV 2021); details as in the
repository YimianDai/open-aff.
"""

from __future__ import annotations

from typing import Any, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.attention.unit import AttentionUnit
from model.layers.broadcast import add_to_channels
from model.layers.dense import LEAST_NORMED, hidden_width
from model.layers.factories import NormFactory, batch_norm
from model.layers.group_norm import GroupNorm
from model.layers.pool import GlobalAvgPool

__all__ = ['AFF', 'IAFF', 'MSCAM']


class MSCAM(gluon.HybridBlock):
    """``sigmoid(L(x) + G(mean(x)))``, the multi-scale channel attention, ``(N, C, H, W)`` in and out (equation 2).

    L, at each position, and G, on the mean over space, are two 1x1 convolutions with biases, ``C // reduction``
    channels between them, each with a norm, the first with a ReLU. G's norms see N values per channel: training needs
    batches of more than one.
    """

    def __init__(self, channels: int, reduction: int = 4, norm: NormFactory = batch_norm, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width = hidden_width(channels, reduction)
        self.local = self._layers(channels, width, norm)
        if isinstance(norm(1), GroupNorm):  # a vector is one group: groups of one value would all be zero
            self.context = self._layers(channels, max(width, LEAST_NORMED), lambda count: GroupNorm(count, 1))
        else:
            self.context = self._layers(channels, width, norm)
        self.pool = GlobalAvgPool()

    @staticmethod
    def _layers(channels: int, width: int, norm: NormFactory) -> nn.HybridSequential:
        layers = nn.HybridSequential()
        layers.add(
            nn.Conv2D(width, 1, in_channels=channels),
            norm(width),
            nn.Activation('relu'),
            nn.Conv2D(channels, 1, in_channels=width),
            norm(channels),
        )
        return layers

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        logits = add_to_channels(F, self.local(x), F.Flatten(self.context(self.pool(x))))
        return F.Activation(logits, act_type='sigmoid')


class AFF(AttentionUnit):
    """``M(x + y) x + (1 - M(x + y)) y`` of the shortcut x and the branch y, both (N, C, H, W) (equation 3).

    M is an :class:`MSCAM`. The published networks have a reduction of 4 on CIFAR and of 16 on ImageNet. open-aff
    doubles the result (``doubled``), since M is 1/2 on average, and lets M weight the branch and ``1 - M`` the
    shortcut, which is the same up to the sign of M's last norms.
    """

    def __init__(
        self, channels: int, reduction: int = 4, norm: NormFactory = batch_norm, doubled: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.doubled = channels, doubled
        self.attention = MSCAM(channels, reduction, norm)

    def hybrid_forward(self, F: Any, branch: Any, shortcut: Any, *carry: Any) -> Any:
        return super().hybrid_forward(F, (shortcut, branch), *carry)

    def extract(self, F: Any, x: Tuple[Any, Any]) -> Tuple[Any, Tuple[Any, ...]]:
        return x, (F.elemwise_add(*x),)

    def transform(self, F: Any, context: Any) -> Any:
        return self.attention(context)

    def fuse(self, F: Any, features: Tuple[Any, Any], attention: Any) -> Any:
        shortcut, branch = features
        out = F.elemwise_add(branch, F.elemwise_mul(attention, F.elemwise_sub(shortcut, branch)))
        return 2 * out if self.doubled else out


class IAFF(AFF):
    """AFF whose attention sees the result of another AFF, with its own M, instead of ``x + y`` (equation 4)."""

    def __init__(self, channels: int, reduction: int = 4, norm: NormFactory = batch_norm, **kwargs: Any) -> None:
        super().__init__(channels, reduction, norm, **kwargs)
        self.first = MSCAM(channels, reduction, norm)

    def extract(self, F: Any, x: Tuple[Any, Any]) -> Tuple[Any, Tuple[Any, ...]]:
        return x, (self.fuse(F, x, self.first(F.elemwise_add(*x))),)
