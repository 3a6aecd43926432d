"""The network flags of open-atac's CIFAR script, and the network of our grammar that they stand for."""

import argparse
from typing import Any, Dict

from environment import UsageError
from training.flags.model_options import add_option_flag, refuse_unread, with_options
from training.flags.options import number
from training.flags.settings import Parser
from training.tasks.task import Network

__all__ = ['Network', 'act_type', 'add_network_flags', 'check_reduction', 'network']


def add_network_flags(parser: Parser) -> None:
    group = parser.add_argument_group('network')
    group.add_argument(
        '--model',
        default='xxx',
        help='a name such as cifar_atac_resnet20_v2, which the next flags change where they are given; '
        "or 'atac', the original's network, which they describe",
    )
    group.add_argument(
        '--blocks',
        type=number(int, 0),
        default=0,
        help='blocks per stage b of --model atac; the depth is 6 b + 2',
    )
    group.add_argument(
        '--act-type',
        default='xxx',
        help='relu, prelu, elu, selu, gelu, swish, xUnit, ChaATAC, SpaATAC, SeqATAC',
    )
    group.add_argument('--r', type=number(int, -1), default=-1, help='channel reduction in ATAC units')
    group.add_argument(
        '--act-layers',
        type=number(int, 0),
        default=None,
        help='places with --act-type, from the end: tail, stages 3, 2, 1 (default: all 4; for a name, its own)',
    )
    group.add_argument('--useGlobal', action='store_true', help='global in place of local context in ATAC units')
    group.add_argument('--useReLU', action='store_true', help='a ReLU inside ATAC units')
    group.add_argument(
        '--drop-rate',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        help='dropout before the classifier',
    )
    group.add_argument(
        '--block-drop',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        help='dropout in the blocks of wide ResNets',
    )
    add_option_flag(group)
    group.add_argument('--summary', action='store_true', help='print the layers, then train')


def network(settings: argparse.Namespace, classes: int) -> Network:
    """What `--model` and its companions ask for. `UsageError` naming the flag at fault. Needs MXNet."""
    from model import get_model

    options: Dict[str, Any] = {'classes': classes}
    if settings.drop_rate:
        options['final_drop'] = settings.drop_rate
    if settings.block_drop:
        options['block_drop'] = settings.block_drop
    if settings.model == 'atac':
        name, more = _original(settings)
    else:
        name, more = _named(settings)
    options = with_options({**options, **more}, settings.option)
    try:
        get_model(name, **options)
    except ValueError as error:
        raise UsageError(f'--model: {error}') from None
    if settings.model != 'atac':
        refuse_unread(name, options, {'act_reduction': '--r', 'act_global': '--useGlobal', 'act_relu': '--useReLU'})
    label = name[len('cifar_') :] if name.startswith('cifar_') else name
    if 'act_type' in options:
        label += f'_{options["act_type"]}'
    return Network(name, options, label)


def act_type(text: str) -> str:
    """The unit's name here; `UsageError` for none such."""
    from model.activation.factory import canonical

    try:
        return canonical(text)
    except ValueError as error:
        raise UsageError(f'--act-type: {error}') from None


def check_reduction(r: int) -> int:
    """`r`; `UsageError` if ATAC units cannot have it."""
    if r < 1:
        raise UsageError(f'--r is {r}; allowed: 1 and above, the published networks have --r 2')
    return r


def _original(settings: argparse.Namespace) -> Any:
    if settings.blocks < 1:
        raise UsageError(f'--blocks is {settings.blocks}; allowed: 1 and above, open-atac trains --blocks 1 to 5')
    if settings.act_type == 'xxx':
        raise UsageError('--act-type is missing; open-atac trains --act-type ChaATAC, and relu to compare with')
    unit = act_type(settings.act_type)
    options: Dict[str, Any] = {'act_layers': 4 if settings.act_layers is None else settings.act_layers}
    prefix = ''
    if unit == 'atac':
        prefix = 'atac_'
        options['act_reduction'] = check_reduction(settings.r)
        options['act_relu'], options['act_global'] = settings.useReLU, settings.useGlobal
    else:
        options['act_type'] = unit
        if unit.startswith('atac'):
            options['act_relu'] = settings.useReLU
    return f'cifar_{prefix}resnet{6 * settings.blocks + 2}_v2', options


def _named(settings: argparse.Namespace) -> Any:
    if settings.model == 'xxx':
        raise UsageError(
            '--model is missing; name a network such as cifar_atac_resnet20_v2, or give --model atac --blocks 3'
        )
    if settings.blocks != 0:
        raise UsageError(f'--blocks {settings.blocks} belongs to --model atac; {settings.model} names its depth')
    options: Dict[str, Any] = {}
    if settings.act_type != 'xxx':
        options['act_type'] = act_type(settings.act_type)
    if settings.r != -1:
        options['act_reduction'] = check_reduction(settings.r)
    if settings.act_layers is not None:
        options['act_layers'] = settings.act_layers
    if settings.useGlobal:
        options['act_global'] = True
    if settings.useReLU:
        options['act_relu'] = True
    return settings.model, options
