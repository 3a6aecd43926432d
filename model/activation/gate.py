"""The common form of gating activations: ``y = x * sigmoid(module(x))``."""

from __future__ import annotations

from typing import Any

from mxnet import gluon
from mxnet.gluon import nn

from model.layers.broadcast import scale_channels

__all__ = ['Gate', 'gate']


def gate(F: Any, x: Any, logits: Any, broadcast: bool = False) -> Any:
    """Return ``x * sigmoid(logits)``.

    ``x`` is ``(N, C, H, W)``; ``logits`` has the same shape, or ``(N, C, 1, 1)`` with ``broadcast``. ``Activation``
    and the element-wise product are used where shapes allow: on CPUs the plain ``sigmoid`` and ``broadcast_mul``
    operators leave the blocked memory layout of the convolutions around them and cost several times as much.
    """
    weight = F.Activation(logits, act_type='sigmoid')
    return scale_channels(F, x, F.Flatten(weight)) if broadcast else F.elemwise_mul(x, weight)


class Gate(gluon.HybridBlock):
    """``y = x * sigmoid(module(x))``; input and output are ``(N, C, H, W)``.

    ``layers`` form ``module``, in order; ``broadcast`` means that they end in ``(N, C, 1, 1)``. The name and the
    indices of the child, which also count layers without parameters, are those in open-atac's files.
    """

    def __init__(self, *layers: gluon.HybridBlock, broadcast: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.broadcast = broadcast
        self.module = nn.HybridSequential()
        self.module.add(*layers)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return gate(F, x, self.module(x), self.broadcast)
