"""An exponential moving average of the weights, which is what is validated and saved where --ema asks for it.

Of step n (from 0) the decay is the smaller of the given one and (1 + n) / (10 + n), so that the first weights, which
are random, are soon forgotten. Running statistics are averaged as the weights are. The average is float32.
"""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UserError
from training.optim.layout import restore_plain_layout
from training.optim.rollback import running_statistics

__all__ = ['Average']


class Average:
    """`update(step)` after each step; `applied()` gives the network the averaged weights for a while."""

    def __init__(self, net: gluon.Block, trainer: gluon.Trainer, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f'the decay is {decay}; allowed: between 0 and 1')
        self.net, self.decay = net, decay
        changing = {id(parameter) for parameter in [*trainer._params, *running_statistics(net)]}
        self._parameters: Dict[str, gluon.Parameter] = {}
        for name, parameter in net._collect_params_with_prefix().items():
            if id(parameter) in changing:
                changing.remove(id(parameter))  # one that is shared goes by its first name
                self._parameters[name] = parameter
        self.arrays = [array.astype('float32', copy=True) for array in self._weights()]
        shares = mx.sym.var('decay'), mx.sym.var('rest')
        parts = []
        for i in range(len(self.arrays)):
            weight = mx.sym.cast(mx.sym.var(f'weight{i}'), dtype='float32')
            old = mx.sym.broadcast_mul(mx.sym.var(f'average{i}'), shares[0])
            parts.append(mx.sym.elemwise_add(old, mx.sym.broadcast_mul(weight, shares[1])))
        graph = mx.sym.Group(parts)
        self._order = graph.list_inputs()
        self._update = mx.nd.CachedOp(graph)

    def _weights(self) -> List[Any]:
        return [parameter.list_data()[0] for parameter in self._parameters.values()]

    def start(self) -> None:
        """Begin with the current weights."""
        for array, weight in zip(self.arrays, self._weights()):
            weight.astype('float32').copyto(array)

    def update(self, step: int) -> None:
        """Add the weights after this step; does not wait for them."""
        decay = min(self.decay, (1 + step) / (10 + step))
        context = self.arrays[0].context
        inputs = {
            'decay': mx.nd.full((1,), decay, ctx=context),
            'rest': mx.nd.full((1,), 1 - decay, ctx=context),
        }
        for i, (array, weight) in enumerate(zip(self.arrays, self._weights())):
            inputs[f'average{i}'], inputs[f'weight{i}'] = array, weight
        self._update(*(inputs[name] for name in self._order), out=self.arrays)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Return a context in which the network has the averaged weights.

        Afterwards it has its own again, bit for bit.
        """
        own = [[array.copy() for array in parameter.list_data()] for parameter in self._parameters.values()]
        for parameter, array in zip(self._parameters.values(), self.arrays):
            parameter.set_data(array.astype(parameter.dtype))
        try:
            yield
        finally:
            restore_plain_layout(self.net)  # inference may have changed the layout, and copying keeps it
            for parameter, arrays in zip(self._parameters.values(), own):
                for array, values in zip(parameter.list_data(), arrays):
                    values.copyto(array)
            mx.nd.waitall()

    def tree(self) -> Dict[str, np.ndarray]:
        """Return the average for a checkpoint."""
        return {name: array.asnumpy() for name, array in zip(self._parameters, self.arrays)}

    def set(self, tree: Dict[str, np.ndarray], source: str) -> None:
        """Restore what `tree()` returned. Raises `UserError` naming `source` if it belongs to another network."""
        shapes = {name: array.shape for name, array in zip(self._parameters, self.arrays)}
        if {name: array.shape for name, array in tree.items()} != shapes:
            raise UserError(f'{source} holds the average of another network; start with the flags it was begun with')
        for array, name in zip(self.arrays, self._parameters):
            array[:] = mx.nd.array(tree[name], dtype=np.float32)
