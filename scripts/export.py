"""Export a trained network for MXNet alone, optimized, as ONNX, for PyTorch: each is run and compared before use.

python scripts/export.py --params runs/photos -o exported
python scripts/export.py --params runs/photos -o exported --kinds mxnet,onnx --images album/
python scripts/export.py --params runs/photos -o small --precision int8 --images photos/train --batch-size 8

A detector is exported for MXNet, with all that comes after the network: boxes come out.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from _foreign import FLAGS, add_foreign_flags, export_theirs, is_foreign

from _network_flags import (
    add_detector_flags,
    add_network_flags,
    check_network_flags,
    network_from,
)
from common.files import write_json
from common.lock import alone
from common.usage import described
from environment.health import mend
from inference.choices import ASKED, DETECTORS, EXPORTS, FOREIGN, PRECISIONS
from training.config.flags import number, output_file
from training.config.settings import Parser, refuse

DEFAULT = [kind for kind in EXPORTS if kind not in ASKED]
# Flags that are for networks of one task alone.
ONLY = {
    'classification': ('precision', 'batch_size', 'size', 'resize', 'class_names'),
    'detection': ('short', 'max_size', 'canvas'),
}
# Flags that say nothing of networks of somebody else's.
OF_OURS = (
    *('pretrained', 'weights_dir', 'model', 'option', 'plugin', 'class_names', 'size', 'resize', 'interpolation'),
    *('mean', 'std', 'mode', 'gpus'),
    *('short', 'max_size', 'canvas', 'precision', 'images', 'limit'),
)


def canvas(text: str) -> Tuple[int, int]:
    """Read H,W, both multiples of 32."""
    sides = tuple(int(side) if side.strip().isdigit() else 0 for side in text.split(','))
    if len(sides) != 2 or min(sides) < 32 or any(side % 32 for side in sides):
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed, two multiples of 32 are, such as 800,1344')
    return sides


def make_parser() -> Parser:
    parser = Parser(prog='export.py', **described(__doc__))
    add_network_flags(parser)
    add_detector_flags(parser)
    add_foreign_flags(parser)
    group = parser.add_argument_group('export')
    group.add_argument('-o', '--output', required=True, metavar='FOLDER', help='where to; the folder can be moved')
    group.add_argument(
        '--kinds',
        help=f'what to write, with commas: {", ".join(EXPORTS)} (default: {",".join(DEFAULT)}, as far as installed)',
    )
    group.add_argument('--precision', choices=PRECISIONS, default='float32', help='of the kinds optimized and engine')
    group.add_argument('--batch-size', type=number(int, 1), default=1, help='images that the optimized one is made for')
    group.add_argument(
        '--images',
        nargs='+',
        metavar='IMAGE',
        help='files, folders or globs: to compare on, and for int8 to calibrate with (default, but for int8: embedded '
        'digits)',
    )
    group.add_argument('--limit', type=number(int, 1), default=128, help='so many of --images at most, spread evenly')
    group.add_argument(
        '--canvas',
        type=canvas,
        metavar='H,W',
        help='of a detector in ONNX and OpenVINO: height and width of its input (default: a square of --max-size)',
    )
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the differences there')
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    refuse(make_parser(), vars(args), [] if args.images else ['limit'], '--images, which is not given')
    allowed = FOREIGN if is_foreign(args) else EXPORTS
    for kind in args.kinds.split(',') if args.kinds else ():
        if kind not in allowed:
            raise UsageError(f'--kinds has {kind!r}; allowed: {", ".join(allowed)}')
    if is_foreign(args):
        refuse(make_parser(), vars(args), OF_OURS, "the project's networks, and this is another one")
        if args.gluoncv is None:
            refuse(make_parser(), vars(args), ['classes'], 'networks that are built, and a symbol has its classes')
    else:
        check_network_flags(args)
        refuse(make_parser(), vars(args), FLAGS[3:], 'networks that come by --symbol, --gluoncv or --sagemaker')
    return args


answer_flags(__name__, parse)
require_mxnet()

import numpy as np

from _precision import spread
from inference.export import check_kinds, possible_kinds
from inference.network import LoadedNetwork
from inference.sources import image_files


def settle_kinds(args: argparse.Namespace) -> None:
    """Make a list of what --kinds names, or of all that can be written here; `SetupError` where one cannot."""
    if args.kinds:
        args.kinds, args.left_out = list(dict.fromkeys(args.kinds.split(','))), []
    else:
        args.kinds = [kind for kind in possible_kinds() if not is_foreign(args) or kind in FOREIGN]
        args.left_out = [kind for kind in DEFAULT if kind not in args.kinds]
    check_kinds(args.kinds)
    if not {'optimized', 'engine'} & set(args.kinds):
        which = ['precision', 'batch_size']
        refuse(make_parser(), vars(args), which, 'the optimized network, and --kinds leaves it out')
    if args.precision == 'int8' and not args.images:
        raise UsageError('--precision int8 needs --images: some hundred real images to calibrate with')
    if 'onnx-int8' in args.kinds and not args.images:
        raise UsageError('--kinds onnx-int8 needs --images: some hundred real images to calibrate with')


def options_of(args: argparse.Namespace, network: LoadedNetwork) -> Dict[str, Any]:
    """What the export of this network can be told; its kinds are in ``args`` then."""
    if network.task == 'detection':
        settle_kinds_of_detector(args)
        return {'kinds': args.kinds, 'canvas': args.canvas}
    settle_kinds(args)
    return {'kinds': args.kinds, 'precision': args.precision, 'batch_size': args.batch_size}


def settle_kinds_of_detector(args: argparse.Namespace) -> None:
    """What --kinds names for a detector, beside the MXNet form that it always has."""
    args.kinds, args.left_out = list(dict.fromkeys((args.kinds or 'mxnet').split(','))), []
    for kind in args.kinds:
        if kind not in DETECTORS:
            raise UsageError(f'--kinds has {kind!r}, which is for classifiers; allowed: {", ".join(DETECTORS)}')
    check_kinds(args.kinds)
    if args.kinds == ['mxnet']:
        refuse(make_parser(), vars(args), ['canvas'], 'onnx and openvino, and --kinds names neither')


def digits(count: int) -> List[np.ndarray]:
    """Real images that every installation has, (64, 64, 3) uint8."""
    from data.classification.digits import grey_digits

    grey = (grey_digits()[0][:count] * (255 / 16)).astype(np.uint8)
    large = [np.kron(image, np.ones((8, 8), np.uint8)) for image in grey]
    return [np.stack([image] * 3, axis=2) for image in large]


def given_files(args: argparse.Namespace) -> List[str]:
    """The files of --images, none where the flag is not given."""
    if not args.images:
        return []
    files = list(image_files(args.images))
    if not files:
        raise UserError(f'--images {" ".join(args.images)} names no image; give files, folders or globs')
    return spread(files, args.limit)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    if is_foreign(args):
        settle_kinds(args)
        proof = export_theirs(args)
        return tell(args, proof, LoadedNetwork.proof_lines(proof, kinds=args.kinds))
    network, _ = network_from(args, make_parser(), ONLY)
    options = options_of(args, network)
    images = given_files(args) or digits(network.proved_on)
    with alone(args.output, 'exporting'):
        proof = network.export(args.output, images, **options)
    print(f'{network.name} in {args.output}')
    return tell(args, proof, network.proof_lines(proof, **options))


def tell(args: argparse.Namespace, proof: Dict[str, Any], lines: Sequence[str]) -> int:
    """Print how far the export is from the network."""
    print('\n'.join(lines))
    if not proof.get('boxes', 1):
        print('with no box nothing was compared: give --images on which the detector finds something', file=sys.stderr)
    for kind in args.left_out:
        print(f'{kind} is left out, which is an extra; for it run: {mend(f" --{kind}")}', file=sys.stderr)
    if args.json:
        write_json(args.json, proof)
    return 0


if __name__ == '__main__':
    run_main(main)
