"""Initial values that the published networks ask for and MXNet has no name for.

A layer that is given one of these keeps it, whatever ``net.initialize(...)`` says: Gluon lets a parameter's own
initializer win.
"""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np
from mxnet import gluon

__all__ = ['INITIALIZATIONS', 'FanInUniform', 'HeFanOut', 'ShiftedNormal', 'initialize', 'initialize_dense']

#: What `initialize` sets, by name; of ``'msra'`` nothing, which leaves all to ``net.initialize(...)``.
INITIALIZATIONS = ('msra', 'he', 'he_dense')


@mx.init.register
class HeFanOut(mx.init.Initializer):
    """Normal with standard deviation ``sqrt(2 / fan_out)``, where fan_out is ``C_out k k``, groups or not.

    He et al., arXiv 1502.01852, equation 14, as PyTorch's ``kaiming_normal_(mode='fan_out')`` computes it.
    """

    def _init_weight(self, name: str, arr: mx.nd.NDArray) -> None:
        fan_out = arr.shape[0] * int(np.prod(arr.shape[2:], dtype=np.int64))
        mx.nd.random.normal(0, math.sqrt(2 / fan_out), out=arr)


@mx.init.register
class FanInUniform(mx.init.Initializer):
    """Uniform in ``+-1 / sqrt(fan_in)``, PyTorch's default for convolutions and dense layers.

    ``fan_in`` is that of the weight; a bias has to be told it, since its own shape does not say.
    """

    def __init__(self, fan_in: int = 0) -> None:
        super().__init__(fan_in=fan_in)
        self.fan_in = fan_in

    def _init_weight(self, name: str, arr: mx.nd.NDArray) -> None:
        fan_in = self.fan_in or int(np.prod(arr.shape[1:], dtype=np.int64))
        bound = 1 / math.sqrt(fan_in)
        mx.nd.random.uniform(-bound, bound, out=arr)


@mx.init.register
class ShiftedNormal(mx.init.Initializer):
    """Normal with a mean other than zero."""

    def __init__(self, mean: float, sigma: float) -> None:
        super().__init__(mean=mean, sigma=sigma)
        self.mean, self.sigma = mean, sigma

    def _init_weight(self, name: str, arr: mx.nd.NDArray) -> None:
        mx.nd.random.normal(self.mean, self.sigma, out=arr)


def initialize_dense(net: gluon.HybridBlock, weight: mx.init.Initializer) -> None:
    """Give every fully connected layer of ``net``, attention units' included, this weight and a bias of zero."""

    def visit(block: gluon.HybridBlock) -> None:
        if isinstance(block, gluon.nn.Dense):
            block.weight.init = weight
            if block.bias is not None:
                block.bias.init = mx.init.Zero()

    net.apply(visit)


def initialize(net: gluon.HybridBlock, initialization: str) -> None:
    """Give the layers of ``net`` that have no initial values of their own those of DCANet's ResNets.

    ``'he'``: convolutions :class:`HeFanOut`, as torchvision's ResNets, too; fully connected layers PyTorch's default
    (:class:`FanInUniform`, weights and biases). ``'he_dense'``: the latter's weights He's fan-in normal, biases zero,
    as in its ResNets with CBAM. ``'msra'``: none; ``net.initialize(...)`` decides, with MSRA's values in training.
    """

    def visit(block: gluon.HybridBlock) -> None:
        if isinstance(block, gluon.nn.Conv2D) and block.weight.init is None:
            block.weight.init = HeFanOut()
        elif isinstance(block, gluon.nn.Dense) and block.weight.init is None:
            fan_in = block.weight.shape[1]
            he_dense = initialization == 'he_dense'
            block.weight.init = mx.init.Normal(math.sqrt(2 / fan_in)) if he_dense else FanInUniform()
            if block.bias is not None:
                block.bias.init = mx.init.Zero() if he_dense else FanInUniform(fan_in)

    if initialization != 'msra':
        net.apply(visit)
