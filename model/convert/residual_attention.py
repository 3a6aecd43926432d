"""Names of tengshaofeng/ResidualAttentionNetwork-pytorch.

The port has additions in its masks that leave no trace in the parameters: build the network with :data:`OPTIONS`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Dict, Iterator, Tuple

from mxnet import gluon

from model.backbone.attention_module import PLAIN
from model.backbone.residual_attention import ResidualAttentionNetwork
from model.backbone.residual_units import ResidualBlock
from model.convert.tables import expand

__all__ = ['NORMALISATION', 'OPTIONS', 'check_form', 'mask_prefixes', 'names', 'unused']

OPTIONS = {'mask_additions': True}
NORMALISATION = {'mean': (0.0, 0.0, 0.0), 'std': (1.0, 1.0, 1.0)}  # it feeds images on the scale 0 to 1 as they are

Prefixes = Iterator[Tuple[str, str]]  # (the original's, ours)


def mask_prefixes(levels: int, cifar: bool) -> Prefixes:
    """Yield ``(the original's, ours)`` within a module's mask. Both kinds of classes number the same places."""
    between = max(0, levels - 1)
    for level in range(1, between + 1):
        yield f'skip{level}_connection_residual_block', f'skip.{level - 1}'
        yield f'down_residual_blocks{level}' if cifar else f'softmax{level}_blocks', f'down.{level - 1}'
        # Its blocks going up are numbered in the order of use, ours by level.
        order = levels - level
        yield f'up_residual_blocks{order}' if cifar else f'softmax{levels + order}_blocks', f'up.{level - 1}'
    yield 'middle_2r_blocks' if cifar else f'softmax{levels}_blocks', 'bottom'
    yield 'conv1_1_blocks' if cifar else f'softmax{2 * levels}_blocks', 'head'


def _prefixes(net: ResidualAttentionNetwork) -> Prefixes:
    yield 'conv1', 'stem'
    yield 'mpool2.0', 'bn'
    yield 'fc', 'fc'
    # Classes for small images, whose stem keeps the resolution, have words of their own.
    cifar = net.stem[0]._kwargs['stride'] == (1, 1)
    # Stages count so that the last with modules is the third: the 448-pixel network has a stage 0.
    first = 4 - (len(net.stages) - 1)
    for index, stage in enumerate(net.stages):
        number, modules = first + index, 0
        for place, block in enumerate(stage):
            ours = f'stages.{index}.{place}'
            if isinstance(block, ResidualBlock):
                yield f'residual_block{number + place}', ours
                continue
            modules += 1
            theirs = f'attention_module{number}' + (f'_{modules}' if modules > 1 else '')
            yield f'{theirs}.first_residual_blocks', f'{ours}.first'
            yield f'{theirs}.trunk_branches', f'{ours}.trunk'
            yield f'{theirs}.last_blocks', f'{ours}.last'
            for mask, own in mask_prefixes(block.levels, cifar):
                yield f'{theirs}.{mask}', f'{ours}.mask.{own}'


def check_form(net: ResidualAttentionNetwork, source: str) -> None:
    """Raise ``ValueError`` for a network whose modules are none of the originals', which all have one form."""
    differing = [
        field.name
        for field in fields(PLAIN)
        if field.name != 'additions' and getattr(net.form, field.name) != getattr(PLAIN, field.name)
    ]
    if net.closing:
        raise ValueError(f'{source} has no such Residual Attention Network: its stages end in residual units')
    if differing:
        raise ValueError(
            f'{source} has no such Residual Attention Network: in its modules {", ".join(differing)} is another '
            f'({net.form})'
        )


def _check(net: gluon.HybridBlock) -> None:
    if not isinstance(net, ResidualAttentionNetwork):
        raise ValueError(
            f'residual-attention has no names for a {type(net).__name__}: it takes residual_attention* networks'
        )
    check_form(net, 'residual-attention')


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: ours}``. Raises ``ValueError`` for another kind of network."""
    _check(net)
    named = expand(net, _prefixes(net))
    for name in named.values():
        if '.relu' in name:
            raise ValueError(f'residual-attention has no counterpart of {name}: all its activations are ReLUs')
    return named


def _blocks(block: gluon.Block, prefix: str = '') -> Iterator[Tuple[str, ResidualBlock]]:
    for name, child in block._children.items():
        if isinstance(child, ResidualBlock):
            yield prefix + name, child
        else:
            yield from _blocks(child, f'{prefix}{name}.')


def unused(net: gluon.HybridBlock) -> Dict[str, Tuple[int, ...]]:
    """Return the projections ``conv4`` that the original declares for blocks which keep width and size."""
    _check(net)
    to_original = {own: name for name, own in names(net).items()}
    weights = {}
    for prefix, block in _blocks(net):
        if block.conv4 is None:
            name = to_original[f'{prefix}.conv3.weight'].replace('conv3', 'conv4')
            channels = block.conv3.weight.shape[0]
            weights[name] = (channels, channels, 1, 1)
    return weights
