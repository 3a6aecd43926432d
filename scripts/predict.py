"""Classify images with saved parameters, an exported folder or an ONNX file: the most probable classes of each.

With the parameters of a detector: find what is on the images, and draw it.

    python scripts/predict.py --params runs/photos photo.jpg other.png 'holiday/*.jpg' album/
    python scripts/predict.py --params runs/detector --draw pictures --threshold 0.5 album/
    find album -name '*.jpg' | python scripts/predict.py --exported exported --csv answers.csv -
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from _network_flags import (
    add_detector_flags,
    add_network_flags,
    check_network_flags,
    fetch_pretrained,
    network_from,
)
from _precision_flags import FLAGS, add_precision_flags, check_precision_flags
from common.files import check_writable
from common.text import as_csv, printable
from common.together import written_together
from common.usage import described
from inference.choices import LOADED, THRESHOLD
from training.config.flags import number
from training.config.settings import Parser, refuse

BATCH = 32  # images per step of a classifier
# Flags of classifiers, and of detectors, that say nothing of the others.
OF_CLASSIFIERS = ('top', 'csv', 'size', 'resize', 'class_names', *FLAGS)
OF_PARAMS = 'weights_dir model option plugin classes class_names size resize interpolation mean std mode gpus'.split()
OF_DETECTORS = ('draw', 'threshold', 'short', 'max_size')


def make_parser() -> Parser:
    parser = Parser(prog='predict.py', **described(__doc__))
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, folders, globs; -: paths on stdin')
    parser.add_argument('--top', type=number(int, 1), default=5, help='classes to name')
    parser.add_argument(
        '--batch-size', type=number(int, 1), help='images per step (default: 32; for a detector 1, of one size if more)'
    )
    parser.add_argument('--json', metavar='FILE', help='write the predictions there')
    parser.add_argument(
        '--csv', metavar='FILE', help='write image, rank, class, probability, error there, safe for spreadsheets'
    )
    parser.add_argument('--quiet', action='store_true', help='print no classes, only errors and the progress bar')
    add_precision_flags(parser)
    add_network_flags(parser)
    group = add_detector_flags(parser)
    group.add_argument('--draw', metavar='FOLDER', help='write the images with their boxes there')
    group.add_argument(
        '--threshold', type=number(float, 0, 1), help=f'lowest score of a box that is told (default: {THRESHOLD})'
    )
    group = parser.add_argument_group('exported network, in place of --params')
    group.add_argument('--exported', metavar='PATH', help='a folder that export.py wrote, or its .onnx file')
    group.add_argument('--kind', choices=LOADED, help='which of the networks in the folder (default: the fastest)')
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    if (args.params is None and args.pretrained is None) == (args.exported is None):
        raise UsageError('give either --params FILE, --pretrained SOURCE or --exported PATH')
    if args.exported is not None:
        if args.precision is not None:
            raise UsageError(
                f'--precision {args.precision} is for --params; what is exported has its precision already'
            )
        # What an exported network is, travels with it.
        for flag in OF_PARAMS:
            if getattr(args, flag) != make_parser().get_default(flag):
                raise UsageError(f'--{flag.replace("_", "-")} is for --params, and goes not with --exported')
    elif args.kind is not None:
        raise UsageError(f'--kind {args.kind} is for --exported')
    else:
        check_network_flags(args)
    check_precision_flags(args)
    return args


answer_flags(__name__, parse)
require_mxnet()

import mxnet as mx
from tqdm import tqdm

from _detector import predict_boxes
from _precision import optimized
from detection.load import is_detector
from inference.export import load_exported
from inference.network import LoadedNetwork
from inference.predict import Prediction, predict
from inference.sources import image_files


def load(args: argparse.Namespace, images: int) -> Tuple[LoadedNetwork, Any]:
    """The network that the flags name, optimized where they say so or there are many ``images``, and its device."""
    if args.exported is not None:
        return load_exported(args.exported, args.kind), mx.cpu()
    network, devices = network_from(args)
    return optimized(network, args, args.batch_size or BATCH, images, devices[0]), devices[0]


def as_table(predictions: Sequence[Prediction]) -> str:
    """What --csv writes."""
    rows: List[Sequence[Any]] = []
    for prediction in predictions:
        if prediction.error is not None:
            rows.append((prediction.image, '', '', '', prediction.error))
        for rank, (name, probability) in enumerate(prediction.classes, 1):
            rows.append((prediction.image, rank, name, f'{probability:.6f}', ''))
    return as_csv(('image', 'rank', 'class', 'probability', 'error'), rows)


def as_rows(predictions: Sequence[Prediction]) -> List[Dict[str, Any]]:
    """What --json writes."""
    rows = []
    for prediction in predictions:
        row = {'image': prediction.image}
        if prediction.error is not None:
            row['error'] = prediction.error
        else:
            row['classes'] = [{'class': name, 'probability': p} for name, p in prediction.classes]
        rows.append(row)
    return rows


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    files = list(image_files(args.images))
    if not files:
        raise UserError(f'{" ".join(args.images)} names no image; give image files, or folders that hold some')
    fetch_pretrained(args)
    if args.params is not None and is_detector(args.params, args.model):
        refuse(make_parser(), vars(args), OF_CLASSIFIERS, f'classifiers, and {args.params} is of a detector')
        return predict_boxes(args, files)
    refuse(make_parser(), vars(args), OF_DETECTORS, f'detectors, and {args.params or args.exported} is of a classifier')
    for path in filter(None, (args.json, args.csv)):
        check_writable(path)
    network, device = load(args, len(files))
    done: List[Prediction] = []
    with tqdm(total=len(files), unit=' images', disable=not sys.stderr.isatty()) as bar:
        for prediction in predict(network, files, args.top, args.batch_size or BATCH, ctx=device):
            bar.update()
            done.append(prediction)
            if prediction.error is not None:
                tqdm.write(f'error: {printable(prediction.error)}', file=sys.stderr)
            elif not args.quiet:
                lines = [f'  {100 * probability:6.2f} %  {name}' for name, probability in prediction.classes]
                tqdm.write('\n'.join(map(printable, [prediction.image, *lines])))
    with written_together() as new:
        if args.json:
            new.write_json(args.json, as_rows(done))
        if args.csv:
            new.write_text(args.csv, as_table(done))
    return 1 if any(prediction.error is not None for prediction in done) else 0


if __name__ == '__main__':
    run_main(main)
