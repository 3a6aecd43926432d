"""A convolution that gives a single map, in a form that trains fast."""

from __future__ import annotations

from typing import Any

from mxnet.autograd import is_recording
from mxnet.gluon import nn

import kernels
from kernels import fused

__all__ = ['MAPS', 'SingleMapConv']

MAPS = 16  # computed for one: float32 numbers in a register of AVX-512, in two of AVX2


class SingleMapConv(nn.Conv2D):
    """``(N, C, H, W) -> (N, 1, H', W')``: ``nn.Conv2D`` of one channel, without bias.

    On CPUs oneDNN has no kernel for a single output map. What is recorded is therefore an operator of ours where these
    are used (`kernels.fusing`), and elsewhere computed beside fifteen maps of zero weights, which are cut off: forwards
    and backwards in two thirds of the time. Inference has the latter in :mod:`inference.optimization.single_map`, as
    other runtimes read the graph.
    """

    def __init__(self, kernel_size: int, padding: int, in_channels: int) -> None:
        super().__init__(1, kernel_size, padding=padding, use_bias=False, in_channels=in_channels)

    def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:
        if kernels.fuses():
            return fused.single_map(F, x, weight, self._kwargs['pad'][0])
        if not is_recording() or kernels.in_bfloat16():  # our own kernels for bfloat16 need no such help
            return super().hybrid_forward(F, x, weight)
        zeros = F.broadcast_axis(F.zeros_like(weight), axis=0, size=MAPS - 1)
        settings = {**self._kwargs, 'num_filter': MAPS}
        maps = F.Convolution(x, F.concat(weight, zeros, dim=0), name='fwd', **settings)
        return F.slice_axis(maps, axis=1, begin=0, end=1)
