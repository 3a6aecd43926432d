"""The plug points that every backbone offers, and where an activation factory applies."""

from __future__ import annotations

import abc
from typing import Any, Callable, NamedTuple, Optional, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.layers.carry import split
from model.layers.drop_path import Residual

__all__ = [
    'FOR_A_CONVOLUTION',
    'PLACES',
    'ActivationFactory',
    'AttentionFactory',
    'BoundAttention',
    'Convolution',
    'NormFactory',
    'add_shortcut',
    'batch_norm',
    'entry_for',
    'stages_with',
    'unit_for',
]

#: ``channels -> block (N, C, H, W) -> (N, C, H, W)``
ActivationFactory = Callable[[int], gluon.HybridBlock]
#: ``(channels, **initial values) -> norm layer``
NormFactory = Callable[..., gluon.HybridBlock]
#: Places of units that are given a :class:`Convolution`.
FOR_A_CONVOLUTION = ('convolution', 'inside')
#: All places, see :class:`AttentionFactory`.
PLACES = ('branch', *FOR_A_CONVOLUTION, 'sum', 'entry')
#: An :class:`AttentionFactory` that knows its block: ``(channels, stride=, convolution=) -> unit``
BoundAttention = Callable[..., gluon.HybridBlock]


class Convolution(NamedTuple):
    """The spatial convolution, norm and activation that a unit of place ``'convolution'`` or ``'inside'`` replaces.

    A basic block's has the activation None, for nothing. ``expanded`` is False in an inverted residual block that does
    not widen its input; ``weight_initializer`` holds the initial values that the backbone gives to this convolution,
    None for the network's.
    """

    in_channels: int
    activation: Optional[ActivationFactory]
    norm: NormFactory
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    kernel: int = 3
    expanded: bool = True
    weight_initializer: Any = None


class AttentionFactory(abc.ABC):
    """A factory of the attention units of one network, each ``(x, *carry) -> (x, *carry)``.

    ``place`` says where in a block the unit stands: on the residual branch's output (``'branch'``); in place of the
    block's spatial convolution with its norm and activation (``'convolution'``, as selective kernels do, of basic
    blocks the first one; ``'inside'``, which keeps that convolution, of basic blocks the second); in place of the
    addition of branch and shortcut (``'sum'``), where it is ``(branch, shortcut, *carry) -> (x, *carry)``; or in front
    of the block, shortcut included (``'entry'``). A backbone calls the factory once for every block that has the place,
    in the order in which the carry passes through them: a connected unit is built for the one before it.
    """

    place: str = 'branch'

    @abc.abstractmethod
    def __call__(
        self, channels: int, stage: int, block: int, stride: int = 1, convolution: Optional[Convolution] = None
    ) -> Optional[gluon.HybridBlock]:
        """Return the unit for ``channels`` channels in block ``block`` (from 0) of stage ``stage`` (from 1).

        At the places ``'branch'``, ``'sum'`` and ``'entry'`` None leaves the block without a unit.

        ``stride`` is how many times smaller the unit's map is than the previous block's; ``convolution`` is given
        exactly when ``place`` is ``'convolution'`` or ``'inside'``.
        """


def unit_for(
    attention: Optional[BoundAttention], place: Optional[str], channels: int, stride: int
) -> Optional[gluon.HybridBlock]:
    """Return the unit that :func:`add_shortcut` is to apply; None if the block has none, or one elsewhere."""
    return attention(channels, stride=stride) if place in ('branch', 'sum') else None


def entry_for(attention: Optional[BoundAttention], place: Optional[str], channels: int) -> Optional[gluon.HybridBlock]:
    """Return the unit ``(N, C, H, W) -> (N, C, H, W)`` in front of a block that ``channels`` enter; None for none."""
    return attention(channels) if place == 'entry' else None


def add_shortcut(
    F: Any, block: Residual, branch: Any, shortcut: Any, carry: Tuple[Any, ...]
) -> Tuple[Any, Tuple[Any, ...]]:
    """Return a residual block's sum, with its ``attention`` unit as the ``place`` asks for it, and the carry.

    ``shortcut`` is None in a network without shortcuts, which leaves the branch by itself.
    """
    unit = block.attention
    if unit is not None and block.place == 'sum':
        fusion, carry = split(unit(branch, shortcut, *carry))
        return block.fused(F, fusion, shortcut), carry
    if unit is not None:
        branch, carry = split(unit(branch, *carry))
    return branch if shortcut is None else block.summed(F, branch, shortcut), carry


def batch_norm(channels: int, **kwargs: Any) -> nn.BatchNorm:
    """Gluon's batch norm (momentum 0.9, epsilon 1e-5) of known width, so that shapes never wait for a forward pass."""
    return nn.BatchNorm(in_channels=channels, **kwargs)


def stages_with(act_layers: int, act_order: str, places: int) -> range:
    """Return which of ``places`` places in depth order (0-based) take the plugged activation; the others keep ReLU.

    ``act_layers`` places, from the end with order ``'bac'``, from the start with ``'pre'`` (open-atac's ``act_layers``
    and ``act_order``). Raises ``ValueError`` for anything else.
    """
    if not 0 <= act_layers <= places:
        raise ValueError(f'act_layers is {act_layers}: allowed are 0 to {places}')
    if act_order == 'bac':
        return range(places - act_layers, places)
    if act_order == 'pre':
        return range(act_layers)
    raise ValueError(f"act_order is {act_order!r}: allowed are 'bac' (from the end) and 'pre' (from the start)")
