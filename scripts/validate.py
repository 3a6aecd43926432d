"""Score saved parameters on a dataset: top-1, top-5 and loss, or a detector's six APs, every image exactly once.

python scripts/validate.py --params runs/photos
python scripts/validate.py --params runs/photos --dataset pets --precision int8 --calibration pets/train
python scripts/validate.py --params runs/detector --annotations instances_val2017.json --images val2017
"""

import _bootstrap  # noqa: F401
from environment import answer_flags, require_mxnet, run_main  # isort: split

import argparse
from typing import Optional, Sequence

from _network_flags import (
    add_detector_flags,
    add_network_flags,
    check_network_flags,
    network_from,
)
from _precision_flags import FLAGS, add_precision_flags, check_precision_flags
from common.files import write_json
from common.text import printable
from common.usage import described
from data.choices import SPLITS
from training.config.flags import number, output_file
from training.config.settings import Parser

# Flags that are for networks of one task alone.
ONLY = {
    'classification': ('dataset', 'size', 'resize', 'class_names', *FLAGS),
    'detection': ('annotations', 'images', 'results', 'short', 'max_size'),
}


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

from _scoring import SCORERS


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    network, devices = network_from(args, make_parser(), ONLY)
    score = SCORERS[network.task](network, args, devices)
    for line in score.lines:
        print(printable(line))
    if args.json:
        write_json(args.json, score.figures)
    return 0


if __name__ == '__main__':
    run_main(main)
