"""Turn files of tools/benchmark.py into one Markdown table, and compare their ratios with the goals.

    python tools/benchmark_table.py results/*.json
    python tools/benchmark_table.py results/*.json --check docs/inference-and-shipping.md
    python tools/benchmark_table.py results/*.json results/inference/*.json --update docs/inference-and-shipping.md

Each file is one run, whose rows took turns; ratios are taken within a run, never between two. A row that occurs in
several runs is shown with the median of its times. Files of tools/benchmark_attention.py and
tools/benchmark_training.py become tables of their own.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, run_main  # isort: split

import argparse
import statistics
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from _beside_torch_table import BESIDE_TORCH, beside_torch_table
from _readme import settle
from common.files import write_json
from common.schema import TABLE, check_schema, read_json
from common.usage import described
from training.config.settings import Parser

PLAIN = 'resnet50_v1b'
#: Column titles, and (mode, precision) of the row that fills them.
COLUMNS = {
    'imperative': ('imperative', 'float32'),
    "`hybridize()`, MXNet's threads": ('defaults', 'float32'),
    'optimized': ('optimized', 'float32'),
    'bfloat16': ('optimized', 'bfloat16'),
    'int8': ('optimized', 'int8'),
    'ONNX Runtime': ('onnxruntime', 'float32'),
    'its int8': ('onnxruntime', 'int8'),
    'OpenVINO': ('openvino', 'float32'),
    'its bfloat16': ('openvino', 'bfloat16'),
    'its int8 ': ('openvino', 'int8'),
    'torch, frozen': ('torch', 'float32'),
}
Key = Tuple[str, int, str, str]  # network, batch, mode, precision


class Goal(NamedTuple):
    """A goal: ``faster`` is to be at least ``ratio`` times as fast as ``slower``."""

    name: str
    slower: Tuple[str, str]
    faster: Tuple[str, str]
    ratio: float


GOALS = (
    Goal('float32 / hybridize() with defaults', ('defaults', 'float32'), ('optimized', 'float32'), 1.9),
    Goal('float32 / ONNX Runtime', ('onnxruntime', 'float32'), ('optimized', 'float32'), 1.3),
    Goal('float32 / OpenVINO', ('openvino', 'float32'), ('optimized', 'float32'), 1.0),
    Goal('bfloat16 / float32', ('optimized', 'float32'), ('optimized', 'bfloat16'), 1.5),
    Goal('int8 / float32', ('optimized', 'float32'), ('optimized', 'int8'), 3.5),
    Goal('int8 / OpenVINO int8', ('openvino', 'int8'), ('optimized', 'int8'), 1.0),
)
#: What attention may cost: its ratio of times over its ratio of multiply-adds, both relative to plain ResNet-50.
ATTENTION = 1.15
#: What each ratio of tools/benchmark_training.py means.
TRAINING = {
    'baseline_to_model_step': "a training step's time / that of `{baseline}`",
    'muon_to_nag_step': "a training step's time with `--optimizer muon` / with `nag`",
    'loop_to_bare': 'images/s of the whole loop / of the bare step',
    'to_default_threads': "images/s / with MXNet's default threads",
    'to_original_data': "images/s / with the original's data pipeline",
    'to_original': 'images/s / with both',
    'feeding_to_bare': 'images/s of the data pipeline alone / of the bare step',
    'to_original_feeding': "images/s of the data pipeline alone / of the original's",
}


def training_table(content: Dict[str, Any]) -> str:
    """Return a table of the ratios of a run of tools/benchmark_training.py."""
    lines = [f'| `{content["model"]}`, batch {content["batch_size"]} | |', '| --- | ---: |']
    lines += [f'| {text.format(**content)} | {content["ratios"][name]:.2f} |' for name, text in TRAINING.items()]
    if content['modes']:
        speeds = ' / '.join(f'{speed:.0f}' for speed in content['modes'].values())
        lines.append(f'| images/s, {" / ".join(content["modes"])}, as `--mode auto` finds them | {speeds} |')
    return '\n'.join(lines)


# The schemas of what is read from the files.
_RATIO = {'ratio': float, ...: object}
_COST = {**dict.fromkeys(('label', 'model'), str), 'macs_ratio': float, 'step': _RATIO, 'forward': _RATIO, ...: object}
COSTS = {'backbone': str, 'batch_size': int, 'rows': [_COST], ...: object}
RATIOS = {
    **dict.fromkeys(('model', 'baseline'), str),
    'batch_size': int,
    'ratios': {**dict.fromkeys(TRAINING, float), ...: object},
    'modes': {...: float},
    ...: object,
}
_ROW = {**dict.fromkeys(('model', 'mode', 'precision'), str), 'batch_size': int, 'ms_per_image': float, 'macs': float}
RUNS = {'rows': [{**_ROW, ...: object}], ...: object}


class Results(NamedTuple):
    """The rows of each file of benchmark.py, each of benchmark_attention.py, and tables of benchmark_training.py's."""

    runs: List[Dict[Key, Dict[str, Any]]]
    costs: List[Dict[str, Any]]
    trainings: List[str]  # already tables
    beside_torch: List[str]  # the same


def read(paths: Sequence[str]) -> Results:
    """Return what the files contain. Raises `UserError` for a file that no benchmark wrote."""
    results = Results([], [], [], [])
    for path in paths:
        try:
            content = read_json(path, TABLE)
            if 'backbone' in content:
                check_schema(content, COSTS)
                results.costs.append(content)
                continue
            if 'beside_torch' in content:
                check_schema(content, BESIDE_TORCH)
                results.beside_torch.append(beside_torch_table(content))
                continue
            if 'ratios' in content:
                check_schema(content, RATIOS)
                results.trainings.append(training_table(content))
                continue
            check_schema(content, RUNS)
            results.runs.append({(r['model'], r['batch_size'], r['mode'], r['precision']): r for r in content['rows']})
        except (OSError, ValueError) as error:
            raise UserError(f'{path} was not written by tools/benchmark.py --json ({error}); measure again') from error
    return results


def cost_table(content: Dict[str, Any]) -> str:
    """Return a table of what attention costs on a backbone: ratios to the plain network, a line for each unit."""
    lines = [
        f'| `{content["backbone"]}`, batch {content["batch_size"]} | multiply-adds | training step | forward pass |',
        '| --- | ---: | ---: | ---: |',
    ]
    for row in content['rows']:
        name, *options = row['label'].split(':')
        figures = (row['macs_ratio'], row['step']['ratio'], row['forward']['ratio'])
        label = ', '.join([f'`{name}`', *(f'`{option}`' for option in options)])
        lines.append(f'| {label} | ' + ' | '.join(f'{value:.2f}' for value in figures) + ' |')
    return '\n'.join(lines)


def times(runs: Sequence[Dict[Key, Dict[str, Any]]]) -> Dict[Key, float]:
    """Return the milliseconds per image of each row, the median over the runs in which it occurs."""
    found: Dict[Key, List[float]] = {}
    for run in runs:
        for key, row in run.items():
            found.setdefault(key, []).append(row['ms_per_image'])
    return {key: statistics.median(values) for key, values in found.items()}


def table(runs: Sequence[Dict[Key, Dict[str, Any]]]) -> str:
    """Return a table of milliseconds per image, with a line for each network and batch."""
    cells = times(runs)
    used = {title: key for title, key in COLUMNS.items() if any(cell[2:] == key for cell in cells)}
    lines = ['| network | batch | ' + ' | '.join(title.strip() for title in used) + ' |']
    lines.append('|---|---:|' + '---:|' * len(used))
    for name, batch in sorted({key[:2] for key in cells}, key=lambda key: (key[0] != PLAIN, key)):
        values = [cells.get((name, batch, *key)) for key in used.values()]
        texts = ['' if value is None else f'{value:.1f}' for value in values]
        lines.append(f'| `{name}` | {batch} | ' + ' | '.join(texts) + ' |')
    return '\n'.join(lines)


def ratios(runs: Sequence[Dict[Key, Dict[str, Any]]]) -> Iterator[Dict[str, Any]]:
    """Yield, for each row and each goal that applies to it, the ratio found and whether the goal is met."""
    for run in runs:
        cells = times([run])
        for name, batch in dict.fromkeys(key[:2] for key in cells):
            for goal in GOALS:
                slower, faster = (cells.get((name, batch, *key)) for key in (goal.slower, goal.faster))
                if slower is not None and faster is not None:
                    yield _verdict(goal.name, name, batch, slower / faster, goal.ratio, slower / faster >= goal.ratio)
            for precision in ('float32', 'bfloat16', 'int8'):
                ours, plain = (run.get((who, batch, 'optimized', precision)) for who in (name, PLAIN))
                if name != PLAIN and ours and plain:
                    cost = ours['ms_per_image'] / plain['ms_per_image'] / (ours['macs'] / plain['macs'])
                    text = f'{precision}: time over {PLAIN}, by MACs'
                    yield _verdict(text, name, batch, cost, ATTENTION, cost <= ATTENTION)


def _verdict(goal: str, name: str, batch: int, found: float, wanted: float, met: bool) -> Dict[str, Any]:
    return {'goal': goal, 'model': name, 'batch_size': batch, 'found': found, 'wanted': wanted, 'met': met}


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = Parser(prog='benchmark_table.py', **described(__doc__))
    parser.add_argument('files', nargs='+', metavar='FILE', help='files that tools/benchmark.py --json wrote')
    parser.add_argument('--update', type=Path, metavar='FILE', help='update the tables in this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='fail if the tables in this file are out of date')
    parser.add_argument('--json', metavar='FILE', help='write the ratios to this file')
    args: argparse.Namespace = parser.parse_args(argv)
    if args.update and args.check:
        raise UsageError('--update and --check are both given; give one of them')
    if args.json and (args.update or args.check):
        raise UsageError('--json writes ratios, which --update and --check do not compute; leave it out')
    runs, costs, trainings, beside_torch = read(args.files)
    if args.update or args.check:
        tables = {'inference': table(runs)} if runs else {}
        tables.update({'attention': '\n\n'.join(map(cost_table, costs))} if costs else {})
        tables.update({'training': '\n\n'.join(trainings)} if trainings else {})
        tables.update({'beside-torch': '\n\n'.join(beside_torch)} if beside_torch else {})
        command = f'python tools/benchmark_table.py {" ".join(args.files)} --update {args.check}'
        settle(args.update or args.check, tables, bool(args.check), command)
        return 0
    for one in [*map(cost_table, costs), *trainings, *beside_torch]:
        print(one + '\n')
    if runs:
        print(table(runs))
    elif args.json:
        raise UsageError('--json writes the ratios of files of tools/benchmark.py, and none is given; leave it out')
    else:
        return 0
    print('\n| goal | network | batch | wanted | found | |\n|---|---|---:|---:|---:|---|')
    found = list(ratios(runs))
    for row in sorted(found, key=lambda row: (row['goal'], row['model'], row['batch_size'])):
        print(
            f'| {row["goal"]} | `{row["model"]}` | {row["batch_size"]} | {row["wanted"]:.2f} | {row["found"]:.2f} | '
            f'{"met" if row["met"] else "missed"} |'
        )
    if args.json:
        write_json(args.json, found)
    return 0


if __name__ == '__main__':
    run_main(main)
