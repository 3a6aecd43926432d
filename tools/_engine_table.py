"""Compare the project's engine with other runtimes, cell by cell, in a given time and with one number of threads.

python tools/_engine_table.py ORDER.json    # as tools/benchmark_engine.py writes it
"""

from __future__ import annotations

import _bootstrap  # noqa: F401
from environment import UserError, require_mxnet  # isort: split

import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

require_mxnet()

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels.engine
from common.schema import read_json
from detection import get_detector
from detection.optimize import DetectorMaps
from detection.zoo import KINDS
from environment.cpu import processor
from inference.comparison.machine import matrix_peak
from inference.comparison.runners import precisions_of, runner
from model import get_model, input_size
from model.count import count, macs_of_graph

__all__ = ['OWN', 'Cell', 'built', 'measure', 'network_of']

OWN = 'own'
CALIBRATION_IMAGES = 16
# A detector's images are larger than a classifier's.
DETECTOR_SIDE = 384
# The least and the most turns of a cell, and the least duration of a turn.
TURNS, TURN_SECONDS = (3, 9), 0.1


class Cell(NamedTuple):
    """One cell of the table: a network, a batch size and a precision."""

    model: str
    batch: int
    precision: str


def built(name: str) -> Tuple[gluon.HybridBlock, int]:
    """Return a network without parameters, and the side of its images; for a detector, the part that makes its maps.

    Raises:
        ValueError: the name is unknown.
    """
    if name.startswith(tuple(f'{kind}_' for kind in KINDS)):
        return DetectorMaps(get_detector(name)), DETECTOR_SIDE
    return get_model(name), input_size(name)


def network_of(name: str) -> Tuple[gluon.HybridBlock, int, int]:
    """Return a network with random parameters, the side of its images, and its multiply-adds."""
    mx.random.seed(0)
    np.random.seed(0)
    net, side = built(name)
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.random.normal(shape=(1, 3, side, side))).wait_to_read()
    if isinstance(net, DetectorMaps):
        return net, side, macs_of_graph(net(mx.sym.var('data')), data=(1, 3, side, side))
    return net, side, count(net, (1, 3, side, side)).macs


class _Measured:
    """A network in one mode, with the seconds per image of each turn."""

    def __init__(self, mode: str, run: Callable[[np.ndarray], np.ndarray]) -> None:
        self.mode, self.run = mode, run
        self.seconds: List[float] = []

    def turn(self, data: np.ndarray) -> float:
        """Run for a while, and return for how long."""
        images, start = 0, time.perf_counter()
        while images == 0 or time.perf_counter() - start < TURN_SECONDS:
            self.run(data)
            images += len(data)
        passed = time.perf_counter() - start
        self.seconds.append(passed / images)
        return passed


def _row(
    cell: Cell, modes: Sequence[str], nets: Any, folder: str, until: float, tell: Callable[[str], None]
) -> Dict[str, Any]:
    net, side, macs = nets(cell.model)
    shape = (cell.batch, 3, side, side)
    random = np.random.RandomState(1)
    data = random.standard_normal(shape).astype(np.float32)
    calibration = random.standard_normal((CALIBRATION_IMAGES, 3, side, side)).astype(np.float32)
    expected = net(mx.nd.array(data)).asnumpy()
    running, differences, left_out, ways = [], {}, {}, {}
    for mode in modes:
        if cell.precision not in precisions_of(mode):
            continue
        try:
            made = _Measured(mode, runner(net, mode, cell.precision, shape, calibration, folder))
            made.run(data)
            answer = np.array(made.run(data))
        except UserError as error:
            left_out[mode] = str(error)
            tell(f'left out {mode} of {cell.model}, {cell.batch}, {cell.precision}: {error}')
            continue
        if getattr(made.run, 'way', None):
            ways[mode] = made.run.way
        differences[mode] = float(np.abs(answer - expected).max() / np.abs(expected).max())
        running.append(made)
    for turn in range(TURNS[1]):
        passed = sum(made.turn(data) for made in running)
        if turn + 1 >= TURNS[0] and time.monotonic() + passed > until:
            break
    for made in running:
        if hasattr(made.run, 'close'):
            made.run.close()
    return {
        **cell._asdict(),
        'macs': macs,
        'ms': {made.mode: 1000 * statistics.median(made.seconds) for made in running},
        'all_ms': {made.mode: [1000 * value for value in made.seconds] for made in running},
        'difference': differences,
        'left_out': left_out,
        'ways': ways,
        'beyond': [made.mode for made in running if _beyond(made.mode, ways.get(made.mode, ''))],
    }


def _beyond(mode: str, way: str) -> bool:
    """Return whether a runtime used more of the processor than the engine was restricted to."""
    if kernels.engine.chosen() != 'avx2' or 'avx512f' not in processor().instructions:
        return False
    return mode == 'onnxruntime' or 'avx512' in way or 'amx' in way


def measure(
    cells: Sequence[Cell],
    modes: Sequence[str],
    seconds: float,
    longest: float = math.inf,
    tell: Callable[[str], None] = print,
) -> Iterator[Dict[str, Any]]:
    """Measure cells in order and yield a row for each.

    Each cell gets an equal share of the time that remains, but at most ``longest`` seconds. The first is always
    measured; after ``seconds`` no other is begun.
    """
    end = time.monotonic() + seconds
    known: Dict[str, Any] = {}

    def nets(name: str) -> Any:
        if name not in known:
            known.clear()  # one at a time
            known[name] = network_of(name)
        return known[name]

    with contextlib.ExitStack() as closing:
        folders: Dict[str, str] = {}
        for number, cell in enumerate(cells):
            now = time.monotonic()
            if number and now >= end:
                return
            if cell.model not in folders:
                folders[cell.model] = closing.enter_context(tempfile.TemporaryDirectory())
            until = now + min(longest, (end - now) / (len(cells) - number))
            row = _row(cell, modes, nets, folders[cell.model], until, tell)
            tell(f'{cell.model}, {cell.batch}, {cell.precision}: ' + _told(row['ms']))
            yield row


def _told(ms: Dict[str, float]) -> str:
    return '  '.join(f'{mode} {value:.2f} ms' for mode, value in ms.items())


def main(argv: Optional[Sequence[str]] = None) -> int:
    (order,) = argv if argv is not None else sys.argv[1:]
    form = {'cells': [object], 'modes': [str], 'seconds': float, 'longest': float, 'answers': int}
    asked = read_json(Path(order), form)
    cells = [Cell(str(model), int(batch), str(precision)) for model, batch, precision in asked['cells']]
    threads = int(os.environ.get('OMP_NUM_THREADS') or os.cpu_count() or 1)
    machine = {'threads': threads, 'instructions': kernels.engine.chosen(), 'processor': processor().name}
    peaks: Dict[str, float] = {}

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with os.fdopen(asked['answers'], 'w') as answers:
        for row in measure(cells, asked['modes'], asked['seconds'], asked['longest'], tell):
            precision = row['precision']
            if precision not in peaks:
                peaks[precision] = matrix_peak(precision)
            print(json.dumps({**row, **machine, 'matrix_macs_per_second': peaks[precision]}), file=answers, flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
