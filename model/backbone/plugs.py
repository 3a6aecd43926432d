"""The plug points that every backbone offers, and where an activation factory applies."""

from __future__ import annotations

import abc
from typing import Any, Callable, NamedTuple, Optional

from mxnet import gluon
from mxnet.gluon import nn

__all__ = [
    'ActivationFactory',
    'AttentionFactory',
    'BoundAttention',
    'Convolution',
    'NormFactory',
    'batch_norm',
    'stages_with',
]

#: ``channels -> block (N, C, H, W) -> (N, C, H, W)``
ActivationFactory = Callable[[int], gluon.HybridBlock]
#: ``(channels, **initial values) -> norm layer``
NormFactory = Callable[..., gluon.HybridBlock]
#: An :class:`AttentionFactory` that knows its block: ``(channels, stride=, convolution=) -> unit``
BoundAttention = Callable[..., gluon.HybridBlock]


class Convolution(NamedTuple):
    """The 3x3 convolution, norm and activation that a unit of the place ``'convolution'`` stands in for."""

    in_channels: int
    activation: ActivationFactory
    norm: NormFactory
    stride: int = 1
    groups: int = 1
    dilation: int = 1


class AttentionFactory(abc.ABC):
    """Makes the attention units of one network, each ``(x, *carry) -> (x, *carry)``.

    ``place`` says where in a block the unit stands: on the residual branch's output (``'branch'``), or in place of the
    block's spatial convolution with its norm and activation (``'convolution'``, as selective kernels do). A backbone
    calls the factory once for every block, in the order in which the carry passes through them: a connected unit is
    built for the one before it.
    """

    place: str = 'branch'

    @abc.abstractmethod
    def __call__(
        self, channels: int, stage: int, block: int, stride: int = 1, convolution: Optional[Convolution] = None
    ) -> gluon.HybridBlock:
        """Return the unit for ``channels`` channels in block ``block`` (from 0) of stage ``stage`` (from 1).

        ``stride`` is how many times smaller the unit's map is than the previous block's; ``convolution`` is given
        exactly when ``place`` is ``'convolution'``.
        """


def batch_norm(channels: int, **kwargs: Any) -> nn.BatchNorm:
    """Gluon's batch norm (momentum 0.9, epsilon 1e-5) of known width, so that shapes never wait for a forward pass."""
    return nn.BatchNorm(in_channels=channels, **kwargs)


def stages_with(act_layers: int, act_order: str, places: int) -> range:
    """Return which of ``places`` places in depth order (0-based) take the plugged activation; the others keep ReLU.

    ``act_layers`` places, from the end with order ``'bac'``, from the start with ``'pre'`` (open-atac's ``act_layers``
    and ``act_order``). ``ValueError`` for anything else.
    """
    if not 0 <= act_layers <= places:
        raise ValueError(f'act_layers is {act_layers}: allowed are 0 to {places}')
    if act_order == 'bac':
        return range(places - act_layers, places)
    if act_order == 'pre':
        return range(act_layers)
    raise ValueError(f"act_order is {act_order!r}: allowed are 'bac' (from the end) and 'pre' (from the start)")
