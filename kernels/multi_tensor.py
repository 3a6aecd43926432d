"""Operations on all parameters at once in a training step on the CPU: copying them, and Nesterov's and Muon's steps.

Their arrays are the same in every step, so the arguments of MXNet's C interface are prepared once.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.base import _LIB, c_handle_array, c_str_array, check_call

import kernels

__all__ = ['Copy', 'MuonUpdate', 'NAGUpdate', 'copying']


class _Operator:
    """An operator with the arrays that it always works on."""

    def __init__(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._handle = kernels.operator_handle(name)
        self._arrays = [*inputs, *outputs]  # which live as long as their handles are used
        self._inputs, self._outputs = c_handle_array(inputs), c_handle_array(outputs)

    def _call(self, count: int, factor: float = 1.0) -> None:
        many, outputs = ctypes.c_int(len(self._outputs)), ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_void_p))
        storage_types = ctypes.POINTER(ctypes.c_int)()
        check_call(
            _LIB.MXImperativeInvokeEx(
                self._handle,
                ctypes.c_int(len(self._inputs)),
                self._inputs,
                ctypes.byref(many),
                ctypes.byref(outputs),
                ctypes.c_int(2),
                c_str_array(['count', 'factor']),
                c_str_array([str(count), repr(factor)]),
                ctypes.byref(storage_types),
            )
        )


class Copy(_Operator):
    """``copy()`` copies ``arrays`` to ``copies``, of the same shapes, and types or float16 and float32.

    If either of an array and its copy is float32, the copy is the array times ``factor``.
    """

    def __init__(self, arrays: Sequence[Any], copies: Sequence[Any], factor: float = 1.0) -> None:
        super().__init__('_multi_copy', arrays, copies)
        self._factor = factor

    def __call__(self) -> None:
        self._call(len(self._outputs), self._factor)


def copying(arrays: Sequence[Any], copies: Sequence[Any], factor: float = 1.0) -> Callable[[], Any]:
    """Return a function that does as `Copy` in one call to the engine, on any device, with the kernels or without."""
    if kernels.loaded() and arrays[0].context == mx.cpu():
        return Copy(arrays, copies, factor)
    graph = []
    for number, (array, copy) in enumerate(zip(arrays, copies)):
        one = mx.sym.var(f'array{number}')
        if factor != 1.0 and array.dtype == np.float32:
            one = one * factor
        one = mx.sym.identity(one) if array.dtype == copy.dtype else mx.sym.cast(one, np.dtype(copy.dtype).name)
        if factor != 1.0 and array.dtype != np.float32 and copy.dtype == np.float32:
            one = one * factor
        graph.append(one)
    return partial(mx.nd.CachedOp(mx.sym.Group(graph)), *arrays, out=list(copies))


class NAGUpdate(_Operator):
    """MXNet's `nag_mom_update`, to the bit, of n float32 ``weights`` with as many ``gradients`` and ``momenta``."""

    _name = '_multi_nag_update'

    def __init__(self, weights: Sequence[Any], gradients: Sequence[Any], momenta: Sequence[Any]) -> None:
        self._weights = c_handle_array(weights)
        # The last of either stands for the rates and the norm, which are new ones in every step.
        super().__init__(self._name, [*weights, *gradients, *momenta, weights[0]], [*weights, weights[0]])

    def take_gradients(self) -> bool:
        """Record that the gradients are used.

        Returns False, and records nothing, if one has not changed since the last time.
        """
        return bool(kernels.library().take_gradients(self._weights, len(self._weights)))

    def __call__(
        self, rates: Sequence[float], decays: Sequence[float], momentum: float, rescale_grad: float = 1.0
    ) -> Any:
        """Return one step, with each parameter's learning rate and weight decay.

        Returns the squared norm (1,) of the gradients, as they were before `rescale_grad`.
        """
        return self._step([*rates, *decays, momentum, rescale_grad])

    def _step(self, numbers: Sequence[float]) -> Any:
        table = nd.from_numpy(np.array(numbers, np.float32))
        norm = nd.empty((1,))
        self._inputs[len(self._inputs) - 1] = table.handle.value
        self._outputs[len(self._outputs) - 1] = norm.handle.value
        self._call(len(self._weights))
        return norm


class MuonUpdate(NAGUpdate):
    """The steps of `training.optim.muon` for the weights that are ``matrices``, and those of NAG for the others.

    In no matrix may rows and columns both be more than :attr:`LARGEST`: MXNet's products of matrices are faster then.
    """

    LARGEST = 128
    _name = '_multi_muon_update'

    def __init__(
        self, weights: Sequence[Any], gradients: Sequence[Any], momenta: Sequence[Any], matrices: Sequence[bool]
    ) -> None:
        super().__init__(weights, gradients, momenta)
        self._matrices = list(matrices)

    def __call__(
        self,
        rates: Sequence[float],
        decays: Sequence[float],
        momentum: float,
        rescale_grad: float = 1.0,
        scale: float = 1.0,
    ) -> Any:
        """Return as :class:`NAGUpdate` does; ``scale`` is that of the rates of matrices."""
        return self._step([*rates, *decays, *self._matrices, momentum, rescale_grad, scale])
