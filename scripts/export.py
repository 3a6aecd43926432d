"""Export a trained network for MXNet, as ONNX, or for PyTorch, comparing each export with the network.

python scripts/export.py --params runs/photos -o exported
python scripts/export.py --params runs/photos -o exported --kinds mxnet,onnx --images album/
python scripts/export.py --params runs/photos -o small --precision int8 --images photos/train --batch-size 8

A detector is exported for MXNet, including everything after the network, so that it returns boxes.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from _foreign import FLAGS, Foreign, export_theirs, kinds_that_fit, read_theirs

from _network_flags import Detector, Network, check_network_flags, network_from, refuse_others
from common.console import remark, say, timed
from common.files import write_json
from common.lock import alone
from common.usage import described
from environment.health import mend
from inference.choices import ASKED, EXPORTS, FOREIGN, PRECISIONS
from training.config.console import add_console_flags, heed_flags
from training.config.fields import Group, add_section, flag, typed
from training.config.flags import number, output_file
from training.config.settings import Parser, refuse

DEFAULT = [kind for kind in EXPORTS if kind not in ASKED]
# Flags that only apply to networks of one task.
ONLY = {
    'classification': ('precision', 'batch_size', 'size', 'resize', 'class_names'),
    'detection': ('short', 'max_size', 'canvas'),
}
# Flags that do not apply to networks from outside the project.
OF_OURS = (
    *('pretrained', 'weights_dir', 'model', 'option', 'plugin', 'class_names', 'size', 'resize', 'interpolation'),
    *('mean', 'std', 'mode', 'gpus'),
    *('short', 'max_size', 'canvas', 'precision', 'images', 'limit'),
)


def canvas(text: str) -> Tuple[int, int]:
    """Read H,W, both multiples of 32."""
    sides = tuple(int(side) if side.strip().isdigit() else 0 for side in text.split(','))
    if len(sides) != 2 or min(sides) < 32 or any(side % 32 for side in sides):
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; give two multiples of 32, such as 800,1344')
    return sides


@dataclass(frozen=True)
class Export(Group):
    """What to write, and what to compare it on."""

    title = 'export'

    output: str = flag('-o', '--output', required=True, metavar='FOLDER', help='output folder; it can be moved later')
    kinds: Optional[str] = flag(
        '--kinds',
        help=f'what to write, separated by commas: {", ".join(EXPORTS)} (default: {",".join(DEFAULT)}, if installed)',
    )
    precision: str = flag(
        '--precision', choices=PRECISIONS, default='float32', help='of the kinds optimized and engine'
    )
    batch_size: int = flag(
        '--batch-size', type=number(int, 1), default=1, help='batch size for which the optimized network is made'
    )
    images: Optional[List[str]] = flag(
        '--images',
        nargs='+',
        metavar='IMAGE',
        help='files, folders or globs: for comparison, and for calibrating int8 (default, except for int8: embedded '
        'digits)',
    )
    limit: int = flag('--limit', type=number(int, 1), default=128, help='at most this many of --images, spread evenly')
    canvas: Optional[Tuple[int, int]] = flag(
        '--canvas',
        type=canvas,
        metavar='H,W',
        help='of a detector in ONNX and OpenVINO: height and width of its input (default: a square of --max-size)',
    )


def make_parser() -> Parser:
    parser = Parser(prog='export.py', **described(__doc__))
    add_section(parser, Network)
    add_section(parser, Detector)
    add_section(parser, Foreign)
    add_section(parser, Export)
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the differences to this file')
    add_console_flags(parser)
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    heed_flags(vars(args))
    refuse(make_parser(), vars(args), [] if args.images else ['limit'], '--images, which is not given')
    foreign = bool(typed(Foreign, vars(args)).given())
    allowed = FOREIGN if foreign else EXPORTS
    for kind in args.kinds.split(',') if args.kinds else ():
        if kind not in allowed:
            raise UsageError(f'--kinds has {kind!r}; allowed: {", ".join(allowed)}')
    if foreign:
        refuse(make_parser(), vars(args), OF_OURS, "the project's networks, and this is another one")
        if args.gluoncv is None:
            refuse(make_parser(), vars(args), ['classes'], 'networks that are built, while a symbol has fixed classes')
    else:
        check_network_flags(typed(Network, vars(args)))
        refuse(make_parser(), vars(args), FLAGS[3:], 'networks given by --symbol, --gluoncv or --sagemaker')
    return args


answer_flags(__name__, parse)
require_mxnet()

import numpy as np

from _precision import spread
from inference.export import check_kinds, possible_kinds
from inference.network import LoadedNetwork
from inference.sources import image_files


class Kinds(NamedTuple):
    """The kinds to write, and those that would also be written if their packages were installed."""

    written: List[str]
    left_out: List[str]


def named(kinds: str) -> List[str]:
    """Return the kinds of a list with commas, each once."""
    return list(dict.fromkeys(kinds.split(',')))


def settle_kinds(export: Export, network: Optional[LoadedNetwork]) -> Kinds:
    """Return the kinds that --kinds names, or the usual ones for this network; None stands for one from outside.

    Raises `SetupError` if one of them cannot be written here.
    """
    allowed = FOREIGN if network is None else network.exports
    kinds = Kinds(named(export.kinds) if export.kinds else _usual(network, allowed), [])
    for kind in kinds.written:
        if kind not in allowed:
            raise UsageError(f'--kinds has {kind!r}, which {network.name} cannot have; allowed: {", ".join(allowed)}')
    check_kinds(kinds.written)
    _check_options(export, kinds.written, () if network is None else network.export_options)
    if not export.kinds and (network is None or network.usual_exports is None):
        return kinds._replace(left_out=[kind for kind in DEFAULT if kind not in kinds.written])
    return kinds


def _usual(network: Optional[LoadedNetwork], allowed: Sequence[str]) -> List[str]:
    if network is not None and network.usual_exports is not None:
        return list(network.usual_exports)
    return [kind for kind in possible_kinds() if kind in allowed]


def _check_options(export: Export, kinds: Sequence[str], options: Sequence[str]) -> None:
    """Raise `UsageError` for a flag that none of the kinds reads, or that one of them lacks."""
    if 'canvas' in options:
        if not {'onnx', 'openvino'} & set(kinds):
            refuse(make_parser(), vars(export), ['canvas'], 'onnx and openvino, and --kinds names neither')
        return
    if not {'optimized', 'engine'} & set(kinds):
        which = ['precision', 'batch_size']
        refuse(make_parser(), vars(export), which, 'the optimized network, and --kinds leaves it out')
    if export.images:
        return
    for asked, given in ((export.precision == 'int8', '--precision int8'), ('onnx-int8' in kinds, '--kinds onnx-int8')):
        if asked:
            raise UsageError(f'{given} needs --images: a few hundred real images to calibrate with')


def digits(count: int) -> List[np.ndarray]:
    """Return real images that every installation has, (64, 64, 3) uint8."""
    from data.classification.digits import grey_digits

    grey = (grey_digits()[0][:count] * (255 / 16)).astype(np.uint8)
    large = [np.kron(image, np.ones((8, 8), np.uint8)) for image in grey]
    return [np.stack([image] * 3, axis=2) for image in large]


def given_files(images: Optional[List[str]], limit: int) -> List[str]:
    """Return the files of --images, none where the flag is not given."""
    if not images:
        return []
    files = list(image_files(images))
    if not files:
        raise UserError(f'--images {" ".join(images)} contains no image; give files, folders or globs')
    return spread(files, limit)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    values = vars(args)
    export, foreign = typed(Export, values), typed(Foreign, values)
    if foreign.given():
        kinds = settle_kinds(export, None)
        theirs = read_theirs(foreign, args.params, args.classes)
        fitting = kinds_that_fit(theirs, kinds.written)
        proof = export_theirs(theirs, export.output, fitting, export.batch_size)
        return tell(proof, LoadedNetwork.proof_lines(proof, kinds=fitting), kinds.left_out, args.json)
    others = partial(refuse_others, make_parser(), values, ONLY)
    network = network_from(typed(Network, values), typed(Detector, values), others).network
    kinds = settle_kinds(export, network)
    options = {'kinds': kinds.written, **{name: getattr(export, name) for name in network.export_options}}
    images = given_files(export.images, export.limit) or digits(network.proved_on)
    with alone(export.output, 'exporting'):
        with timed('exporting and comparing'):
            proof = network.export(export.output, images, **options)
    say(f'{network.name} in {export.output}')
    return tell(proof, network.proof_lines(proof, **options), kinds.left_out, args.json)


def tell(proof: Dict[str, Any], lines: Sequence[str], left_out: Sequence[str], output: Optional[str]) -> int:
    """Print how much the export differs from the network, and write it to `output`."""
    say('\n'.join(lines))
    if not proof.get('boxes', 1):
        remark('nothing was compared, because there were no boxes: give --images with objects that the detector finds')
    for kind in left_out:
        remark(f'{kind} is left out, which is an extra; for it run: {mend(f" --{kind}")}')
    if output:
        write_json(output, proof)
    return 0


if __name__ == '__main__':
    run_main(main)
