"""Sum a step's gradient over the parts of its batch, which are computed one after another."""

from typing import Any, List, Sequence

import mxnet as mx

__all__ = ['Accumulation']


class Accumulation:
    """`add(first, last)` after the backward pass of each part; after the last the gradients are those of all parts.

    Beside `gradients`, the arrays of one device, which each pass writes anew, there is another of each for the sums.
    """

    def __init__(self, gradients: Sequence[Any]) -> None:
        self._gradients = list(gradients)
        self._sums: List[Any] = [mx.nd.empty(array.shape, array.context, array.dtype) for array in gradients]
        ours, theirs = ([mx.sym.var(f'{name}{i}') for i in range(len(self._sums))] for name in ('sum', 'gradient'))
        self._copy = mx.nd.CachedOp(mx.sym.Group([mx.sym.identity(each) for each in theirs]))
        both = mx.sym.Group([mx.sym.elemwise_add(*pair) for pair in zip(ours, theirs)])
        self._order = [('sum', 'gradient').index(name.rstrip('0123456789')) for name in both.list_inputs()]
        self._add = mx.nd.CachedOp(both)

    def add(self, first: bool, last: bool) -> None:
        """Add the current gradients; does not wait for them."""
        if first:
            if not last:
                self._copy(*self._gradients, out=self._sums)
            return
        both = iter(self._sums), iter(self._gradients)
        self._add(*(next(both[kind]) for kind in self._order), out=self._gradients if last else self._sums)
