"""Measure how fast images reach the network: our loader alone, and Gluon's loader with a transform for each sample.

    python tools/benchmark_data.py
    python tools/benchmark_data.py --batch-size 32 --num-workers 2 --repeats 9
    python tools/benchmark_data.py --dataset cifar10 --data-dir archives --json data.json
    python tools/benchmark_data.py --auto-augment rand --random-erase 0.25

Both prepare images as CIFAR training does: pad by 4, crop 32 x 32 at random, mirror half, scale, normalise, batch. Our
loader also applies what the augmentation flags ask for. They take turns, and medians are reported, so that other load
on the machine affects both equally.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import statistics
import time
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

from common.files import write_json
from common.usage import described
from training.config.augmentation import AugmentSettings
from training.config.fields import add_section, typed
from training.config.flags import number, output_file
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_data.py', **described(__doc__))
    parser.add_argument('--dataset', help='as for train_cifar.py, with 32-pixel images (default: noise)')
    parser.add_argument('--data-dir', help='folder of the CIFAR archives')
    parser.add_argument('--images', type=number(int, 2), default=4096, help='number of noise images')
    parser.add_argument('--batch-size', type=number(int, 1), default=128, help='images per batch')
    parser.add_argument('-j', '--num-workers', type=number(int, 0), default=0, help="processes of Gluon's loader")
    parser.add_argument('--repeats', type=number(int, 1), default=5, help='measurements of each')
    parser.add_argument('--seconds', type=number(float, 0), default=1.0, help='shortest length of a measurement')
    add_section(parser, AugmentSettings)
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    return parser.parse_args(argv)


answer_flags(__name__, parse)
require_mxnet()

import mxnet as mx

from _gluon_loader import gluon_loader, noise
from data.augmentation.shift import Augment
from data.classification.by_name import load_dataset
from data.classification.loader import Loader
from data.sampler import Sampler
from training.tasks.augmentation import further


def feed(loader: Loader, epoch: int) -> Iterator[mx.nd.NDArray]:
    """Yield batches as the training loop gets them: on the device."""
    for _, data, labels, _ in loader.batches(epoch):
        mx.nd.array(labels)
        yield mx.nd.array(data)


def images_per_second(passes: Callable[[], Iterator[Any]], batch: int, seconds: float) -> float:
    """Return the images/s over as many whole passes as fill `seconds`.

    Passes are whole so that no worker is still busy when the other pipeline's turn begins. The first batch of a pass,
    for which workers have to start, is not counted.
    """
    count, elapsed = 0, 0.0
    while elapsed < seconds or count == 0:
        iterator = passes()
        next(iterator)
        mx.nd.waitall()
        start = time.perf_counter()
        for item in iterator:
            (item[0] if isinstance(item, (list, tuple)) else item).wait_to_read()
            count += batch
        elapsed += time.perf_counter() - start
    return count / elapsed


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    dataset = load_dataset(args.dataset, 'train', args.data_dir) if args.dataset else noise(args.images)
    if len(dataset) < 2 * args.batch_size:
        raise UsageError(f'--batch-size {args.batch_size} must be at most half of the {len(dataset)} images')
    extra = typed(AugmentSettings, vars(args))
    order = Sampler(args.batch_size, shuffle=True, last='discard', repeats=extra.aug_repeats)
    loader = Loader(dataset, order, Augment(**further(extra)))
    theirs = gluon_loader(dataset, args.batch_size, args.num_workers)
    pipelines: Dict[str, Callable[[int], Iterator[Any]]] = {
        'loader': lambda epoch: feed(loader, epoch),
        'gluon': lambda epoch: iter(theirs),
    }
    figures: Dict[str, list] = {name: [] for name in pipelines}
    for epoch in range(args.repeats):
        for name, batches in pipelines.items():
            speed = images_per_second(
                lambda batches=batches, epoch=epoch: batches(epoch), args.batch_size, args.seconds
            )
            figures[name].append(speed)
    medians = {name: statistics.median(speeds) for name, speeds in figures.items()}
    print(f'our loader     {medians["loader"]:10,.0f} images/s (median of {args.repeats}, one thread)')
    print(f"Gluon's loader {medians['gluon']:10,.0f} images/s ({args.num_workers} worker processes)")
    print(f'ratio          {medians["loader"] / medians["gluon"]:10.1f}')
    if args.json:
        result = {
            'dataset': dataset.name,
            'images': len(dataset),
            'batch_size': args.batch_size,
            'num_workers': args.num_workers,
            'images_per_second': medians,
            'measurements': figures,
        }
        write_json(args.json, result)
    return 0


if __name__ == '__main__':
    run_main(main)
