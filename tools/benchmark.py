"""Time inference for networks x precisions x batches x modes in one table, and check that all give the same answers.

    python tools/benchmark.py --params runs/photos
    python tools/benchmark.py --model cifar_atac_resnet20_v2 --batch-size 1,32 --profile
    python tools/benchmark.py --model resnet50_v1b,se_resnet50_v1b --batch-size 1,8 \
        --modes defaults,optimized,onnxruntime,openvino,torch --precision float32,bfloat16,int8

All rows take turns, and medians are reported, so that other load on the machine affects them equally.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from common.files import write_json
from common.usage import described
from inference.choices import COMPARED, PRECISIONS
from training.config.fields import typed
from training.config.flags import number, output_file
from training.config.settings import Parser

DEFAULT_MODES = 'imperative,hybrid,static,optimized'


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark.py', **described(__doc__))
    parser.add_argument('--params', metavar='FILE', help='parameters with their manifest, or the folder of a run')
    parser.add_argument('--model', metavar='NAMES', help='networks with random parameters, or the one of --params')
    parser.add_argument('--beside', metavar='NAMES', help='further networks, only measured in the mode optimized')
    parser.add_argument('--batch-size', default='32', help='images per step, separated by commas')
    parser.add_argument('--modes', default=DEFAULT_MODES, help=f'any of {", ".join(COMPARED)}, separated by commas')
    parser.add_argument('--precision', default='float32', help='float32, bfloat16, int8, separated by commas')
    parser.add_argument('--repeats', type=number(int, 1), default=5, help='measurements of each row')
    parser.add_argument('--seconds', type=number(float, 0), default=0.5, help='length of a measurement')
    parser.add_argument(
        '--keep-onnx',
        metavar='FOLDER',
        help='keep the ONNX files of --model and their int8 forms there, so that the next run need not make them; '
        'their answers are compared all the same',
    )
    parser.add_argument('--profile', action='store_true', help='list the operators that cost most in MXNet')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    args = parser.parse_args(argv)
    for flag, allowed in (('modes', COMPARED), ('precision', tuple(p for p in PRECISIONS if p != 'float16'))):
        values = list(dict.fromkeys(getattr(args, flag).split(',')))
        for value in values:
            if value not in allowed:
                raise UsageError(f'--{flag} has {value!r}; allowed: {", ".join(allowed)}')
        setattr(args, flag, values)
    batches = args.batch_size.split(',')
    if not all(batch.isdigit() and int(batch) > 0 for batch in batches):
        raise UsageError(f'--batch-size {args.batch_size} must be whole numbers above 0, separated by commas')
    args.batch_size = list(dict.fromkeys(map(int, batches)))
    for flag in ('beside', 'keep_onnx'):
        if args.params and getattr(args, flag):
            raise UsageError(f'--{flag.replace("_", "-")} applies to --model and cannot be combined with --params')
    if not args.params and not args.model:
        raise UsageError('neither --params nor --model is given; give one of them')
    return args


answer_flags(__name__, parse)
require_mxnet()

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.comparison.machine import matrix_peak, peak_memory, reset_peak_memory, resident_memory
from inference.comparison.runners import Runner, precisions_of, runner
from inference.network import load_network
from inference.optimization.proof import TOLERANCE
from model import count, get_model, input_size
from model.parameters.load import set_params, value_of

_OF_MXNET = ('imperative', 'hybrid', 'static', 'optimized')  # run in this process, where MXNet can profile them


CALIBRATION_IMAGES, STATISTICS_IMAGES = 16, 8


@dataclass(frozen=True)
class Table:
    """What to measure: networks x precisions x batches x modes."""

    params: Optional[str]
    model: Optional[str]
    beside: Optional[str]
    batch_size: List[int]
    modes: List[str]
    precision: List[str]
    keep_onnx: Optional[str]

    def in_full(self, name: str) -> bool:
        """Return whether a network is measured in all modes."""
        return bool(self.params) or name in self.model.split(',')


def networks(table: Table) -> Dict[str, Tuple[int, Any]]:
    """Return {name: (input size, a function that returns another copy with the same parameters)}."""
    if table.params:
        first = load_network(table.params, table.model, task='classification')
        return {first.name: (first.preprocessing.size, lambda: load_network(table.params, table.model).net)}
    found = {}
    for name in dict.fromkeys([*table.model.split(','), *(table.beside.split(',') if table.beside else ())]):
        try:
            net, size = get_model(name), input_size(name)
        except ValueError as error:
            raise UsageError(f'--model: {error}') from error
        mx.random.seed(0)
        net.initialize(mx.init.MSRAPrelu())
        take_statistics(net, mx.nd.random.normal(shape=(STATISTICS_IMAGES, 3, size, size)))
        arrays = {key: value_of(p) for key, p in net._collect_params_with_prefix().items()}

        def copy(name: str = name, arrays: Dict[str, np.ndarray] = arrays) -> Any:
            another = get_model(name)
            set_params(another, arrays, name)
            return another

        found[name] = (size, copy)
    return found


def take_statistics(net: gluon.HybridBlock, images: mx.nd.NDArray) -> None:
    """Give batch norms the statistics of ``images``, as in a trained network.

    With their initial statistics, maps would shrink or grow from layer to layer, until only float32 could tell their
    numbers apart.
    """
    net(images[:1])
    net.apply(lambda block: isinstance(block, gluon.nn.BatchNorm) and block._kwargs.update(momentum=0.0))
    with mx.autograd.record():
        answer = net(images)
    answer.backward()  # MXNet updates them here


class Row:
    """One line of the table: a network with a batch size, a mode and a precision, and its measurements."""

    def __init__(
        self, name: str, batch: int, mode: str, precision: str, run: Runner, data: np.ndarray, macs: int
    ) -> None:
        self.name, self.batch, self.mode, self.precision = name, batch, mode, precision
        self.run, self.data, self.macs = run, data, macs
        self.seconds: List[float] = []
        self.difference = self.typical_difference = 0.0
        self.same_class = 1.0
        self._memory: Optional[float] = None

    def built(self, memory: Optional[float]) -> None:
        """Note how many megabytes building took; a mode with its own process reports that itself."""
        self._memory = memory

    @property
    def memory(self) -> Optional[float]:
        return getattr(self.run, 'memory', self._memory)

    def close(self) -> None:
        if hasattr(self.run, 'close'):
            self.run.close()

    def check(self, expected: np.ndarray) -> None:
        for _ in range(3):  # the first builds the graph, the second may plan its memory
            answer = self.run(self.data)
        differences = np.abs(answer - expected).max(axis=1) / np.abs(expected).max()
        self.difference = float(differences.max())
        self.typical_difference = float(np.median(differences))
        self.same_class = float((answer.argmax(axis=1) == expected.argmax(axis=1)).mean())

    def measure(self, seconds: float) -> None:
        """Measure the time per image over as many batches as fit into ``seconds``."""
        images, start = 0, time.perf_counter()
        while images == 0 or time.perf_counter() - start < seconds:
            self.run(self.data)
            images += len(self.data)
        self.seconds.append((time.perf_counter() - start) / images)

    def figures(self, peaks: Dict[str, float]) -> Dict[str, Any]:
        median = statistics.median(self.seconds)
        return {
            'model': self.name,
            'batch_size': self.batch,
            'mode': self.mode,
            'precision': self.precision,
            'ms_per_image': 1000 * median,
            'latency_ms': 1000 * median * self.batch,
            'images_per_second': 1 / median,
            'spread': (max(self.seconds) - min(self.seconds)) / median,
            'measurements_ms': [1000 * value for value in self.seconds],
            'relative_difference': self.difference,
            'same_class': self.same_class,
            'peak_memory_mb': self.memory,
            'cut': getattr(self.run, 'cut', None),
            'macs': self.macs,
            'share_of_matrix_peak': self.macs / median / peaks[self.precision],
        }


def build(table: Table, closing: contextlib.ExitStack) -> List[Row]:
    """Return all rows, having compared their answers with those of the imperative network in float32.

    ``closing`` receives the callbacks that end them.
    """
    rows = []
    for name, (size, make) in networks(table).items():
        shape = (CALIBRATION_IMAGES, 3, size, size)
        calibration = np.random.RandomState(1).standard_normal(shape).astype(np.float32)
        macs = count(make(), (1, 3, size, size)).macs
        folder = closing.enter_context(tempfile.TemporaryDirectory())
        if table.keep_onnx:
            folder = os.path.join(table.keep_onnx, name)
            os.makedirs(folder, exist_ok=True)
        for batch in table.batch_size:
            data = np.random.RandomState(0).standard_normal((batch, 3, size, size)).astype(np.float32)
            expected = make()(mx.nd.array(data)).asnumpy()
            for mode in table.modes if table.in_full(name) else ['optimized']:
                for precision in table.precision:
                    if precision not in precisions_of(mode):
                        continue
                    before = resident_memory()
                    reset_peak_memory()
                    try:
                        run = runner(make(), mode, precision, data.shape, calibration, folder)
                    except UserError as error:
                        if mode in _OF_MXNET:
                            raise
                        # A runtime that is not installed, or that cannot run this network.
                        print(f'left out {name}, {batch}, {mode}, {precision}: {error}', file=sys.stderr)
                        continue
                    row = Row(name, batch, mode, precision, run, data, macs)
                    closing.callback(row.close)
                    row.check(expected)
                    if before is not None:
                        row.built(peak_memory() - before)
                    rows.append(row)
    if not rows and not any(precision in precisions_of(mode) for mode in table.modes for precision in table.precision):
        raise UsageError(
            f'none of the modes {", ".join(table.modes)} supports the precisions {", ".join(table.precision)}'
        )
    if not rows:
        raise UserError('there is no row left to measure; see above')
    return rows


def profile(row: Row, count: int = 10) -> List[Tuple[str, float, int]]:
    """Return the most expensive operators of one batch: name, ms, calls. Only for MXNet's own modes."""
    from mxnet import profiler

    with tempfile.TemporaryDirectory() as folder:
        # The profiler deletes a file of this name, and writes one, which is not needed.
        profiler.set_config(profile_all=True, aggregate_stats=True, filename=os.path.join(folder, 'profile.json'))
        profiler.set_state('run')
        row.run(row.data)
        mx.nd.waitall()
        profiler.set_state('stop')
        table = json.loads(profiler.dumps(reset=True, format='json'))['Time'].get('operator', {})
    costs = [(name, entry['Total'], entry['Count']) for name, entry in table.items() if isinstance(entry, dict)]
    return sorted(costs, key=lambda cost: -cost[1])[:count]


def report(figures: Sequence[Dict[str, Any]]) -> None:
    base: Dict[Tuple[str, int], float] = {}
    print('ms/image  speed  spread  of peak  memory MB  difference  network, batch, mode, precision')
    for row in figures:
        first = base.setdefault((row['model'], row['batch_size']), row['ms_per_image'])
        memory = '' if row['peak_memory_mb'] is None else f'{row["peak_memory_mb"]:.0f}'
        print(
            f'{row["ms_per_image"]:8.3f} {first / row["ms_per_image"]:6.2f} {100 * row["spread"]:6.0f}% '
            f'{100 * row["share_of_matrix_peak"]:7.0f}% {memory:>10}  {row["relative_difference"]:10.1e}  '
            f'{row["model"]}, {row["batch_size"]}, {row["mode"]}, {row["precision"]}'
        )


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    # To profile operators one by one, this must be set before the graphs are built.
    if args.profile:
        os.environ['MXNET_EXEC_BULK_EXEC_INFERENCE'] = '0'
    with contextlib.ExitStack() as closing:
        rows = build(typed(Table, vars(args)), closing)
        return run(rows, args.repeats, args.seconds, args.profile, args.json)


def run(rows: Sequence[Row], repeats: int, seconds: float, profiled: bool, output: Optional[str]) -> int:
    """Measure, report, write the figures to `output`, and raise `UserError` if answers are wrong."""
    peaks = {precision: matrix_peak(precision) for precision in {row.precision for row in rows}}
    for _ in range(repeats):
        for row in rows:
            row.measure(seconds)
    figures = [row.figures(peaks) for row in rows]
    report(figures)
    for precision, peak in sorted(peaks.items()):
        print(f'matrix products in {precision}: {2 * peak / 1e9:.0f} GFLOP/s')
    if profiled:
        for row, entry in zip(rows, figures):
            if row.mode in _OF_MXNET:
                entry['operators'] = profile(row)
                print(f'{row.name}, {row.batch}, {row.mode}, {row.precision}:')
                for name, ms, calls in entry['operators']:
                    print(f'{ms:10.2f} ms {calls:5d} calls  {name}')
    if output:
        content = {'rows': figures, 'matrix_macs_per_second': peaks, 'threads': os.environ.get('OMP_NUM_THREADS')}
        write_json(output, content)
    for row in rows:
        allowed = TOLERANCE.get(row.precision, float('inf'))
        # In random networks some images are at a tipping point, where rounding alone changes the answers by more.
        if not row.typical_difference <= allowed:
            raise UserError(
                f'{row.name} in the mode {row.mode} ({row.precision}) differs by {row.typical_difference:.1e} of the '
                f'largest output (the median over its images), and {allowed} is allowed; please report this network'
            )
    return 0


if __name__ == '__main__':
    run_main(main)
