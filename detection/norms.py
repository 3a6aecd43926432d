"""Optional norms in pyramids and heads, a departure that helps those who train from scratch."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from mxnet import gluon
from mxnet.gluon import nn

from model.zoo import NORMS

__all__ = ['level_norms', 'norm_factory', 'normed']

NormFactory = Callable[[int], gluon.HybridBlock]


def norm_factory(norm: Union[None, str, NormFactory]) -> Optional[NormFactory]:
    """Return the factory called ``norm``: None for none, ``'batch'``, ``'group'``, or a factory itself."""
    if isinstance(norm, str):
        if norm not in NORMS:
            raise ValueError(f'head_norm is {norm!r}; allowed: None, {", ".join(map(repr, NORMS))}, or a factory')
        return NORMS[norm]
    return norm


def level_norms(norm: Optional[NormFactory], channels: int, count: int) -> nn.HybridSequential:
    """Return ``count`` norms, or none of them without a factory.

    A convolution that serves several levels has a norm for each: a batch norm's running statistics, shared by levels
    that differ, would fit none of them.
    """
    norms = nn.HybridSequential()
    if norm is not None:
        norms.add(*(norm(channels) for _ in range(count)))
    return norms


def normed(norms: nn.HybridSequential, index: int, x: Any) -> Any:
    """Return ``x`` through norm number ``index``, or as it is where there are none."""
    return norms[index](x) if len(norms) else x
