"""The common base of attention units: three steps, and the point at which a connection enters.

Ma, Guo, Tang, Zhang, "DCANet: Learning Connected Attentions for Convolutional Neural Networks", arXiv 2007.05099,
describe every attention unit as extraction, transformation and fusion; a connection to the previous unit is inserted
between the first two (:mod:`model.attention.dca`).
"""

from __future__ import annotations

import abc
from typing import Any, List, Optional, Tuple

from mxnet import gluon

from model.attention.dca import VectorConnection
from model.layers.broadcast import scale_channels
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import with_mean

__all__ = ['AttentionUnit', 'ChannelUnit']


class AttentionUnit(gluon.HybridBlock, abc.ABC):
    """``(x, *carry) -> x`` alone, ``(x, *carry) -> (x, *carry)`` as a member of a chain.

    Subclasses implement the three steps, and for chains :meth:`remember` and :meth:`connection_to`; a unit without
    these two is registered with ``connects=False``.
    """

    before_norm: bool = False  # with the option ``inside``: where a unit stands, see :mod:`model.attention.inside`

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chained = False
        self.connection: Optional[gluon.HybridBlock] = None

    @abc.abstractmethod
    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        """Return the features that fusion acts on, and the contexts that the attention is computed from."""

    @abc.abstractmethod
    def transform(self, F: Any, *contexts: Any) -> Any:
        """Return the attention computed from the contexts."""

    @abc.abstractmethod
    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        """Return the features under the attention, ``(N, C, H, W)``."""

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Any, out: Any) -> Tuple[Any, ...]:
        """Return what the next unit receives: the carry. ``contexts`` are this unit's own, before the connection."""
        raise TypeError(f'{type(self).__name__} cannot be chained: it has no remember')

    def connection_to(self, previous: int, **options: Any) -> gluon.HybridBlock:
        """Return the block ``(*contexts, *carry) -> contexts`` that merges in what the previous unit passed on.

        ``previous`` is the number of channels of that unit.
        """
        raise TypeError(f'{type(self).__name__} cannot be chained: it has no connection_to')

    @classmethod
    def unwritten_for_chains(cls) -> List[str]:
        """Return which methods that chains need are not implemented by the class; registration asks for this."""
        return [name for name in ('remember', 'connection_to') if getattr(cls, name) is getattr(AttentionUnit, name)]

    def chain(self, previous: Optional[int], **options: Any) -> None:
        """Make the unit a member of a chain: it passes on its attention, and merges in that of the previous unit.

        ``previous`` is the number of channels of that unit; None for the first unit of a chain, which merges nothing.
        """
        self.chained = True
        if previous is not None:
            self.connection = self.connection_to(previous, **options)

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        features, contexts = self.extract(F, x)
        merged = contexts if self.connection is None else self.connection(*contexts, *carry)
        merged = merged if isinstance(merged, (list, tuple)) else (merged,)
        attention = self.transform(F, *merged)
        out = self.fuse(F, features, attention)
        return (out, *self.remember(F, contexts, attention, out)) if self.chained else out


class ChannelUnit(AttentionUnit):
    """A unit whose attention is one gate per channel and sample, computed from the mean of the map.

    Subclasses implement :meth:`transform`, ``(N, C) -> (N, C)`` in (0, 1). In a chain it passes on the mean of the
    gated map (N, C), which is the mean times the gate.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool = GlobalAvgPool()

    def extract(self, F: Any, x: Any) -> Tuple[Any, Tuple[Any, ...]]:
        x, mean = with_mean(F, x, self.pool)
        return x, (mean,)

    def fuse(self, F: Any, features: Any, attention: Any) -> Any:
        return scale_channels(F, features, attention)

    def remember(self, F: Any, contexts: Tuple[Any, ...], attention: Any, out: Any) -> Tuple[Any, ...]:
        return (F.elemwise_mul(contexts[0], attention),)

    def connection_to(self, previous: int, **options: Any) -> gluon.HybridBlock:
        return VectorConnection(previous, self.channels, **options)
