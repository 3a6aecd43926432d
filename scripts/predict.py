"""Classify images with saved parameters, an exported folder or an ONNX file, and print the most probable classes.

With the parameters of a detector, find and draw the objects in the images.

    python scripts/predict.py --params runs/photos photo.jpg other.png 'holiday/*.jpg' album/
    python scripts/predict.py --params runs/detector --draw pictures --threshold 0.5 album/
    find album -name '*.jpg' | python scripts/predict.py --exported exported --csv answers.csv -
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any, List, Optional, Sequence, Set, Tuple

from _network_flags import Detector, Network, Others, check_network_flags, network_from, refuse_others
from _precision_flags import FLAGS, Speed, check_precision_flags
from common.console import quiet, timed
from common.files import atomic_write, check_writable, make_folder
from common.text import as_csv, printable
from common.together import written_together
from common.usage import described
from inference.choices import LOADED, THRESHOLD
from training.config.console import add_console_flags, heed_flags
from training.config.fields import add_section, typed
from training.config.flags import number
from training.config.settings import Parser

# Flags that only apply to networks of one task.
ONLY = {
    'classification': ('top', 'csv', 'size', 'resize', 'class_names', *FLAGS),
    'detection': ('draw', 'threshold', 'short', 'max_size'),
}
OF_PARAMS = (
    *('weights_dir', 'model', 'option', 'plugin', 'classes', 'class_names', 'size', 'resize', 'interpolation'),
    *('mean', 'std', 'mode', 'gpus', 'short', 'max_size'),
)


def make_parser() -> Parser:
    parser = Parser(prog='predict.py', **described(__doc__))
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, folders, globs; -: paths on stdin')
    parser.add_argument('--top', type=number(int, 1), default=5, help='classes to name')
    parser.add_argument(
        '--batch-size', type=number(int, 1), help='images per step (default: 32; for a detector 1, of one size if more)'
    )
    parser.add_argument('--json', metavar='FILE', help='write the predictions to this file')
    parser.add_argument(
        '--csv', metavar='FILE', help='write image, rank, class, probability, error to this file, safe for spreadsheets'
    )
    add_section(parser, Speed)
    add_section(parser, Network)
    group = add_section(parser, Detector)
    group.add_argument('--draw', metavar='FOLDER', help='write the images with their boxes to this folder')
    group.add_argument(
        '--threshold', type=number(float, 0, 1), help=f'lowest score of a reported box (default: {THRESHOLD})'
    )
    group = parser.add_argument_group('exported network, instead of --params')
    group.add_argument('--exported', metavar='PATH', help='a folder that export.py wrote, or its .onnx file')
    group.add_argument('--kind', choices=LOADED, help='which network of the folder (default: the fastest)')
    add_console_flags(parser)
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    heed_flags(vars(args))
    if (args.params is None and args.pretrained is None) == (args.exported is None):
        raise UsageError('give either --params FILE, --pretrained SOURCE or --exported PATH')
    if args.exported is not None:
        if args.precision is not None:
            raise UsageError(
                f'--precision {args.precision} is for --params; an exported network already has a precision'
            )
        # An exported folder describes its own network.
        for flag in OF_PARAMS:
            if getattr(args, flag) != make_parser().get_default(flag):
                raise UsageError(f'--{flag.replace("_", "-")} is for --params, and cannot be combined with --exported')
    elif args.kind is not None:
        raise UsageError(f'--kind {args.kind} is for --exported')
    else:
        check_network_flags(typed(Network, vars(args)))
    check_precision_flags(typed(Speed, vars(args)), args.mode, args.gpus)
    return args


answer_flags(__name__, parse)
require_mxnet()

import cv2
from tqdm import tqdm

from _precision import optimized
from inference.export import load_exported
from inference.network import LoadedNetwork
from inference.sources import image_files


def exported(path: str, kind: Optional[str], others: Others) -> LoadedNetwork:
    """Return the network of --exported."""
    network = load_exported(path, kind)
    others(network, path)
    return network


def trained(
    wanted: Network, detector: Detector, speed: Speed, batch: Optional[int], images: int, others: Others
) -> Tuple[LoadedNetwork, Any]:
    """Return the network that the flags name, optimized on request or for many `images`, and its device."""
    network, (device, *_), _, may_be_planned = network_from(wanted, detector, others)
    return optimized(network, speed, batch or network.batch_size, images, device, may_be_planned), device


def as_table(answers: Sequence[Any]) -> str:
    """Return the content of --csv."""
    rows: List[Sequence[Any]] = []
    for answer in answers:
        if answer.error is not None:
            rows.append((answer.image, '', '', '', answer.error))
        for rank, (name, probability) in enumerate(answer.classes, 1):
            rows.append((answer.image, rank, name, f'{probability:.6f}', ''))
    return as_csv(('image', 'rank', 'class', 'probability', 'error'), rows)


def save_picture(folder: Path, answer: Any, taken: Set[str]) -> None:
    """Draw the boxes found on an image, under a file name that no other image of this command has."""
    stem = Path(answer.image).stem
    name, count = f'{stem}.png', 1
    while name in taken:
        count += 1
        name = f'{stem}-{count}.png'
    taken.add(name)
    picture = answer.picture()
    done, content = cv2.imencode('.png', picture[..., ::-1])
    if not done:
        size = f'{picture.shape[1]} x {picture.shape[0]} pixels'
        raise UserError(f'{folder / name} cannot be written as a PNG file of {size}')
    atomic_write(folder / name, lambda file: file.write(content.tobytes()))


def tell(answer: Any) -> None:
    """Print the answer, or on stderr why there is none."""
    if answer.error is not None:
        tqdm.write(f'error: {printable(answer.error)}', file=sys.stderr)
    elif not quiet():
        tqdm.write('\n'.join(map(printable, [answer.image, *answer.lines()])))


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    files = list(image_files(args.images))
    if not files:
        raise UserError(f'{" ".join(args.images)} contains no image; give image files, or folders that contain some')
    values = vars(args)
    others = partial(refuse_others, make_parser(), values, ONLY)
    if args.exported is not None:
        net, device = exported(args.exported, args.kind, others), None
    else:
        network, detector, speed = (typed(kind, values) for kind in (Network, Detector, Speed))
        net, device = trained(network, detector, speed, args.batch_size, len(files), others)
    if args.draw:
        make_folder(Path(args.draw))
    for path in filter(None, (args.json, args.csv)):  # which may be in that folder
        check_writable(path)
    threshold = THRESHOLD if args.threshold is None else args.threshold
    done: List[Any] = []  # without the pixels
    taken: Set[str] = set()
    noted = False  # an explanation is only printed once
    hidden = quiet() or not sys.stderr.isatty()
    with timed(f'predicting {len(files)} images'), tqdm(total=len(files), unit=' images', disable=hidden) as bar:
        for answer in net.predict(files, args.top, threshold, args.batch_size, device):
            bar.update()
            if answer.note is not None and not noted and not quiet():
                noted = True
                tqdm.write(printable(answer.note), file=sys.stderr)
            tell(answer)
            if args.draw and answer.error is None:
                save_picture(Path(args.draw), answer, taken)
            done.append(answer.without_pixels())
    with written_together() as new:
        if args.json:
            new.write_json(args.json, [answer.to_dict() for answer in done])
        if args.csv:
            new.write_text(args.csv, as_table(done))
    return 1 if any(answer.error is not None for answer in done) else 0


if __name__ == '__main__':
    run_main(main)
