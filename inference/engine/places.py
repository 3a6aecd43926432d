"""Number the tensors of a plan and store its weights, each array once."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from inference.engine.operators import Tensor

__all__ = ['ALIGNMENT', 'Places', 'aligned']

ALIGNMENT = 16  # floats: a cache line


class Places:
    """The numbers of tensors in a plan's table, and the offsets of arrays among its weights."""

    def __init__(self, lanes: int, packed: Dict[Any, Any]) -> None:
        """Begin without any; `packed` keeps weights in the kernels' order from one plan to the next."""
        self.lanes, self._packed = lanes, packed
        self._weights: List[np.ndarray] = []
        self._count = 0
        self._known: Dict[bytes, int] = {}
        self._places: Dict[int, int] = {}
        self._tensors: List[Tensor] = []

    def enter(self, tensor: Tensor) -> None:
        if id(tensor) not in self._places:
            self._places[id(tensor)] = len(self._tensors)
            self._tensors.append(tensor)

    def tensor(self, tensor: Tensor) -> int:
        """Return the number of a tensor in the table."""
        return self._places[id(tensor)]

    def packed(self, function: Any, weight: np.ndarray, *arguments: Any) -> int:
        """Return the place of weights in the kernels' order, which ``function(weight, *arguments, lanes)`` gives."""
        # Each plan makes new views of the same array; the address identifies the array as long as one view is
        # kept.
        key = (function.__name__, weight.ctypes.data, weight.shape, weight.strides, *arguments)
        if key not in self._packed:
            self._packed[key] = weight, function(weight, *arguments, self.lanes)
        return self.weights(self._packed[key][1])

    def weights(self, array: np.ndarray) -> int:
        """Return the place of an array among the weights; the same array again has the same place."""
        array = np.ascontiguousarray(array, np.float32).ravel()
        key = array.tobytes() if array.size <= 1 << 16 else None
        if key is not None and key in self._known:
            return self._known[key]
        place = self._count
        self._weights.append(array)
        self._count += -(-array.size // ALIGNMENT) * ALIGNMENT
        if key is not None:
            self._known[key] = place
        return place


def aligned(arrays: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return the arrays in one array of `count` floats that begins at a page of memory."""
    memory = np.zeros(count + 1024, np.float32)
    start = -memory.ctypes.data // 4 % 1024
    weights = memory[start : start + count]
    at = 0
    for array in arrays:
        weights[at : at + array.size] = array
        at += -(-array.size // ALIGNMENT) * ALIGNMENT
    return weights
