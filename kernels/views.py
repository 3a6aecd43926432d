"""Make views from arrays in plain layout only: in one of oneDNN's layouts they come out wrong (`sharing.h`)."""

from __future__ import annotations

import ctypes
from typing import Any, Callable

__all__ = ['make_of_plain_arrays']

# What Python has MXNet make views with. The first argument is the array.
_FUNCTIONS = (
    'MXNDArraySlice',
    'MXNDArraySlice64',
    'MXNDArrayAt',
    'MXNDArrayAt64',
    'MXNDArrayReshape',
    'MXNDArrayReshape64',
)


def make_of_plain_arrays(library: Any) -> None:
    """Make MXNet convert an array to the plain layout before it makes a view of it or shares its memory."""
    from mxnet.base import _LIB

    library.make_plain.argtypes, library.make_plain.restype = [ctypes.c_void_p], None
    wait = _LIB.MXNDArrayWaitToRead

    def plain_first(function: Callable[..., int], waits: bool) -> Callable[..., int]:
        def call(array: Any, *arguments: Any) -> int:
            library.make_plain(array)
            return (waits and wait(array)) or function(array, *arguments)

        return call

    for name in _FUNCTIONS:
        setattr(_LIB, name, plain_first(getattr(_LIB, name), waits=False))
    _LIB.MXNDArrayToDLPack = plain_first(_LIB.MXNDArrayToDLPack, waits=True)
