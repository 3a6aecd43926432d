"""Compare the project's inference engine with OpenVINO, ONNX Runtime and PyTorch, if they are installed, in one table.

    python tools/benchmark_engine.py --json engine.json       # twenty minutes
    python tools/benchmark_engine.py --quick                  # four
    python tools/benchmark_engine.py --model resnet50_v1b,mobilenet_v2 --threads 4 --precision float32
    python tools/benchmark_engine.py --isa native,avx2 --json engine.json --resume --minutes 1.5    # the next piece

Times are only meaningful on an otherwise idle machine. All modes of a cell take turns, and medians are compared. Cells
that did not fit into the time are listed. The file receives each cell as soon as it is measured, and `--resume`
continues with the others, so that a long table can be measured in pieces. The engine remembers what it chose by
measurement, so a second run gets further in the same time.

On a processor with AVX-512, `--isa avx2` restricts the engine to AVX2 (and AVX-VNNI), and so it does oneDNN within
OpenVINO and PyTorch; OpenVINO's own elementwise kernels still use AVX-512. ONNX Runtime cannot be restricted: its times
are printed, but not compared, and neither are OpenVINO's if its convolutions turn out to be others.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from common.files import write_json
from common.schema import read_json
from common.usage import described
from environment.cpu import processor
from inference.choices import COMPARED, RUNTIMES
from kernels.place import ISA
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
    'cifar_resnet20_v2',
    'cifar_atac_resnet20_v2',
    'cifar_se_resnet20_v2',
    'cifar_dia_resnet20_v2',
    'residual_attention56',
    'retinanet_resnet50_v1b',
)
OTHER_RUNTIMES = (*RUNTIMES, 'torch')
PRECISIONS = ('float32', 'bfloat16', 'int8')
ISAS = ('native', 'avx2')


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_engine.py', **described(__doc__))
    parser.add_argument(
        '--model', default=','.join(NETWORKS), metavar='NAMES', help='networks and detectors, separated by commas'
    )
    parser.add_argument('--batch-size', default='1,8,32', help='images per step, separated by commas')
    parser.add_argument('--threads', default='1,2', help='numbers of threads, separated by commas')
    parser.add_argument('--precision', default=','.join(PRECISIONS), help='precisions, separated by commas')
    parser.add_argument('--isa', default='native', help=f'instruction sets, of {" and ".join(ISAS)}')
    parser.add_argument(
        '--modes', default=','.join(('own', 'optimized', *OTHER_RUNTIMES)), help=f'any of {", ".join(COMPARED)}'
    )
    parser.add_argument('--minutes', type=number(float, 0), default=20.0, help='time for the whole benchmark')
    parser.add_argument('--quick', action='store_true', help='four networks, float32, batches of 1 and 8, four minutes')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write all figures to this file')
    parser.add_argument(
        '--resume', action='store_true', help='keep the cells of the --json file and measure the others'
    )
    args = parser.parse_args(argv)
    if args.resume and args.json is None:
        raise UsageError('--resume needs --json, the file that it continues')
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
    for flag, allowed in (('precision', PRECISIONS), ('modes', COMPARED), ('isa', ISAS)):
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
    'cifar_atac_resnet20_v2': 'cifar_resnet20_v2',
    'cifar_se_resnet20_v2': 'cifar_resnet20_v2',
    'cifar_dia_resnet20_v2': 'cifar_resnet20_v2',
}


WITHOUT_GATES = ('resnet', 'mobilenet', 'retinanet_resnet', 'cifar_resnet')


# Goals: the speed relative to the fastest other runtime's; the same for networks with gates in float32; and the cost of
# attention relative to that of its multiply-adds.
EVEN, WITH_GATES, COST = 1.0, 1.1, 1.1


# The share of the time that start-up measurements get, and the weight of each precision in the rest.
STARTS, WORTH = 0.08, {'float32': 4, 'bfloat16': 1, 'int8': 1}
# With --resume: the most seconds for the turns of a cell, and the fewest left for which a process is started.
LONGEST, WORTHWHILE = 6.0, 15.0
# What restricts the other runtimes to AVX2. OpenVINO and PyTorch have oneDNN, which else uses what it finds.
RESTRICTED = {ISA: 'avx2', 'ONEDNN_MAX_CPU_ISA': 'AVX2_VNNI', 'DNNL_MAX_CPU_ISA': 'AVX2', 'ATEN_CPU_CAPABILITY': 'avx2'}


@dataclass(frozen=True)
class Asked:
    """The cells that the table is to have."""

    model: List[str]
    batch_size: List[int]
    threads: List[int]
    precision: List[str]
    isa: List[str]
    modes: List[str]
    resume: bool

    def groups(self) -> List['Group']:
        return [Group(*each) for each in itertools.product(self.isa, self.precision, self.threads)]


class Group(NamedTuple):
    """Cells that one process measures."""

    isa: str
    precision: str
    threads: int


def measured(
    group: Group, cells: Sequence[Any], modes: Sequence[str], seconds: float, longest: float
) -> Iterator[Dict[str, Any]]:
    """Measure cells (model, batch, precision) in a process of their own, for ``seconds``; yield a row for each."""
    restricted = RESTRICTED if group.isa == 'avx2' else {}
    reading, writing = os.pipe()
    order = {'cells': list(cells), 'modes': list(modes), 'seconds': seconds, 'longest': longest, 'answers': writing}
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder, 'order.json'), order)
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name('_engine_table.py')), str(Path(folder, 'order.json'))],
            env={**os.environ, **restricted, 'OMP_NUM_THREADS': str(group.threads)},
            cwd=_bootstrap.ROOT,
            pass_fds=[writing],
        )
        os.close(writing)
        try:
            with os.fdopen(reading) as answers:
                for line in answers:
                    yield {**json.loads(line), 'isa': group.isa}
        except BaseException:
            process.terminate()
            raise
        finally:
            status = process.wait()
    if status:
        raise UserError(f'the process that measures {group.precision} with {group.threads} threads ended with status '
                        f'{status}; see above')  # fmt: skip


def place_of(row: Dict[str, Any], model: Optional[str] = None) -> Any:
    """Return what identifies a row, or the row of another ``model`` beside it."""
    return (row['isa'], row['precision'], row['threads'], row['batch'], model or row['model'])


def judged(rows: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return the rows with speed beside the fastest other runtime, shares, and the verdict."""
    own = {place_of(row): row for row in rows if OWN in row['ms']}
    result = []
    for row in rows:
        ms = row['ms']
        others = {mode: ms[mode] for mode in OTHER_RUNTIMES if mode in ms and mode not in row.get('beyond', ())}
        found = dict(row)
        if OWN in ms:
            if row['precision'] == 'float32':  # MXNet's oneDNN, which gives the peak, knows no tiles for the others
                found['share_of_matrix_peak'] = row['macs'] / (ms[OWN] / 1000) / row['matrix_macs_per_second']
            plain = own.get(place_of(row, PLAIN[row['model']])) if row['model'] in PLAIN else None
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
    heads = [
        'network',
        'batch',
        'threads',
        'instructions',
        'precision',
        *modes,
        'ratio',
        'of peak',
        'cost of attention',
    ]
    print(f'| {" | ".join(heads)} |')
    print(f'|---|---:|---:|---|---|{"---:|" * len(modes)}---:|---:|---:|')
    for row in rows:
        times = [f'{row["ms"][mode]:.2f}' if mode in row['ms'] else '' for mode in modes]
        ratio = '' if 'ratio' not in row else f'{row["ratio"]:.2f}{"" if row["passes"] else " (!)"}'
        share = f'{100 * row["share_of_matrix_peak"]:.0f} %' if 'share_of_matrix_peak' in row else ''
        cost = f'{row["cost_of_attention"]:.2f}' if 'cost_of_attention' in row else ''
        words = [f'`{row["model"]}`', row['batch'], row['threads'], row['instructions'], row['precision']]
        print(f'| {" | ".join(map(str, [*words, *times, ratio, share, cost]))} |')


def tell_attention(rows: Sequence[Dict[str, Any]]) -> None:
    """Print what attention costs beside its multiply-adds, for each network from its own cells."""
    costs: Dict[str, List[Any]] = {}
    for row in rows:
        if 'cost_of_attention' in row:
            where = f'{row["batch"]}, {row["precision"]}, {row["threads"]} threads, {row["instructions"]}'
            costs.setdefault(row['model'], []).append((row['cost_of_attention'], where))
    for name, found in costs.items():
        above = [f'{cost:.2f} ({where})' for cost, where in found if cost > COST]
        told = f'above {COST} in {len(above)} of {len(found)} cells: {"; ".join(above)}' if above else 'no cell above'
        print(f'time of {name} over that of {PLAIN[name]}, over the ratio of multiply-adds: at most '
              f'{max(cost for cost, _ in found):.2f}, {told}')  # fmt: skip


def starts(names: Sequence[str], seconds: float) -> Iterator[Any]:
    """Measure start-up time and memory of as many networks as there is time for, in one thread."""
    begin = time.monotonic()
    for place, name in enumerate(names):
        if place and time.monotonic() - begin > seconds:
            break
        net, side, _ = network_of(name)
        with tempfile.TemporaryDirectory() as folder:
            yield name, startups(net, side, 1, Path(folder, 'exported'))


class Table:
    """The rows and starts so far, in a file that receives each as it comes."""

    def __init__(self, path: Optional[str], resume: bool) -> None:
        self.path = path
        self.rows: List[Dict[str, Any]] = []
        self.starts: Dict[str, Any] = {}
        if resume and Path(path).exists():
            known = read_json(path, {'rows': [{...: object}], 'starts': {...: object}, ...: object})
            self.rows, self.starts = known['rows'], known['starts']

    def keep(self, late: Sequence[Any] = ()) -> None:
        if self.path is not None:
            content = {'processor': processor().name, 'rows': judged(self.rows), 'starts': self.starts}
            write_json(self.path, {**content, 'out_of_time': list(late)})

    def without(self, group: Group, asked: Asked) -> List[Any]:
        """Return the cells of a group that are not measured yet."""
        known = {place_of(row) for row in self.rows}
        cells = itertools.product(asked.batch_size, asked.model)
        return [(name, batch, group.precision) for batch, name in cells if (*group, batch, name) not in known]


def measure_all(asked: Asked, table: Table, end: float) -> None:
    groups = [group for group in asked.groups() if table.without(group, asked)]
    for place, group in enumerate(groups):
        left = max(0.0, end - time.monotonic())
        if asked.resume:  # one group after the other, each cell with the time that it needs
            if place and left < WORTHWHILE:
                break
            seconds, longest = left, LONGEST
        else:
            weights = [WORTH[each.precision] for each in groups[place:]]
            seconds = longest = left * weights[0] / sum(weights)
        for row in measured(group, table.without(group, asked), asked.modes, seconds, longest):
            table.rows.append(row)
            table.keep()


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    for name in args.model:
        try:
            built(name)
        except ValueError as error:
            raise UsageError(f'--model: {error}') from error
    try:
        table = Table(args.json, args.resume)
    except ValueError as error:
        raise UserError(f'--json {args.json} cannot be continued ({error}); name another file') from error
    end = time.monotonic() + 60 * args.minutes
    names = [name for name in args.model if name not in table.starts]
    if not args.resume:
        table.starts.update(starts(names, STARTS * 60 * args.minutes))
    asked = typed(Asked, vars(args))
    measure_all(asked, table, end)
    late = [[*cell, group.threads, group.isa] for group in asked.groups() for cell in table.without(group, asked)]
    if args.resume and not late:
        for name, found in starts(names, end - time.monotonic()) if end > time.monotonic() else ():
            table.starts[name] = found
            table.keep()
    rows = judged(table.rows)
    report(rows, args.modes)
    tell_attention(rows)
    for name, each in table.starts.items():
        told = ', '.join(f'{mode} {row["seconds"]:.2f} s and {row["peak_mb"]:.0f} MB' for mode, row in each.items())
        print(f'start to first answer and peak memory of {name}: {told}')
    for model, batch, precision, threads, isa in late:
        print(f'no time for {model}, {batch}, {precision}, {threads} threads, {isa}', file=sys.stderr)
    print(f'{processor().name}: {sum(row.get("passes", False) for row in rows)} of '
          f'{sum("passes" in row for row in rows)} cells reach their goals')  # fmt: skip
    table.keep(late)
    return 0


if __name__ == '__main__':
    run_main(main)
