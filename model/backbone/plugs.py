"""The plug points that every backbone offers, and where an activation factory applies."""

from __future__ import annotations

from typing import Callable, Optional

from mxnet import gluon
from mxnet.gluon import nn

__all__ = ['ActivationFactory', 'AttentionFactory', 'NormFactory', 'batch_norm', 'stages_with']

#: ``channels -> block (N, C, H, W) -> (N, C, H, W)``
ActivationFactory = Callable[[int], gluon.HybridBlock]
#: ``(channels, stage, block) -> unit (x, *carry) -> (x, *carry)``; stage counts from 1, block from 0 within its stage
AttentionFactory = Callable[[int, int, int], Optional[gluon.HybridBlock]]
#: ``(channels, **initial values) -> norm layer``
NormFactory = Callable[..., gluon.HybridBlock]


def batch_norm(channels: int, **kwargs) -> nn.BatchNorm:
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
