"""What export.py does with a network of somebody else's: MXNet's symbols, GluonCV's zoo, SageMaker's archives."""

from __future__ import annotations

import argparse
from typing import Any, Dict

from environment import UsageError

__all__ = ['FLAGS', 'add_foreign_flags', 'export_theirs', 'is_foreign']

FLAGS = ('symbol', 'gluoncv', 'sagemaker', 'input_shape')


def add_foreign_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("an MXNet network that is not the project's; docs/from_mxnet.md")
    group.add_argument('--symbol', metavar='FILE', help='X-symbol.json; its X-0000.params goes to --params')
    group.add_argument('--gluoncv', metavar='NAME', help="a network of GluonCV's zoo; its file goes to --params")
    group.add_argument('--sagemaker', metavar='FILE', help='model.tar.gz, with a symbol and its parameters in it')
    group.add_argument(
        '--input-shape',
        action='append',
        metavar='N,C,H,W',
        help='of its input, such as 1,3,224,224; with a name before it, data=1,3,224,224, where the input has another',
    )


def is_foreign(args: argparse.Namespace) -> bool:
    return any(getattr(args, name) is not None for name in FLAGS[:3])


def _read(args: argparse.Namespace) -> Any:
    from inference.foreign import from_archive, from_files, from_gluoncv, parse_shapes

    given = [f'--{name}' for name in FLAGS[:3] if getattr(args, name) is not None]
    if len(given) > 1:
        raise UsageError(f'{" and ".join(given)} name two networks; give one of them')
    if (args.sagemaker is None) != (args.params is not None):
        raise UsageError(
            f'{given[0]} goes without --params, which are in the archive'
            if args.sagemaker
            else f'{given[0]} needs --params, the file with its parameters'
        )
    try:
        shapes = parse_shapes(args.input_shape or ())
    except ValueError as error:
        raise UsageError(f'--input-shape: {error}') from error
    if args.symbol is not None:
        return from_files(args.symbol, args.params, shapes)
    if args.sagemaker is not None:
        return from_archive(args.sagemaker, shapes)
    return from_gluoncv(args.gluoncv, args.params, shapes, args.classes)


def export_theirs(args: argparse.Namespace) -> Dict[str, Dict[str, Any]]:
    """Export the network that the flags name, and say what was taken off it."""
    from common.lock import alone
    from inference.export import export_foreign

    foreign = _read(args)
    kinds = [kind for kind in args.kinds if kind != 'optimized' or len(foreign.shape) == 4]
    if not kinds:
        raise UsageError('--kinds optimized is for inputs of four axes; give mxnet, onnx or openvino')
    args.kinds = kinds
    with alone(args.output, 'exporting'):
        proof = export_foreign(foreign, args.output, kinds, args.batch_size)
    print(f'{foreign.name} in {args.output}, for inputs of {" x ".join(map(str, foreign.shape[1:]))}')
    for told in foreign.stripped:
        print(f'taken off: {told}')
    return proof
