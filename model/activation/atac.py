"""ATAC, the attentional activation unit, and the ablations of its context.

Dai, Oehmcke, Gieseke, Wu, Barnard, "Attention as Activation", arXiv 2007.07729 (ICPR 2020); layer names and options
after the repository YimianDai/open-atac.
"""

from __future__ import annotations

from typing import Any

from mxnet import gluon
from mxnet.gluon import nn

import kernels
from kernels import fused
from model.activation.gate import Gate
from model.layers.pool import GlobalAvgPool
from model.layers.sample_variance import SampleVarianceNorm

__all__ = ['ATAC', 'PLACEMENTS', 'SequentialATAC', 'SpatialATAC', 'placed_atac']


FUSED = 64 * 64  # C times the width, up to which one operator is faster than convolutions


def _check_odd(kernel: int) -> None:
    if kernel % 2 == 0:
        raise ValueError(f'kernel {kernel} is even: only odd kernels keep the shape')


def _depthwise(channels: int, kernel: int, dilation: int) -> nn.Conv2D:
    """Return a shape-preserving depth-wise convolution without bias."""
    _check_odd(kernel)
    padding = dilation * (kernel // 2)
    return nn.Conv2D(channels, kernel, 1, padding, dilation, groups=channels, use_bias=False, in_channels=channels)


def _relu(wanted: bool) -> list:
    return [nn.Activation('relu')] if wanted else []


class ATAC(Gate):
    """``y = x * sigmoid(BN(W2 act(BN(W1 x))))``, from ``(N, C, H, W)`` to ``(N, C, H, W)``.

    The paper's section III, and open-atac's ``ChaATAC``. Costs ``2 k^2 C (C // r)`` multiply-adds per position (per
    sample with global context) and as many weights. Batch norms have Gluon's defaults (momentum 0.9, epsilon 1e-5).

    Args:
        channels: input and output channels C.
        reduction: r; W1 maps C to ``C // r`` channels and W2 back, both without bias.
        relu: whether ``act`` is a ReLU (``useReLU``) or the identity.
        global_context: average over space first (``useGlobal``), so that there is one gate per channel and sample.
        use_global_stats: the batch norms use their running statistics in training too; in open-atac this option never
            reaches the units, so ``False`` is its behaviour.
        sample_variance: running variances divide by n - 1, as in PyTorch, instead of n; this matters with global
            context, where n is the number of images.
        kernel: odd side k of both convolutions; the paper recommends point-wise ones, and compares them with 3x3.

    Raises:
        ValueError: ``r`` leaves no channel, or ``kernel`` is even, or above 1 with global context, which has a single
            position.
    """

    def __init__(
        self,
        channels: int,
        reduction: float = 2,
        relu: bool = True,
        global_context: bool = False,
        use_global_stats: bool = False,
        sample_variance: bool = False,
        kernel: int = 1,
        **kwargs: Any,
    ) -> None:
        if kernel > 1 and global_context:
            raise ValueError(f'kernel {kernel} has no effect on the single position of global context; use kernel 1')
        _check_odd(kernel)
        if reduction <= 0 or channels // reduction < 1:
            raise ValueError(
                f'act_reduction {reduction} leaves none of the {channels} channels: allowed are 1 to {channels}'
            )
        width = int(channels // reduction)
        norm = SampleVarianceNorm if sample_variance else nn.BatchNorm
        super().__init__(
            *([GlobalAvgPool()] if global_context else []),
            nn.Conv2D(width, kernel, padding=kernel // 2, use_bias=False, in_channels=channels),
            norm(in_channels=width, use_global_stats=use_global_stats),
            *_relu(relu),
            nn.Conv2D(channels, kernel, padding=kernel // 2, use_bias=False, in_channels=width),
            norm(in_channels=channels, use_global_stats=use_global_stats),
            broadcast=global_context,
            **kwargs,
        )
        self._channels, self._width, self._relu, self._kernel = channels, width, relu, kernel

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if kernels.fuses() and self._is_one_operator():
            return self._one_operator(F, x)
        return super().hybrid_forward(F, x)

    def _is_one_operator(self) -> bool:
        """Return whether `kernels.fused.atac` computes the unit; for wider units separate convolutions are faster."""
        norms = [layer for layer in self.module if isinstance(layer, nn.BatchNorm)]
        return (
            not self.broadcast
            and self._kernel == 1
            and self._channels % 8 == self._width % 8 == 0
            and self._channels * self._width <= FUSED
            and not any(isinstance(norm, SampleVarianceNorm) for norm in norms)
            and not any(norm._kwargs['use_global_stats'] or norm._kwargs['fix_gamma'] for norm in norms)
        )

    def _one_operator(self, F: Any, x: Any) -> Any:
        squeeze, norm1, *_, expand, norm2 = self.module
        parameters = []
        for conv, norm in ((squeeze, norm1), (expand, norm2)):
            parameters += [conv.weight, norm.gamma, norm.beta, norm.running_mean, norm.running_var]
        return fused.atac(
            F,
            x,
            *fused.values_of(F, x, *parameters),
            width=self._width,
            relu=self._relu,
            epsilon=norm1._kwargs['eps'],
            momentum=norm1._kwargs['momentum'],
        )


class SpatialATAC(Gate):
    """``y = x * sigmoid(BN(D2 act(BN(D1 x))))`` with depth-wise k x k D1, D2: context in space only.

    Called ``SpaATAC`` in open-atac, and never released; this form is our interpretation of its signature (kernel,
    dilation, inner ReLU, no reduction). Arguments as for :class:`ATAC`; ``kernel`` is odd. Input and output are ``(N,
    C, H, W)``; costs ``2 k^2 C`` multiply-adds per position.
    """

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        dilation: int = 1,
        relu: bool = True,
        use_global_stats: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            self._first(channels, kernel, dilation),
            nn.BatchNorm(in_channels=channels, use_global_stats=use_global_stats),
            *_relu(relu),
            _depthwise(channels, kernel, dilation),
            nn.BatchNorm(in_channels=channels, use_global_stats=use_global_stats),
            **kwargs,
        )

    _first = staticmethod(_depthwise)


class SequentialATAC(SpatialATAC):
    """``y = x * sigmoid(BN(D act(BN(W x))))``: context across channels (W, 1x1), then in space (D, depth-wise k x k).

    Called ``SeqATAC`` in open-atac, and never released; this is our interpretation of its signature, which has no
    reduction. W keeps the width, so that the unit costs ``C^2 + k^2 C`` multiply-adds per position, about as many as
    :class:`ATAC` at r = 2. Arguments as for :class:`SpatialATAC`; input and output are ``(N, C, H, W)``.
    """

    @staticmethod
    def _first(channels: int, kernel: int, dilation: int) -> nn.Conv2D:
        return nn.Conv2D(channels, 1, use_bias=False, in_channels=channels)


#: Where the unit is placed: instead of a ReLU, as in the paper, or as attention beside one.
PLACEMENTS = ('instead', 'after', 'before')


def placed_atac(channels: int, placement: str = 'instead', **options: Any) -> gluon.HybridBlock:
    """Return :class:`ATAC` instead of a ReLU, or a ReLU with the unit ``'after'`` or ``'before'`` it."""
    unit = ATAC(channels, **options)
    if placement == 'instead':
        return unit
    both = nn.HybridSequential()
    both.add(*([nn.Activation('relu'), unit] if placement == 'after' else [unit, nn.Activation('relu')]))
    return both
