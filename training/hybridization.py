"""Find which mode (`model.hybridization`) trains fastest here, and trace the training graph whatever runs first.

Gluon's graphs save Python's work per operator, and fixed memory saves allocation, but on small networks and few cores
either can be slower. So the modes are measured, on throwaway copies, before training starts.
"""

import statistics
import time
from typing import Any, Callable, Dict, Tuple

import mxnet as mx
from mxnet import autograd

import kernels
from model.hybridization import MODES

__all__ = ['fastest_mode', 'trace_for_training']


def trace_for_training(net: Any, mode: str, size: int, context: Any, fuse: bool = False) -> None:
    """Let a hybridized network trace its graph now, in the form for training, whatever it runs first.

    With `fuse` the graph may use our own operators: see `kernels`.

    Some layers have another form for inference (`model.layers.pool`, `model.layers.broadcast`), with the same numbers
    except for their last bits. A resumed run may validate before its first step, and must train like one that was never
    stopped.
    """
    if MODES[mode] is not None:
        with autograd.record(), kernels.fusing(fuse):
            net._get_graph(mx.nd.zeros((1, 3, size, size), ctx=context))


def fastest_mode(
    make_step: Callable[[str], Callable[[], None]], warm: int = 2, timed: int = 5, budget: float = 20.0
) -> Tuple[str, Dict[str, float]]:
    """Return the mode with the shortest median step, and the seconds of a step in every mode.

    `make_step(mode)` builds a copy of the network and returns its complete training step. A mode stops
    after `budget` seconds, with at least one step timed after its first.
    """
    seconds = {}
    for mode in MODES:
        step = make_step(mode)
        mx.nd.waitall()
        times, begin = [], time.perf_counter()
        for _ in range(warm + timed):
            start = time.perf_counter()
            step()
            mx.nd.waitall()
            times.append(time.perf_counter() - start)
            if len(times) > 1 and time.perf_counter() - begin > budget:
                break
        seconds[mode] = statistics.median(times[min(warm, len(times) - 1) :])
    return min(seconds, key=seconds.get), seconds
