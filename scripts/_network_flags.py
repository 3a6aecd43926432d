"""The flags that name a trained network, for every script that takes one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from data.choices import INTERPOLATIONS
from environment import UsageError, UserError
from inference.choices import MODES
from training.config.flags import number
from training.config.model_options import add_option_flag, with_options, with_plugins
from training.config.settings import Parser, refuse

__all__ = [
    'DEFAULT_MODE',
    'add_detector_flags',
    'add_network_flags',
    'check_network_flags',
    'devices_from',
    'fetch_pretrained',
    'network_from',
    'networks_from',
    'numbers',
    'refuse_others',
]

DEFAULT_MODE = 'hybrid'  # of --mode, which is None where it is not given
# Flags about the size of images, by task.
SIZES = {'classification': ('size', 'resize'), 'detection': ('short', 'max_size')}

# Flags that are for networks of one task alone, by task.
Only = Mapping[str, Sequence[str]]


def add_network_flags(parser: Parser, several: bool = False) -> None:
    """Add --params, --pretrained and what goes before a manifest; ``several`` networks are read by `networks_from`."""
    group = parser.add_argument_group('network')
    more: Dict[str, Any] = {'action': 'append'} if several else {}
    again = '; again for each further network' if several else ''
    group.add_argument(
        '--params',
        metavar='FILE',
        help=f'parameters, or a run folder for its best ones; the manifest (.json) beside them says the rest{again}',
        **more,
    )
    group.add_argument(
        '--pretrained',
        metavar='SOURCE',
        help='in place of --params: weights of torchvision, timm, pytorchcv, gluoncv or open-atac, which are '
        'downloaded (timm:TAG or timm:MODEL.TAG for certain ones), those that come with the project (cifar10), or the '
        f'best, for the network of --model{again}',
        **more,
    )
    group.add_argument(
        '--weights-dir',
        metavar='PLACE',
        help='for --pretrained: a folder with the files, or the URL of a mirror (default: ATTENTION_WEIGHTS in the '
        'environment, else the files are downloaded from their authors)',
    )
    group.add_argument(
        '--model', metavar='NAME', help=f'network, if there is no manifest or to go before it{again}', **more
    )
    add_option_flag(group)
    group.add_argument('--classes', type=number(int, 1), help='number of classes')
    group.add_argument('--class-names', metavar='FILE', help='text file with one class name on each line')
    group.add_argument('--size', type=number(int, 1), help="side of the network's input in pixels")
    group.add_argument('--resize', type=number(int, 1), help='short side of images before the cut')
    group.add_argument(
        '--interpolation', choices=INTERPOLATIONS, help='how images are scaled, see "train_imagenet.py --help"'
    )
    group.add_argument('--mean', metavar='R,G,B', help='mean of the normalisation, on the scale 0 to 1')
    group.add_argument('--std', metavar='R,G,B', help='standard deviation of the normalisation')
    if not several:
        group.add_argument(
            '--mode',
            choices=MODES,
            help='how to run it: op by op, as a graph, or as a graph with fixed memory (default: hybrid)',
        )
    group.add_argument('--gpus', default='', help='numbers of GPUs, with commas; none: the CPU')


def check_network_flags(args: argparse.Namespace) -> None:
    """Raise `UsageError` unless --params or --pretrained says which network, and one of them alone where it is one."""
    if not args.params and not args.pretrained:
        raise UsageError('--params is missing; give FILE, or --pretrained SOURCE for public weights')
    if args.params and isinstance(args.pretrained, str):
        raise UsageError(f'--params {args.params} and --pretrained {args.pretrained} exclude each other; give one')
    if args.weights_dir is not None and not args.pretrained:
        raise UsageError('--weights-dir is for --pretrained, which is not given')


def fetch_pretrained(args: argparse.Namespace) -> None:
    """Make of --pretrained the file for --params, fetched if need be; the rest is in its manifest.

    Raises `UsageError` where there are no such weights, and `UserError` where they cannot be had.
    """
    if not args.pretrained:
        return
    from model.parameters.fetched import VARIABLE

    if args.weights_dir is not None:
        os.environ[VARIABLE] = args.weights_dir
    with_plugins(args.plugin)
    if isinstance(args.pretrained, str):
        args.params, args.model = _pretrained_file(args.pretrained, args.model, args)
        args.pretrained = None
        return
    before = args.params or []
    models = args.model or [None] * (len(before) + len(args.pretrained))
    _check_models(models, len(before) + len(args.pretrained))
    found = [_pretrained_file(name, model, args) for name, model in zip(args.pretrained, models[len(before) :])]
    args.params = [*before, *(path for path, _ in found)]
    args.model = [*models[: len(before)], *(model for _, model in found)]
    args.pretrained = None


def _pretrained_file(wanted: str, model: Optional[str], args: argparse.Namespace) -> Tuple[str, str]:
    """Return the file of parameters, and the network's name."""
    from model import get_model
    from model.parameters.by_name import find_pretrained
    from model.parameters.weights import network_of

    try:
        name = model or network_of(wanted)
        options = with_options({}, args.option)
        get_model(name, **options)  # what is wrong with a name or an option goes first
        found = find_pretrained(get_model, name, options, True if wanted == 'best' else wanted)
    except (TypeError, ValueError) as error:
        raise UsageError(f'--pretrained {wanted}: {error}') from error
    return str(found.path), name


def _check_models(models: List[Optional[str]], count: int) -> None:
    if len(models) != count:
        raise UsageError(
            f'--model is given {len(models)} times, and --params and --pretrained {count} times; give one for each'
        )


def add_detector_flags(parser: Parser) -> Any:
    """What goes before a detector's manifest; the group."""
    group = parser.add_argument_group("detector, which --params' manifest says it is")
    group.add_argument('--short', type=number(int, 32), help='shorter side of images, at most, in pixels')
    group.add_argument('--max-size', type=number(int, 32), help='longer side, at most, in pixels')
    return group


def numbers(flag: str, text: Optional[str]) -> Optional[List[float]]:
    """'0.4,0.5,0.6' as a list."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(',')]
    except ValueError:
        raise UsageError(
            f'{flag} {text} must be three numbers with commas between, such as 0.485,0.456,0.406'
        ) from None


def _class_names(path: Optional[str]) -> Optional[List[str]]:
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is no UTF-8 text'
        raise UserError(f'--class-names {path} cannot be read ({reason}); give a text file') from error
    return [line.strip() for line in lines if line.strip()]


def devices_from(args: argparse.Namespace) -> List[Any]:
    """Those of --gpus; where it asks for some and none is visible the CPU, which is said on stderr."""
    from training.distributed.devices import contexts

    devices, line = contexts(args.gpus, doing='computing')
    if args.gpus.strip() and devices[0].device_type == 'cpu':
        print(line, file=sys.stderr)
    return devices


def network_from(
    args: argparse.Namespace, parser: Parser, only: Only, task: Optional[str] = None
) -> Tuple[Any, List[Any]]:
    """The `LoadedNetwork` that the flags name, in its mode, and its devices; `only`: flags that are for one task alone.

    `UserError` for a network of another `task`, where one is given.
    """
    from inference.network import load_network

    devices = devices_from(args)
    fetch_pretrained(args)
    with_plugins(args.plugin)
    options, names = with_options({}, args.option), _class_names(args.class_names)
    network = load_network(args.params, args.model, options, args.classes, names, devices, task)
    refuse_others(parser, args, network, args.params, only)
    changes = {name: getattr(args, name, None) for name in ('size', 'resize', 'interpolation', 'short', 'max_size')}
    try:
        network = network.changed(mean=numbers('--mean', args.mean), std=numbers('--std', args.std), **changes)
    except ValueError as error:
        flags = ', '.join(f'--{name.replace("_", "-")}' for name in SIZES[network.task])
        raise UsageError(f'{flags}, --mean or --std: {error}') from error
    return (network.in_mode(args.mode or DEFAULT_MODE) if 'mode' in args else network), devices


def refuse_others(parser: Parser, args: argparse.Namespace, network: Any, source: str, only: Only) -> None:
    """`UsageError` for a flag that says nothing of this network: `only` has the flags that are for one task alone."""
    from inference.network import TASKS

    for task, names in only.items():
        if task != network.task:
            said = f'{TASKS[task].noun}s, and {source} is of a {TASKS[network.task].noun}'
            refuse(parser, vars(args), names, said)


def networks_from(args: argparse.Namespace, parser: Parser) -> List[Any]:
    """The classifiers of flags for ``several``: one for each --params, with its --model if there are any."""
    fetch_pretrained(args)
    models = args.model or [None] * len(args.params)
    _check_models(models, len(args.params))
    one = vars(args)
    return [
        network_from(argparse.Namespace(**{**one, 'params': params, 'model': model}), parser, {}, 'classification')[0]
        for params, model in zip(args.params, models)
    ]
