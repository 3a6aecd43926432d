"""Measure what attention costs: the times of a training step and a forward pass, relative to the plain backbone's.

    python tools/benchmark_attention.py
    python tools/benchmark_attention.py --batch-size 1 --mode hybrid --json attention.json
    python tools/benchmark_attention.py --backbone mobilenet_v2 --attention se,dca_se --batch-size 16
    python tools/benchmark_attention.py --attention dia:layers=2:reduction=16,share_se --json attention.json --add

Each network takes turns with the plain backbone, and the ratio of their medians is printed beside the ratio of their
multiply-adds. Rows in which the ratio of times is more than 1.5 times that of multiply-adds are marked.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import gc
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from common.files import write_json
from common.schema import read_json
from common.usage import described
from training.config.flags import number, output_file
from training.config.model_options import with_options
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_attention.py', **described(__doc__))
    parser.add_argument('--backbone', default='resnet50_v1b', help='name of the plain network')
    parser.add_argument(
        '--attention',
        metavar='NAME[:OPTION=VALUE...]',
        help='units and connections, separated by commas, each with arguments of get_model if wanted, as dia:layers=2; '
        'plain is the network without any (default: all that it takes)',
    )
    parser.add_argument('--batch-size', type=number(int, 1), default=8, help='images per step')
    parser.add_argument('--mode', default='static', choices=('imperative', 'hybrid', 'static'), help='how networks run')
    parser.add_argument('--repeats', type=number(int, 1), default=3, help='number of turns of each network')
    parser.add_argument('--steps', type=number(int, 1), default=2, help='training steps in a turn')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    parser.add_argument(
        '--add', action='store_true', help='keep the rows that the file has, and measure those it lacks'
    )
    return parser.parse_args(argv)


answer_flags(__name__, parse)
require_mxnet()

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import kernels
from model import count, get_model, input_size
from model.grammar import attention_names, split_name
from model.hybridization import apply_mode

# If the ratio of times exceeds that of multiply-adds by more than this factor, something besides arithmetic costs time.
EXCESS = 1.5


class Timed:
    """A network to time, with one copy for training steps and one for forward passes."""

    def __init__(self, name: str, options: Dict[str, Any], batch: int, mode: str) -> None:
        size = input_size(name)
        self.macs = count(get_model(name, **options), (1, 3, size, size)).macs
        self.data = mx.nd.array(np.random.RandomState(0).randn(batch, 3, size, size).astype(np.float32))
        self.labels = mx.nd.zeros(batch)
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self.trained, self.run = (self._network(name, options, mode) for _ in range(2))
        self.trainer = gluon.Trainer(self.trained.collect_params(), 'nag', {'learning_rate': 1e-4, 'momentum': 0.9})

    @staticmethod
    def _network(name: str, options: Dict[str, Any], mode: str) -> gluon.HybridBlock:
        mx.random.seed(0)
        net = get_model(name, **options)
        net.initialize(mx.init.MSRAPrelu())
        apply_mode(net, mode)
        return net

    def step(self) -> None:
        with autograd.record(), kernels.fusing():  # as the training scripts do
            loss = self.loss(self.trained(self.data), self.labels)
        loss.backward()
        self.trainer.step(len(self.data))

    def forward(self) -> None:
        self.run(self.data)


def seconds(what: Callable[[], None], repeats: int) -> float:
    """Return the mean time of a call over `repeats` calls, which MXNet may overlap."""
    start = time.perf_counter()
    for _ in range(repeats):
        what()
    mx.nd.waitall()
    return (time.perf_counter() - start) / repeats


def compare(timed: Timed, plain: Timed, steps: int, repeats: int) -> Dict[str, Any]:
    """Time both in turns, `repeats` times `steps` training steps each, and return ratios and medians."""
    row: Dict[str, Any] = {'macs_ratio': timed.macs / plain.macs}
    for what in ('step', 'forward'):
        calls = steps if what == 'step' else 3 * steps
        times: Dict[str, List[float]] = {'plain': [], 'attention': []}
        for turn in range(repeats + 1):
            for key, one in (('plain', plain), ('attention', timed)):
                value = seconds(getattr(one, what), calls)
                if turn:  # the first builds the graph and plans its memory
                    times[key].append(value)
        medians = {key: statistics.median(values) for key, values in times.items()}
        row[what] = {
            'ratio': medians['attention'] / medians['plain'],
            'ms': {key: 1000 * value for key, value in medians.items()},
        }
    return row


class Unit(NamedTuple):
    """A network to measure: the text that names its unit, its name, and its other arguments of get_model."""

    label: str
    model: str
    options: Dict[str, Any]


def chosen(backbone: str, attention: Optional[str]) -> List[Unit]:
    """Return the units and connections that --attention names, or all that the backbone takes."""
    try:
        possible = [part.rstrip('_') for part in attention_names(split_name(backbone).row) if part]
    except ValueError as error:
        raise UsageError(f'--backbone: {error}') from error
    lead = 'cifar_' if backbone.startswith('cifar_') else ''
    units = []
    for label in attention.split(',') if attention else possible:
        name, *options = label.split(':')
        if name not in (*possible, 'plain'):
            raise UsageError(f'--attention has {name!r}; {backbone} takes {", ".join(["plain", *possible])}')
        model = backbone if name == 'plain' else f'{lead}{name}_{backbone[len(lead) :]}'
        units.append(Unit(label, model, _values(model, options)))
    return units


def _values(model: str, options: Sequence[str]) -> Dict[str, Any]:
    try:
        values = with_options({}, ','.join(options))
        get_model(model, **values)
    except ValueError as error:
        raise UsageError(f'--attention: {error}; it takes NAME:OPTION=VALUE, as dia:layers=2') from error
    return values


def kept(path: Optional[str], settings: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the rows of the file that --add extends, which was measured with the same settings."""
    if not path:
        raise UsageError('--add extends the file of --json; give both')
    if not Path(path).exists():
        return []
    content = read_json(path)
    before = {key: content.get(key) for key in settings}
    if before != settings:
        raise UsageError(f'--add: {path} is of {before}; give the same --backbone, --batch-size and --mode')
    return content['rows']


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    settings = {'backbone': args.backbone, 'batch_size': args.batch_size, 'mode': args.mode}
    rows = kept(args.json, settings) if args.add else []
    plain = Timed(args.backbone, {}, args.batch_size, args.mode)
    print(f'{args.backbone}, batch {args.batch_size}, {args.mode}: ratios to the plain network')
    print(f'{"attention":<24}{"multiply-adds":>15}{"step":>8}{"forward":>9}')
    for unit in chosen(args.backbone, args.attention):
        if any(row['label'] == unit.label for row in rows):
            continue
        timed = Timed(unit.model, unit.options, args.batch_size, args.mode)
        row = {'label': unit.label, 'model': unit.model, **compare(timed, plain, args.steps, args.repeats)}
        rows.append(row)
        del timed
        gc.collect()
        marks = [what for what in ('step', 'forward') if row[what]['ratio'] > EXCESS * row['macs_ratio']]
        print(
            f'{unit.label:<24}{row["macs_ratio"]:>15.3f}{row["step"]["ratio"]:>8.2f}{row["forward"]["ratio"]:>9.2f}'
            + (f'  more than {EXCESS} times the multiply-adds: {", ".join(marks)}' if marks else ''),
            flush=True,
        )
        if args.json:
            write_json(args.json, {**settings, 'rows': rows})
    return 0


if __name__ == '__main__':
    run_main(main)
