"""Attention state on its way from one unit to the next.

A block maps ``(x, *carry) -> (x, *carry)``; what the carry is concerns only the units that make and read it. A unit
without connection carries nothing, and then a block returns the bare feature map, so that it still chains in a plain
sequential.
"""

from __future__ import annotations

from typing import Any, Tuple

from mxnet import gluon

__all__ = ['Stage', 'join', 'split']


def split(out: Any) -> Tuple[Any, Tuple[Any, ...]]:
    """Split what a block returned into the feature map and its carry (empty when there is none)."""
    if isinstance(out, (list, tuple)):
        return out[0], tuple(out[1:])
    return out, ()


def join(x: Any, carry: Tuple[Any, ...]) -> Any:
    """Return ``(x, *carry)``, or the bare ``x`` when nothing is carried; the inverse of :func:`split`."""
    return (x,) + tuple(carry) if carry else x


class Stage(gluon.nn.HybridSequential):
    """Blocks in order, each handed the carry of the one before: ``(x, *carry) -> (x, *carry)``.

    Children are named ``0``, ``1``, ... as in any Gluon sequential, so parameter names do not depend on the carry.
    """

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        for block in self._children.values():
            x, carry = split(block(x, *carry))
        return join(x, carry)
