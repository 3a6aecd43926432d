"""Score saved parameters on a dataset: top-1, top-5 and loss, or a detector's six APs, every image exactly once.

python scripts/validate.py --params runs/photos
python scripts/validate.py --params runs/photos --dataset pets --precision int8 --calibration pets/train
python scripts/validate.py --params runs/detector --annotations instances_val2017.json --images val2017
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import math
import time
from typing import Optional, Sequence

from _network_flags import (
    add_detector_flags,
    add_network_flags,
    check_network_flags,
    fetch_pretrained,
    network_from,
)
from _precision_flags import FLAGS, add_precision_flags, check_precision_flags
from common.files import write_json
from common.text import printable
from common.usage import described
from data.choices import SPLITS
from training.config.flags import number, output_file
from training.config.settings import Parser, refuse

# Flags of classifiers, and of detectors, that say nothing of the others.
OF_CLASSIFIERS = ('dataset', 'size', 'resize', 'class_names', *FLAGS)
OF_DETECTORS = ('annotations', 'images', 'results', 'short', 'max_size')


def make_parser() -> Parser:
    parser = Parser(prog='validate.py', **described(__doc__))
    data = parser.add_argument_group('data')
    data.add_argument('--dataset', help="as for train_cifar.py (default: the manifest's)")
    data.add_argument(
        '--data-dir', help="where the archives of CIFAR are, or are downloaded to; for a detector, COCO's folder"
    )
    data.add_argument(
        '--split', choices=SPLITS, default='test', help='which images; val and test differ where there are both'
    )
    data.add_argument(
        '--batch-size', type=number(int, 1), help='images per device and step (default: 128; for a detector 1)'
    )
    data.add_argument('--limit', type=number(int, 1), help='score so many images only, spread evenly over the dataset')
    data.add_argument('-j', '--num-data-workers', type=number(int, 1), help='threads that decode image files')
    add_precision_flags(parser)
    add_network_flags(parser)
    group = add_detector_flags(parser)
    group.add_argument('--annotations', metavar='JSON', help='of the images to score on, in COCO format')
    group.add_argument('--images', metavar='FOLDER', help='these images')
    group.add_argument(
        '--results', type=output_file, metavar='FILE', help="write all boxes there, in COCO's format of results"
    )
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures there')
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    check_network_flags(args)
    check_precision_flags(args)
    return args


answer_flags(__name__, parse)
require_mxnet()

from _detector import validate as validate_detector
from _precision import optimized
from data.classification.by_name import DATASETS, load_dataset
from data.classification.loader import Loader
from detection.load import is_detector
from training.evaluate import evaluate


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    fetch_pretrained(args)
    if is_detector(args.params, args.model):
        refuse(make_parser(), vars(args), OF_CLASSIFIERS, f'classifiers, and {args.params} is of a detector')
        return validate_detector(args)
    refuse(make_parser(), vars(args), OF_DETECTORS, f'detectors, and {args.params} is of a classifier')
    network, devices = network_from(args)
    name = args.dataset or network.manifest.get('dataset')
    if args.dataset is None and name not in DATASETS:
        told = f'whose manifest speaks of {name!r}' if name else 'which have no manifest that names a dataset'
        raise UsageError(f'--dataset is missing; give that of {args.params}, {told}')
    dataset = load_dataset(
        name, args.split, args.data_dir, workers=args.num_data_workers, preprocessing=network.preprocessing
    )
    if network.class_names is not None:
        dataset = dataset.with_classes(network.class_names)
    batch = (args.batch_size or 128) * len(devices)
    count = len(dataset) if args.limit is None else min(args.limit, len(dataset))
    network = optimized(network, args, batch, count, devices[0])
    loader = Loader(dataset, batch, last='pad', limit=args.limit)
    start = time.perf_counter()
    try:
        scores = evaluate(network.net, loader, devices)
    except ValueError as error:
        raise UserError(
            f'{args.params} cannot be scored on {name}: {error}; give the dataset it was trained for'
        ) from error
    seconds = time.perf_counter() - start
    if not math.isfinite(scores.loss):
        raise UserError(
            f'{args.params}: the network answers with NaN or infinity, so that there is nothing to score; take '
            'parameters that were saved before training diverged, or another --precision'
        )
    precision = f', optimized for {args.precision},' if args.precision else ''
    print(f'{network.name}{precision} on {name}, split {args.split}: {scores.count} images')
    print(f'top-1 {100 * scores.top1:.2f} %  top-5 {100 * scores.top5:.2f} %  loss {scores.loss:.4f}')
    if dataset.by_hash:
        part = 'what training sees' if args.split == 'train' else 'the fifth that training holds out'
        print(f'{name} has no held-out part of its own: these are {part}; --split all scores every image')
    for sentence in dataset.told:
        print(printable(sentence))
    for sentence in dataset.unreadable:
        print(f'left out: {printable(sentence)}')
    if args.json:
        figures = {
            'params': args.params,
            'model': network.name,
            'precision': args.precision,
            'dataset': name,
            'split': args.split,
            'count': scores.count,
            'top1': scores.top1,
            'top5': scores.top5,
            'loss': scores.loss,
            'unreadable': list(dataset.unreadable),
            'seconds': seconds,
            'images_per_second': scores.count / seconds,
        }
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    run_main(main)
