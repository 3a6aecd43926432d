"""Training in less memory: what the backward pass needs is computed a second time in place of being kept.

Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174. The forward pass keeps
what goes into each segment of a network; the backward pass runs the segments again, the last one first, and holds the
activations of one at a time. The last segments are kept as they are where there is room: the backward pass begins with
them, and most of what is kept lies in the first ones, whose maps are large.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import kernels
from environment import UsageError
from model.backbone.classifier import lacking
from model.layers.carry import join, split

__all__ = ['Recomputed', 'segments_of']


class Segment(gluon.HybridBlock):
    """A part of a network, ``(x, *carry) -> (x, *carry)``; its blocks, and their names, are the network's.

    Args:
        function: ``(F, x, *carry) -> out``.
        blocks: the blocks that it runs, by their names in the network.
    """

    def __init__(self, function: Callable[..., Any], blocks: Sequence[Tuple[str, gluon.Block]]) -> None:
        super().__init__()
        self._function = function
        self._places: List[int] = []
        self._count = 0
        for name, block in blocks:
            self.register_child(block, name)

    def taken(self, count: int) -> List[int]:
        """Return which of so many arrays it is to be given.

        A stage's first block has no use for the carry of the stage before.
        """
        if count != self._count:
            inputs = [mx.sym.var(f'input{number}') for number in range(count)]
            out = self._function(mx.sym, *inputs)
            names = mx.sym.Group(list(out) if isinstance(out, (list, tuple)) else [out]).list_inputs()
            self._places = [number for number in range(count) if f'input{number}' in names]
            self._count = count
        return self._places

    def hybrid_forward(self, F: Any, *given: Any) -> Any:
        arrays = dict(zip(self._places, given))
        return self._function(F, *(arrays.get(number) for number in range(self._count)))


def _in_a_row(blocks: Sequence[gluon.HybridBlock]) -> Callable[..., Any]:
    def run(_: Any, x: Any, *carry: Any) -> Any:
        for block in blocks:
            x, carry = split(block(x, *carry))
        return join(x, carry)

    return run


def _parameters(blocks: Sequence[gluon.Block]) -> set:
    return {id(parameter) for block in blocks for parameter in block.collect_params().values()}


def segments_of(net: gluon.HybridBlock) -> List[Segment]:
    """Return a classifier's segments: what is before the stages, each block of a stage, and what is behind them.

    Blocks that share a unit, as DIA's do, are one segment: their gradients for it have to be added up. Raises
    `UsageError` for a network without stages.
    """
    missing = lacking(net)
    if missing:
        raise UsageError(
            f'--recompute needs a network of stages, and {type(net).__name__} has no {missing[0]}; leave it out'
        )
    segments = [Segment(net.before_stages, _used(net.before_stages, net))]
    for stage in net.stages:
        row: List[List[gluon.HybridBlock]] = []
        for block in stage._children.values():
            if row and _parameters(row[-1]) & _parameters([block]):
                row[-1].append(block)
            else:
                row.append([block])
        for blocks in row:
            segments.append(Segment(_in_a_row(blocks), [(str(place), block) for place, block in enumerate(blocks)]))

    def head(F: Any, x: Any, *carry: Any) -> Any:
        return net.classifier(net.after_stages(F, x))

    return [*segments, Segment(head, _used(head, net))]


def _used(function: Callable[..., Any], net: gluon.HybridBlock) -> List[Tuple[str, gluon.Block]]:
    """Return the largest blocks of a network all of whose parameters `function` uses."""
    names = set(function(mx.sym, mx.sym.var('data')).list_inputs())

    def within(block: gluon.Block, path: str) -> Iterator[Tuple[str, gluon.Block]]:
        own = set(block.collect_params())
        if own and own <= names:
            yield path, block
        elif own & names:
            for name, child in block._children.items():
                yield from within(child, f'{path}.{name}' if path else name)

    return list(within(net, ''))


@dataclass
class _Pass:
    """What a forward pass keeps of each segment: its inputs, and which earlier outputs they are."""

    seeds: List[int]
    inputs: List[List[Any]] = field(default_factory=list)
    taken: List[List[int]] = field(default_factory=list)


class Recomputed(gluon.Block):
    """A network trained segment by segment: `program(images)` while recording, and then `backward()`.

    Args:
        program: the network as it runs otherwise, and for anything but training.
        net: the network itself, in float32.
        hybrid: whether segments run as graphs.
        random: whether the network draws random numbers when it trains: both runs of a segment draw the same.
        fuse: whether its graphs fuse operators, see `kernels`.

    The gradients are those of the program, in the order of its operators. Memory for activations is that of the inputs
    of all segments and of the largest segment, or a third of the program's if that is more: then the last segments are
    not computed again. Time is that of one more forward pass of the others.
    """

    def __init__(
        self, program: gluon.Block, net: gluon.HybridBlock, hybrid: bool, random: bool, fuse: bool = False
    ) -> None:
        super().__init__(prefix='')
        self.program, self._random, self._fuse = program, random, fuse
        self._again: Dict[Tuple[int, ...], int] = {}  # how many segments are computed again, by the shape of images
        # In a list, so that their parameters are not counted twice.
        *self._segments, head = segments_of(net)
        self._head = [head]
        if hybrid:
            for segment in (*self._segments, head):
                # Fixed memory would be that of all segments at once.
                segment.hybridize(static_alloc=False, static_shape=False)
        self._passes: List[_Pass] = []

    def forward(self, x: Any) -> Any:
        if not autograd.is_recording():
            return self.program(x)
        if x.shape not in self._again:
            self._again[x.shape] = self._count(x)
        count, everything = self._again[x.shape], [*self._segments, *self._head]
        state, kept, before = (x,), _Pass(self._seeds()), x
        for number in range(count):
            given = self._enter(everything[number], state, kept)
            with autograd.pause(train_mode=True):
                # Whatever is asked of MXNet ahead of time has its memory at once.
                before.wait_to_read()
                state = self._run(number, given, kept.seeds)
                before = given[0]
        leaves = [array.detach() for array in self._enter(everything[count], state, kept)]
        for leaf in leaves:
            leaf.attach_grad()
        kept.inputs[-1] = leaves
        self._passes.append(kept)
        state = leaves
        for number in range(count, len(self._segments)):
            out = self._run(number, state, kept.seeds)
            state = [out[place] for place in everything[number + 1].taken(len(out))]
        return everything[-1](*state)

    def _enter(self, segment: Segment, state: Sequence[Any], kept: _Pass) -> List[Any]:
        """Return what a segment needs of what the one before it returned, and keep it."""
        taken = segment.taken(len(state))
        state = [state[number] for number in taken]
        kept.taken.append(taken)
        kept.inputs.append(state)
        return state

    def _count(self, x: Any) -> int:
        """Return how many segments are computed again so that a step takes a third of the memory, or least, if more."""
        inputs, within = [], []
        shapes, everything = [x.shape], [*self._segments, *self._head]
        for segment in everything:
            shapes = [shapes[place] for place in segment.taken(len(shapes))]
            with autograd.record(), kernels.fusing(self._fuse):
                names, out = segment._get_graph(*[x] * len(shapes))
            inputs.append(sum(map(_size, shapes)))
            shapes, sizes = _sizes(out, dict(zip((name.name for name in names), shapes)))
            # What is kept, and the gradients of the two largest maps in it.
            within.append((sum(sizes), 2 * max(sizes)))
        held = list(itertools.accumulate(inputs))
        working = max(before + sum(own) for before, own in zip(held[:-1], within))
        limit = max(working, (sum(own for own, _ in within) + max(more for _, more in within)) / 3)
        count = len(self._segments)
        while count > 1 and held[count - 1] + sum(own for own, _ in within[count - 1 :]) + within[-1][1] <= limit:
            count -= 1
        return count

    def backward(self) -> None:
        """Bring the gradients of the last segment's inputs, which are there, back to the images."""
        for kept in self._passes:
            gradients = [leaf.grad for leaf in kept.inputs.pop()]
            for number in reversed(range(len(kept.inputs))):
                gradients = self._back(number, kept, gradients)
                mx.nd.waitall()
        self._passes = []

    def _back(self, number: int, kept: _Pass, gradients: Sequence[Any]) -> List[Any]:
        """Return the gradients of what a segment was given, for those of what the next one took; none for images."""
        state, heads = [array.detach() for array in kept.inputs.pop()], kept.taken.pop()
        if number:
            for array in state:
                array.attach_grad()
        before = _updated_forward(self._segments[number], state[0].context)
        with autograd.record():
            out = self._run(number, state, kept.seeds)
        autograd.backward([out[head] for head in heads], list(gradients))
        for parameter, values in before:
            parameter.data(state[0].context)[:] = values
        return [array.grad for array in state]

    def _seeds(self) -> List[int]:
        """Return a seed for each segment, drawn from MXNet's random numbers; none for a network that draws none."""
        if not self._random:
            return []
        return mx.nd.random.randint(0, 2**31 - 1, shape=len(self._segments), ctx=mx.cpu()).asnumpy().tolist()

    def _run(self, number: int, state: Sequence[Any], seeds: List[int]) -> Tuple[Any, ...]:
        if seeds:
            mx.random.seed(seeds[number])
        x, carry = split(self._segments[number](*state))
        return (x, *carry)


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape))


# Operators that mostly compute in the place of what they are given.
_IN_PLACE = ('Activation', 'LeakyReLU', 'clip', 'elemwise_add', 'add_n', 'relu', 'Reshape', 'Flatten', 'expand_dims')


def _sizes(out: Any, given: Dict[str, Tuple[int, ...]]) -> Tuple[List[Tuple[int, ...]], List[int]]:
    """Return the shapes of what a graph returns for inputs of these shapes, and the sizes of what it has to keep."""
    inside = out.get_internals()
    _, found, _ = inside.infer_shape(**given)
    not_kept = {*inside.list_arguments(), *inside.list_auxiliary_states()}
    not_kept.update(f'{node["name"]}_output' for node in json.loads(out.tojson())['nodes'] if node['op'] in _IN_PLACE)
    sizes = [_size(shape) for name, shape in zip(inside.list_outputs(), found) if name not in not_kept]
    return out.infer_shape(**given)[1], sizes


def _updated_forward(segment: Segment, context: mx.Context) -> List[Tuple[Any, Any]]:
    """Return the running statistics that a forward pass on this device updates, and their values.

    cuDNN's batch norm updates them in the forward pass, which comes twice; MXNet's own in the backward pass.
    """
    if context.device_type != 'gpu':
        return []
    running = [p for p in segment.collect_params().values() if p.grad_req == 'null' and 'running' in p.name]
    return [(parameter, parameter.data(context).copy()) for parameter in running]
