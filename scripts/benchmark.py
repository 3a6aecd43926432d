"""Time a network's inference op by op, as a graph, and as a graph with fixed memory, and check that they agree.

    python scripts/benchmark.py --params RUN/best.params
    python scripts/benchmark.py --model cifar_atac_resnet20_v2 --batch-size 128

The modes take turns, and medians are reported, so that whatever else the machine does hits them alike.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401
from environment import require_mxnet, run_main

require_mxnet()

import argparse
import json
import statistics
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from environment import UsageError, UserError
from environment.files import atomic_write
from inference.network import load_network
from model import get_model, input_size
from model.parameters import set_params
from training.mode import MODES, apply_mode
from training.options import number
from training.settings import Parser

# Between modes, relative to the largest logit: float32 sums in another order.
TOLERANCE = 1e-4


def build(args: argparse.Namespace) -> Tuple[str, int, Dict[str, Any]]:
    """The network's name, its input size, and one copy with the same parameters for each mode."""
    if args.params:
        loaded = {mode: load_network(args.params, args.model) for mode in args.modes}
        first = next(iter(loaded.values()))
        return first.name, first.preprocessing.size, {mode: network.net for mode, network in loaded.items()}
    if not args.model:
        raise UsageError('neither --params nor --model is given; give one of them')
    try:
        nets = {mode: get_model(args.model) for mode in args.modes}
    except ValueError as error:
        raise UsageError(f'--model: {error}') from error
    size = input_size(args.model)
    first = next(iter(nets.values()))
    mx.random.seed(0)
    first.initialize(mx.init.MSRAPrelu())
    first(mx.nd.zeros((1, 3, size, size)))
    arrays = {name: p.data().asnumpy() for name, p in first._collect_params_with_prefix().items()}
    for net in nets.values():
        if net is not first:
            set_params(net, arrays, args.model)
    return args.model, size, nets


def seconds_per_image(net: Any, data: mx.nd.NDArray, seconds: float) -> float:
    """Over as many batches as fill `seconds`."""
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < seconds:
        net(data).wait_to_read()
        count += len(data)
    return (time.perf_counter() - start) / count


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark.py', description=__doc__.partition('\n\n')[0])
    parser.add_argument('--params', metavar='FILE', help='parameters with their manifest')
    parser.add_argument('--model', metavar='NAME', help='network with random parameters, or that of --params')
    parser.add_argument('--batch-size', type=number(int, 1), default=32, help='images per step')
    parser.add_argument('--modes', default=','.join(MODES), help='modes to compare, with commas')
    parser.add_argument('--repeats', type=number(int, 1), default=5, help='measurements of each mode')
    parser.add_argument('--seconds', type=number(float, 0), default=0.5, help='length of a measurement')
    parser.add_argument('--json', metavar='FILE', help='write the figures there')
    args = parser.parse_args(argv)
    args.modes = list(dict.fromkeys(args.modes.split(',')))
    for mode in args.modes:
        if mode not in MODES:
            raise UsageError(f'--modes has {mode!r}; allowed: {", ".join(MODES)}')
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    name, size, nets = build(args)
    data = mx.nd.array(np.random.RandomState(0).randn(args.batch_size, 3, size, size).astype(np.float32))
    outputs = {}
    for mode, net in nets.items():
        apply_mode(net, mode)
        for _ in range(3):  # the first builds the graph, the second may plan its memory
            outputs[mode] = net(data).asnumpy()
    reference = next(iter(outputs.values()))
    scale = np.abs(reference).max()
    differences = {mode: float(np.abs(output - reference).max() / scale) for mode, output in outputs.items()}

    times: Dict[str, List[float]] = {mode: [] for mode in nets}
    for _ in range(args.repeats):
        for mode, net in nets.items():
            times[mode].append(seconds_per_image(net, data, args.seconds))
    medians = {mode: statistics.median(values) for mode, values in times.items()}
    base = medians[args.modes[0]]
    print(f'{name}, batch {args.batch_size}, {size} x {size} pixels, float32')
    for mode in nets:
        print(
            f'{mode:<12}{1000 * medians[mode]:9.3f} ms/image  {base / medians[mode]:5.2f} times as fast as '
            f'{args.modes[0]}'
            f'  largest difference {differences[mode]:.1e}'
        )
    if args.json:
        figures = {
            'model': name,
            'params': args.params,
            'batch_size': args.batch_size,
            'size': size,
            'ms_per_image': {mode: 1000 * value for mode, value in medians.items()},
            'measurements_ms': {mode: [1000 * value for value in values] for mode, values in times.items()},
            'relative_difference': differences,
        }
        atomic_write(args.json, lambda file: file.write((json.dumps(figures, indent=2) + '\n').encode()))
    wrong = [mode for mode, difference in differences.items() if not difference <= TOLERANCE]
    if wrong:
        raise UserError(
            f'{name} in the mode {wrong[0]} differs from {args.modes[0]} by {differences[wrong[0]]:.1e} of the largest '
            f'output, and {TOLERANCE} is allowed; please report this network'
        )
    return 0


if __name__ == '__main__':
    run_main(main)
