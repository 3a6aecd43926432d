"""Measure what this machine can do at best, and how much of it a process uses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Optional

import mxnet as mx
import numpy as np

from inference.optimization.program import BFLOAT16

__all__ = ['matrix_peak', 'peak_memory', 'reset_peak_memory', 'resident_memory']

_STATUS, _CLEAR = Path('/proc/self/status'), Path('/proc/self/clear_refs')


def _product(precision: str, side: int) -> Callable[[], mx.nd.NDArray]:
    random = np.random.RandomState(0)
    a, b = (mx.nd.array(random.uniform(-1, 1, (side, side))) for _ in range(2))
    if precision == 'int8':
        a, b = (mx.nd.array(np.rint(array.asnumpy() * 127), dtype='int8') for array in (a, b))
        low, high = mx.nd.array([-1]), mx.nd.array([1])
        return lambda: mx.nd.contrib.quantized_fully_connected(
            a, b, mx.nd.zeros(side, dtype='int8'), low, high, low, high, low, high, num_hidden=side
        )[0]
    if precision == 'bfloat16':
        a, b = (mx.nd.amp_cast(array, dtype=BFLOAT16) for array in (a, b))
    return lambda: mx.nd.FullyConnected(a, b, num_hidden=side, no_bias=True)


def matrix_peak(precision: str, side: int = 2048, repeats: int = 5) -> float:
    """Return the multiply-adds per second of the fastest of several products of square matrices by oneDNN."""
    product = _product(precision, side)
    product().wait_to_read()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product().wait_to_read()
        seconds.append(time.perf_counter() - start)
    return side**3 / min(seconds)


def _status(key: str) -> Optional[float]:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1]) / 1024
    return None


def resident_memory() -> Optional[float]:
    """Return the megabytes that this process occupies; None if the kernel does not say."""
    return _status('VmRSS')


def reset_peak_memory() -> None:
    """Restart the measurement of :func:`peak_memory`."""
    if _CLEAR.exists():
        _CLEAR.write_text('5')


def peak_memory() -> Optional[float]:
    """Return the most megabytes occupied since :func:`reset_peak_memory`."""
    return _status('VmHWM')
