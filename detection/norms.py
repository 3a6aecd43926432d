"""Optional norms in pyramids and heads, which are not published but help when training from scratch."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from mxnet import gluon
from mxnet.gluon import nn

from model.options import Rule
from model.zoo import NORMS

__all__ = ['HEAD_NORM', 'level_norms', 'norm_factory', 'normed']

NormFactory = Callable[[int], gluon.HybridBlock]
HEAD_NORM = Rule(
    lambda norm: norm is None or callable(norm) or norm in tuple(NORMS),
    f'None, {", ".join(map(repr, NORMS))}, or a factory',
)


def norm_factory(norm: Union[None, str, NormFactory]) -> Optional[NormFactory]:
    """Return the factory called ``norm``: None for none, ``'batch'``, ``'group'``, or a factory itself."""
    return NORMS[norm] if isinstance(norm, str) else norm


def level_norms(norm: Optional[NormFactory], channels: int, count: int) -> nn.HybridSequential:
    """Return ``count`` norms, or an empty list without a factory.

    A convolution that serves several levels has a norm for each, because a batch norm's running statistics, shared by
    different levels, would fit none of them.
    """
    norms = nn.HybridSequential()
    if norm is not None:
        norms.add(*(norm(channels) for _ in range(count)))
    return norms


def normed(norms: nn.HybridSequential, index: int, x: Any) -> Any:
    """Return ``x`` through norm number ``index``, or unchanged if there are none."""
    return norms[index](x) if len(norms) else x
