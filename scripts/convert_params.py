"""Convert an original network's parameters into ours, or with --reverse ours into the original's names.

    python scripts/convert_params.py --source dcanet --model dca_se_resnet50_v1b model_best.pth.tar net.params
    python scripts/convert_params.py --source timm --model seresnet50 seresnet50.safetensors net.params
    python scripts/convert_params.py --reverse net.params net.pth
    python scripts/convert_params.py --reverse --source dcanet net.params dcanet.pth
    python scripts/convert_params.py --reverse --source gluoncv net.params resnet50_v1.params

Files are PyTorch's, .safetensors, NumPy's .npz with the same names, or MXNet's .params for open-atac and GluonCV. All
are read safely and without PyTorch: tensors and plain containers only.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

from common.console import say
from common.files import check_writable, sha256_file
from common.usage import described
from training.config.console import add_console_flags, heed_flags
from training.config.fields import typed
from training.config.flags import number
from training.config.model_options import add_option_flag, with_options, with_plugins
from training.config.settings import Parser

# As `model.convert.SOURCES`, which needs MXNet.
ORIGINALS = (
    'torch',
    'open-atac',
    'dianet',
    'dcanet',
    'residual-attention',
    'torchvision',
    'timm',
    'pytorchcv',
    'gluoncv',
)
IN_GLUON = ('open-atac', 'gluoncv')  # those whose networks load .params files


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='convert_params.py', **described(__doc__))
    parser.add_argument('input', metavar='IN', help='file to read')
    parser.add_argument(
        'output',
        metavar='OUT',
        help="file to write: .params, with --reverse .pth, .pt, .safetensors or .npz, for Gluon's networks .params too",
    )
    parser.add_argument(
        '--source',
        choices=ORIGINALS,
        help='the original, see docs/fidelity.md; with --reverse whose names to write (default: torch, our own)',
    )
    parser.add_argument(
        '--model',
        metavar='NAME',
        help="network, by our name or the source's own; with --reverse only if IN has no manifest",
    )
    add_option_flag(parser)
    parser.add_argument('--classes', type=number(int, 1), help='number of classes')
    parser.add_argument('--reverse', action='store_true', help='convert our parameters to a state dictionary')
    add_console_flags(parser)
    args = parser.parse_args(argv)
    heed_flags(vars(args))
    if not args.reverse and (args.source is None or args.model is None):
        missing = '--source' if args.source is None else '--model'
        raise UsageError(
            f'{missing} is missing; give the original and our network, or --reverse for the opposite direction'
        )
    if args.reverse and Path(args.output).suffix == '.params' and args.source not in IN_GLUON:
        raise UsageError(
            f'{args.output}: with --reverse a .params file is for --source {" and ".join(IN_GLUON)}; '
            'name it .pth, .safetensors or .npz'
        )
    if os.path.realpath(args.input) == os.path.realpath(args.output):
        raise UsageError(f'{args.output} is also the input file; give another one to write')
    return args


answer_flags(__name__, parse)
require_mxnet()

from inference.network import load_network, published_preprocessing
from model import get_model, save_params
from model.convert import load_state_dict, to_state_dict
from model.convert.files import check_written_suffix, read_state, write_state
from model.convert.tables import table
from model.grammar import is_name
from model.parameters.load import read_params


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The network, and the original whose names its parameters have on the other side."""

    source: Optional[str]
    model: Optional[str]  # by our name, or the source's own
    option: str
    classes: Optional[int]


def _our_network(wanted: Wanted) -> Tuple[str, Dict[str, Any]]:
    """Return our name and arguments for the network ``--model``, which may be given by the source's own name."""
    original = table(wanted.source or 'torch')
    name, arguments = wanted.model, dict(getattr(original, 'OPTIONS', {}))
    if hasattr(original, 'counterpart'):
        try:
            name, arguments = original.counterpart(wanted.model)
        except ValueError as error:
            if not is_name(wanted.model):
                raise UsageError(f'--model: {error}') from error
    arguments = {**arguments, **with_options({}, wanted.option)}
    if wanted.classes is not None:
        arguments['classes'] = wanted.classes
    return name, arguments


def _forward(file: str, output: str, wanted: Wanted) -> int:
    if Path(output).suffix != '.params':
        raise UsageError(f'{output}: parameters are written to a .params file; name it so')
    check_writable(output)
    original = table(wanted.source)
    name, options = _our_network(wanted)
    try:
        net = get_model(name, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f'--model: {error}') from error
    # Those of an original in Gluon may have been saved in any of Gluon's ways.
    in_gluon = wanted.source == 'open-atac' and Path(file).suffix == '.params'
    state = read_params(net, file) if in_gluon else read_state(file)
    try:
        dropped = load_state_dict(net, state, wanted.source, origin=file)
    except ValueError as error:
        raise UserError(f'--source {wanted.source}: {error}') from error
    preprocessing = published_preprocessing(name)
    if hasattr(original, 'NORMALISATION'):
        preprocessing = dataclasses.replace(preprocessing, **original.NORMALISATION)
    manifest = {
        'model': name,
        'model_kwargs': options,
        'preprocessing': preprocessing.to_dict(),
        'converted': {'source': wanted.source, 'file': Path(file).name, 'sha256': sha256_file(file)},
    }
    save_params(net, output, manifest)
    say(f'{output}: {name}, {len(state) - len(dropped)} arrays from {file}')
    if dropped:
        say(f'skipped: {len(dropped)} that {wanted.source} declares and never uses')
    return 0


def _reverse(file: str, output: str, wanted: Wanted) -> int:
    check_written_suffix(output)
    check_writable(output)
    name, options = (None, with_options({}, wanted.option)) if wanted.model is None else _our_network(wanted)
    network = load_network(file, name, options, wanted.classes, task='classification')
    try:
        state = to_state_dict(network.net, wanted.source or 'torch')
    except ValueError as error:
        raise UserError(f'--source {wanted.source}: {error}') from error
    write_state(output, state)
    say(f'{output}: {network.name}, {len(state)} arrays named as {wanted.source or "in our network"}')
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    with_plugins(args.plugin)
    convert = _reverse if args.reverse else _forward
    return convert(args.input, args.output, typed(Wanted, vars(args)))


if __name__ == '__main__':
    run_main(main)
