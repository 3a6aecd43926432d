"""Run a network in MXNet, faster than `hybridize` does: folded, fused and with a fixed plan.

Batch norms go into the convolutions before them, and oneDNN fuses what follows a convolution into it. Batches may be
cut into pieces, and each core may run pieces of its own.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.graph import Graph, trace
from inference.optimization.bfloat16 import stored_in_bfloat16, to_bfloat16
from inference.optimization.channel_products import channels_by_batch_norm
from inference.optimization.float16 import stored_in_float16, to_float16
from inference.optimization.fold import fold
from inference.optimization.int8 import quantize
from inference.optimization.lanes import lanes_of
from inference.optimization.onednn import fused, has_onednn
from inference.optimization.program import Program
from inference.optimization.proof import TOLERANCE, difference, first_layer_or_not
from inference.optimization.single_map import widen_single_maps

__all__ = ['Optimized', 'folded_graph', 'int8_programs', 'program_of']

_CASTS = ('amp_cast', 'amp_multicast')


class Optimized(gluon.Block):
    """A network in MXNet that :func:`optimize` made: `(N, 3, H, W) float32 -> (N, classes) float32`, inference only.

    It is fastest at `input_shape`, and takes any number of images.

    Attributes:
        program: the graph, which runs `piece` images at a time.
        lanes: copies of it that share the pieces out; empty if the program runs them one after another.
        note: why another engine was not used, if speed was not the reason.
    """

    engine = 'mxnet'
    note: Optional[str] = None

    def __init__(
        self, program: Program, input_shape: Sequence[int], precision: str, piece: int, lanes: int = 1
    ) -> None:
        super().__init__()
        self.program, self.input_shape, self.precision, self.piece = program, tuple(input_shape), precision, piece
        example = mx.nd.zeros((piece, *input_shape[1:]), ctx=program.ctx)
        self.lanes = lanes_of(program, lanes, example) if lanes > 1 else []

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if mx.autograd.is_recording():
            raise ValueError('an optimized network has no gradients; train the network that it was made from')
        count = x.shape[0]
        if count <= self.piece:
            return self.program(x)
        parts = [x[start : start + self.piece] for start in range(0, count, self.piece)]
        if not self.lanes:
            return mx.nd.concat(*(self.program(part) for part in parts), dim=0)
        here = x.context
        answers = []
        for place, part in enumerate(parts):
            lane = self.lanes[place % len(self.lanes)]
            answers.append(lane(part.as_in_context(lane.ctx)))
        return mx.nd.concat(*(answer.as_in_context(here) for answer in answers), dim=0)


def folded_graph(net: gluon.HybridBlock) -> Graph:
    """Return the network's graph with batch norms folded.

    Raises `ValueError` for networks that MXNet's amp converted.
    """
    graph = trace(net)
    if any(node.op in _CASTS for node in graph.nodes()):
        raise ValueError(
            'the network was converted by MXNet (amp), and fusing such a network gives wrong answers; '
            "give the float32 network, and say precision='bfloat16'"
        )
    fold(graph)
    return graph


def program_of(net: gluon.HybridBlock, precision: str, ctx: mx.Context, single: bool = False) -> Program:
    """Return the program of a network in any precision but int8; `single` makes one for single images only."""
    graph = folded_graph(net)
    if precision == 'float16':
        to_float16(graph)
        return Program(graph.symbol(), graph.params, float16=stored_in_float16(graph), ctx=ctx)
    if ctx.device_type == 'gpu' or not has_onednn():
        return Program(graph.symbol(), graph.params, ctx=ctx)
    widen_single_maps(graph)
    if single:
        channels_by_batch_norm(graph)
    narrow = ()
    if precision == 'bfloat16':
        to_bfloat16(graph)
        narrow = stored_in_bfloat16(graph)
    return Program(fused(graph.symbol()), graph.params, narrow, ctx=ctx)


def int8_programs(net: gluon.HybridBlock, images: np.ndarray, ctx: mx.Context, single: bool) -> List[Program]:
    """Quantize a network, keeping its first layer in float32 only if that halves the error.

    Args:
        net: the network.
        images: real images (N, 3, H, W) from which the ranges are taken.
        ctx: the device.
        single: whether a program for single images is wanted too.

    Returns:
        The program for any number of images and, if it is wanted and accurate enough, the one for single images.
    """
    some = mx.nd.array(images[:32])
    expected = net(some)

    def program(first_layer: bool) -> Program:
        return Program(*quantize(folded_graph(net), images, first_layer), ctx=ctx)

    best, first_layer, found = first_layer_or_not(program, some, expected)
    chosen = [best]
    if single:
        graph = folded_graph(net)
        if channels_by_batch_norm(graph):
            chosen.append(Program(*quantize(graph, images, first_layer, batch_size=1), ctx=ctx))
            alone = difference(Optimized(chosen[1], some.shape, 'int8', 1)(some), expected)
            if alone > max(2 * found, TOLERANCE['bfloat16']):
                chosen.pop()
    return chosen
