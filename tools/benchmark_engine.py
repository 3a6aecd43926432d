"""Compare the project's inference engine with OpenVINO, ONNX Runtime and PyTorch, if they are installed, in one table.

    python tools/benchmark_engine.py --json engine.json       # twenty minutes
    python tools/benchmark_engine.py --quick                  # four
    python tools/benchmark_engine.py --model resnet50_v1b,mobilenet_v2 --threads 4 --precision float32

Times are only meaningful on an otherwise idle machine. All modes of a cell take turns, and medians are compared. Cells
that did not fit into the time are listed. The engine remembers what it chose by measurement, so a second run gets
further in the same time.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from common.files import write_json
from common.schema import TABLE, read_json
from common.usage import described
from inference.choices import COMPARED, RUNTIMES
from training.config.fields import typed
from training.config.flags import number, output_file
from training.config.settings import Parser

#: The networks of the table in README, plain and small ones, and others than ResNets.
NETWORKS = (
    'resnet50_v1b',
    'dca_se_resnet50_v1b',
    'cbam_mobilenet_v2',
    'resnet18_v1b',
    'mobilenet_v2',
    'atac_resnet50_v1b',
    'dia_resnet50_v1b',
    'sk_resnet50_v1b',
    'cifar_atac_resnet20_v2',
    'cifar_se_resnet20_v2',
    'cifar_dia_resnet20_v2',
    'residual_attention56',
    'retinanet_resnet50_v1b',
)
OTHER_RUNTIMES = (*RUNTIMES, 'torch')
PRECISIONS = ('float32', 'bfloat16', 'int8')


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_engine.py', **described(__doc__))
    parser.add_argument(
        '--model', default=','.join(NETWORKS), metavar='NAMES', help='networks and detectors, separated by commas'
    )
    parser.add_argument('--batch-size', default='1,8,32', help='images per step, separated by commas')
    parser.add_argument('--threads', default='1,2', help='numbers of threads, separated by commas')
    parser.add_argument('--precision', default=','.join(PRECISIONS), help='precisions, separated by commas')
    parser.add_argument(
        '--modes', default=','.join(('own', 'optimized', *OTHER_RUNTIMES)), help=f'any of {", ".join(COMPARED)}'
    )
    parser.add_argument('--minutes', type=number(float, 0), default=20.0, help='time for the whole benchmark')
    parser.add_argument('--quick', action='store_true', help='four networks, float32, batches of 1 and 8, four minutes')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write all figures to this file')
    args = parser.parse_args(argv)
    if args.quick:
        for flag, value in (
            ('model', ','.join((*NETWORKS[:3], 'resnet18_v1b'))),
            ('batch_size', '1,8'),
            ('precision', 'float32'),
            ('minutes', 4.0),
        ):
            if getattr(args, flag) == parser.get_default(flag):
                setattr(args, flag, value)
    for flag in ('batch_size', 'threads'):
        values = getattr(args, flag).split(',')
        if not all(value.isdigit() and int(value) > 0 for value in values):
            raise UsageError(
                f'--{flag.replace("_", "-")} {getattr(args, flag)} must be whole numbers above 0, separated by commas'
            )
        setattr(args, flag, list(map(int, values)))
    for flag, allowed in (('precision', PRECISIONS), ('modes', COMPARED)):
        values = getattr(args, flag).split(',')
        for value in values:
            if value not in allowed:
                raise UsageError(f'--{flag} has {value!r}; allowed: {", ".join(allowed)}')
        setattr(args, flag, values)
    args.model = args.model.split(',')
    return args


answer_flags(__name__, parse)
require_mxnet()

from _engine_table import OWN, built, network_of

from inference.comparison.startup import startups

#: The plain network that each network with attention extends.
PLAIN = {
    'dca_se_resnet50_v1b': 'resnet50_v1b',
    'atac_resnet50_v1b': 'resnet50_v1b',
    'dia_resnet50_v1b': 'resnet50_v1b',
    'sk_resnet50_v1b': 'resnet50_v1b',
    'cbam_mobilenet_v2': 'mobilenet_v2',
}


WITHOUT_GATES = ('resnet', 'mobilenet', 'retinanet_resnet', 'cifar_resnet')


# Goals: the speed relative to the fastest other runtime's; the same for networks with gates in float32; and the cost of
# attention relative to that of its multiply-adds.
EVEN, WITH_GATES, COST = 1.0, 1.1, 1.1


# The share of the time that start-up measurements get, and the weight of each precision in the rest.
STARTS, WORTH = 0.08, {'float32': 4, 'bfloat16': 1, 'int8': 1}


@dataclass(frozen=True)
class Table:
    """The networks, batches and modes of each precision and number of threads."""

    model: List[str]
    batch_size: List[int]
    modes: List[str]


def measured(table: Table, threads: int, precision: str, seconds: float) -> Dict[str, Any]:
    """Measure all cells of a precision, in a process with `threads` threads and for `seconds`; return its results."""
    cells = [[name, batch, precision] for batch, name in itertools.product(table.batch_size, table.model)]
    with tempfile.TemporaryDirectory() as folder:
        order, output = Path(folder, 'order.json'), Path(folder, 'rows.json')
        write_json(order, {'cells': cells, 'modes': table.modes, 'seconds': seconds, 'output': str(output)})
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name('_engine_table.py')), str(order)],
            env={**os.environ, 'OMP_NUM_THREADS': str(threads)},
            cwd=_bootstrap.ROOT,
        )
        if done.returncode:
            raise UserError(
                f'the process that measures with {threads} threads ended with status {done.returncode}; see above'
            )
        return read_json(output, TABLE)


def judged(content: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return a row for each cell of a run: times, speed beside the fastest other runtime, shares, and the verdict."""
    own = {(row['model'], row['batch']): row for row in content['rows'] if OWN in row['ms']}
    result = []
    for row in content['rows']:
        ms = row['ms']
        others = {mode: ms[mode] for mode in OTHER_RUNTIMES if mode in ms}
        found = {**row, 'threads': content['threads'], 'instructions': content['instructions']}
        if OWN in ms:
            peak = content['matrix_macs_per_second'][row['precision']]
            found['share_of_matrix_peak'] = row['macs'] / (ms[OWN] / 1000) / peak
            plain = own.get((PLAIN.get(row['model']), row['batch']))
            if plain is not None:
                found['cost_of_attention'] = ms[OWN] / plain['ms'][OWN] / (row['macs'] / plain['macs'])
        if OWN in ms and others:
            faster = min(others, key=others.get)
            gates = row['precision'] == 'float32' and not row['model'].startswith(WITHOUT_GATES)
            wanted = WITH_GATES if gates else EVEN
            found.update(faster=faster, ratio=others[faster] / ms[OWN], wanted=wanted)
            found['passes'] = found['ratio'] >= wanted and found.get('cost_of_attention', 0) <= COST
        result.append(found)
    return result


def report(rows: Sequence[Dict[str, Any]], modes: Sequence[str]) -> None:
    print(f'| network | batch | threads | precision | {" | ".join(modes)} | ratio | of peak | cost of attention |')
    print(f'|---|---:|---:|---|{"---:|" * len(modes)}---:|---:|---:|')
    for row in rows:
        times = [f'{row["ms"][mode]:.2f}' if mode in row['ms'] else '' for mode in modes]
        ratio = '' if 'ratio' not in row else f'{row["ratio"]:.2f}{"" if row["passes"] else " (!)"}'
        share = f'{100 * row["share_of_matrix_peak"]:.0f} %' if 'share_of_matrix_peak' in row else ''
        cost = f'{row["cost_of_attention"]:.2f}' if 'cost_of_attention' in row else ''
        words = [f'`{row["model"]}`', row['batch'], row['threads'], row['precision'], *times, ratio, share, cost]
        print(f'| {" | ".join(map(str, words))} |')


def starts(names: Sequence[str], seconds: float) -> Dict[str, Any]:
    """Measure start-up time and memory of as many networks as there is time for, in one thread."""
    found: Dict[str, Any] = {}
    begin = time.monotonic()
    for name in names:
        if found and time.monotonic() - begin > seconds:
            break
        net, side, _ = network_of(name)
        with tempfile.TemporaryDirectory() as folder:
            found[name] = startups(net, side, 1, Path(folder, 'exported'))
    return found


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    for name in args.model:
        try:
            built(name)
        except ValueError as error:
            raise UsageError(f'--model: {error}') from error
    end = time.monotonic() + 60 * args.minutes
    started = starts(args.model, STARTS * 60 * args.minutes)
    runs = [(threads, precision) for precision in args.precision for threads in args.threads]
    rows: List[Dict[str, Any]] = []
    late: List[Any] = []
    said: Dict[str, Any] = {}
    for place, (threads, precision) in enumerate(runs):
        weights = [WORTH[each] for _, each in runs[place:]]
        seconds = max(0.0, end - time.monotonic()) * weights[0] / sum(weights)
        said = measured(typed(Table, vars(args)), threads, precision, seconds)
        rows += judged(said)
        late += [[*cell, threads] for cell in said['out_of_time']]
    report(rows, args.modes)
    for name, each in started.items():
        told = ', '.join(f'{mode} {row["seconds"]:.2f} s and {row["peak_mb"]:.0f} MB' for mode, row in each.items())
        print(f'start to first answer and peak memory of {name}: {told}')
    for model, batch, precision, threads in late:
        print(f'no time for {model}, {batch}, {precision}, {threads} threads', file=sys.stderr)
    print(f'{said.get("processor")}, {said.get("instructions")}: {sum(row.get("passes", False) for row in rows)} of '
          f'{sum("passes" in row for row in rows)} cells reach their goals')  # fmt: skip
    if args.json:
        keys = ('processor', 'instructions', 'matrix_macs_per_second')
        write_json(
            args.json, {**{key: said[key] for key in keys}, 'rows': rows, 'starts': started, 'out_of_time': late}
        )
    return 0


if __name__ == '__main__':
    run_main(main)
