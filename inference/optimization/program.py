"""A graph with its parameters, ready to run: one static plan in fixed memory."""

from __future__ import annotations

from typing import Dict, Iterable

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.graph import INPUT

__all__ = ['BFLOAT16', 'Program']

# NumPy has none; this stands for it in MXNet 1.9.
BFLOAT16 = np.dtype([('bfloat16', np.uint16)])


class Program(gluon.Block):
    """``(N, 3, H, W) float32 -> (N, classes) float32``, for any N; planned again whenever the shape changes.

    ``params`` are NumPy arrays by name; those in ``bfloat16`` and ``float16`` are stored in that precision.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        params: Dict[str, np.ndarray],
        bfloat16: Iterable[str] = (),
        float16: Iterable[str] = (),
        ctx: mx.Context = None,
    ) -> None:
        super().__init__()
        ctx = ctx or mx.cpu()
        self.bfloat16, float16 = frozenset(bfloat16), frozenset(float16)
        names = symbol.list_inputs()
        self.symbol, self.ctx = symbol, ctx
        self.arrays = {}
        for name in names:
            if name == INPUT:
                continue
            array = mx.nd.array(params[name], ctx=ctx, dtype='float16' if name in float16 else params[name].dtype)
            self.arrays[name] = mx.nd.amp_cast(array, dtype=BFLOAT16) if name in self.bfloat16 else array
        self._names = names
        data = [place for place, name in enumerate(names) if name == INPUT]
        flags = [
            ('static_alloc', True),
            ('static_shape', True),
            ('data_indices', data),
            ('param_indices', [place for place in range(len(names)) if place not in data]),
        ]
        self._run = mx.nd.CachedOp(symbol, flags)

    def on(self, ctx: mx.Context) -> Program:
        """Another one, with its own copy of the parameters, on another CPU device; not for float16."""
        mx.nd.waitall()  # oneDNN may be changing the layout of the parameters
        params = {
            name: (mx.nd.amp_cast(array, dtype='float32') if name in self.bfloat16 else array).asnumpy()
            for name, array in self.arrays.items()
        }
        return Program(self.symbol, params, self.bfloat16, ctx=ctx)

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        return self._run(*(x if name == INPUT else self.arrays[name] for name in self._names))
