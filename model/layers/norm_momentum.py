"""The momentum with which batch norms keep their running statistics."""

from __future__ import annotations

from typing import Any, Dict, List

from mxnet import gluon

from model.layers.input_norm import InputNorm

__all__ = ['limit_norm_momentum', 'set_norm_momentum']


def _settings(net: gluon.Block) -> List[Dict[str, Any]]:
    """Return the operator settings of every batch norm of ``net``, which hold its momentum."""
    found: List[Dict[str, Any]] = []
    net.apply(lambda block: found.append(block._kwargs) if isinstance(block, (gluon.nn.BatchNorm, InputNorm)) else None)
    return found


def set_norm_momentum(net: gluon.Block, momentum: float) -> None:
    """Give every batch norm of ``net``, those in its units included, this momentum.

    A step moves the running statistics by ``1 - momentum`` (PyTorch calls this share the momentum) of the way to the
    batch's. Raises ``ValueError`` if the network has no batch norms. A graph that was traced before keeps the old
    momentum.
    """
    norms = _settings(net)
    if not norms:
        raise ValueError(f'norm_momentum is {momentum} and the network has no batch norms; leave it out')
    for settings in norms:
        settings['momentum'] = momentum


def limit_norm_momentum(net: gluon.Block, momentum: float) -> float:
    """Lower the momentum of each batch norm of ``net`` to ``momentum`` where it is higher; return the highest before.

    Returns 0.0 for a network without batch norms.
    """
    norms = _settings(net)
    highest = max((settings['momentum'] for settings in norms), default=0.0)
    for settings in norms:
        settings['momentum'] = min(settings['momentum'], momentum)
    return highest
