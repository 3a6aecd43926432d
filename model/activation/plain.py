"""The plain activations: Gluon's own, except for SELU and PReLU, whose gradients are wrong in MXNet."""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet import gluon

from model.layers.broadcast import scale_map

__all__ = ['GELU', 'SELU', 'ELU', 'PReLU', 'ReLU', 'ReLU6', 'Swish']

# Klambauer et al., "Self-Normalizing Neural Networks", arXiv 1706.02515, section 2.
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


class SELU(gluon.HybridBlock):
    """``scale * (x if x > 0 else alpha (exp(x) - 1))``, any shape (arXiv 1706.02515, equation 2).

    Composed from an ELU, because the derivative of MXNet's own ``LeakyReLU(act_type='selu')`` for negative inputs is
    ``scale * (alpha + y)`` instead of ``scale * alpha + y``, which even has the wrong sign far below zero. With
    ``mxnet_gradient=True`` MXNet's operator is used, with which open-atac trained its SELU networks.
    """

    def __init__(self, mxnet_gradient: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mxnet_gradient = mxnet_gradient

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if self.mxnet_gradient:
            return F.LeakyReLU(x, act_type='selu')
        return F.LeakyReLU(x, act_type='elu', slope=SELU_ALPHA) * SELU_SCALE


def ReLU(channels: int) -> gluon.HybridBlock:
    """Return ``max(x, 0)``."""
    return gluon.nn.Activation('relu')


class ReLU6(gluon.HybridBlock):
    """``min(max(x, 0), 6)``, any shape (MobileNetV2, arXiv 1801.04381, section 6)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, 0, 6)


class PReLU(gluon.HybridBlock):
    """``x if x > 0 else a x`` for ``(N, C, H, W)``.

    One slope for all channels, learned from 0.25 (arXiv 1502.01852).

    Composed from other operators, because in hybridized networks MXNet's own operator overwrites the gradient from
    which that of the slope is computed, which makes the latter ``a`` times too small.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = self.params.get('alpha', shape=(1,), init=mx.init.Constant(0.25))

    def hybrid_forward(self, F: Any, x: Any, alpha: Any) -> Any:
        return F.relu(x) - scale_map(F, F.relu(-x), alpha)


def ELU(channels: int) -> gluon.HybridBlock:
    """Return ``x if x > 0 else exp(x) - 1`` (arXiv 1511.07289 with alpha 1)."""
    return gluon.nn.ELU()


def GELU(channels: int) -> gluon.HybridBlock:
    """Return ``x Phi(x)`` with the exact normal distribution, not its tanh approximation (arXiv 1606.08415)."""
    return gluon.nn.GELU()


def Swish(channels: int) -> gluon.HybridBlock:
    """Return ``x sigmoid(x)``, with beta fixed at 1 (arXiv 1710.05941)."""
    return gluon.nn.Swish()
