"""Run images of one batch at the same time, each on a core of its own.

When all cores work on one operator, they wait for each other at its end, a hundred times per image, which costs more
the shorter the operators are. MXNet runs the operators of different devices in different threads, and ``cpu(1)``,
``cpu(2)``, ... count as devices. Each gets a copy of the program, and one thread.
"""

from __future__ import annotations

import ctypes
from typing import List

import mxnet as mx
from mxnet.base import _LIB, check_call

from inference.optimization.program import Program

__all__ = ['lanes_of']

_FIRST = 1  # cpu(0) keeps all its threads, for everything else


class _Context(ctypes.Structure):
    _fields_ = (('dev_type', ctypes.c_int), ('dev_id', ctypes.c_int32))


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
def _take_one_thread(_context: int, _parameter: int) -> None:
    _LIB.MXSetNumOMPThreads(1)


def _one_thread(ctx: mx.Context) -> None:
    """Let operators on this device run in one thread.

    OpenMP keeps that number for each of the threads that call it, so that it must be set in the very thread that
    MXNet's engine has for the device.
    """
    mark = mx.nd.zeros(1, ctx=ctx)
    device = _Context(ctx.device_typeid, ctx.device_id)
    check_call(
        _LIB.MXEnginePushSyncND(
            _take_one_thread, None, None, ctypes.byref(device), None, 0, ctypes.byref(mark.handle), 1, None, 0, None
        )
    )
    mark.wait_to_read()


def lanes_of(program: Program, count: int, example: mx.nd.NDArray) -> List[Program]:
    """Copy a program to ``count`` devices of one core each, planned for arrays like ``example``."""
    devices = [mx.cpu(_FIRST + place) for place in range(count)]
    programs = [program.on(device) for device in devices]
    inputs = [example.as_in_context(device) for device in devices]
    for device in devices:
        _one_thread(device)
    mx.nd.waitall()
    # Each plan gets the next of MXNet's few scratch buffers. Two with the same one would wait for each other, so that
    # nothing may come between them here.
    answers = [lane(data) for lane, data in zip(programs, inputs)]
    for answer in answers:
        answer.wait_to_read()
    return programs
