"""Graphs with operators that the engine does not know: plans for the known parts, and MXNet between them.

Each operator gets a level. Operators of one level only depend on each other through operators of the same kind, so that
they run together, even levels in the engine and odd ones in MXNet. Arrays in plain order pass from one to the next.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.engine.lower import Unsupported, unknown
from inference.engine.shapes import Shapes, shapes_of
from inference.graph import INPUT, Graph, Node, Out

__all__ = ['Part', 'SplitNetwork', 'parts_of']

ANSWER = 'answer'  # what the last part gives

_LAYERS = ('Convolution', 'FullyConnected')
Key = Tuple[int, int]


class Part(NamedTuple):
    """A part of a graph: ``graph`` has the variables ``inputs``; ``outputs`` names its heads for the parts after it.

    ``inputs`` maps names to shapes for one image. The input of the whole network is called `INPUT`, its output
    `ANSWER`.
    """

    own: bool  # for the engine
    graph: Graph
    inputs: Dict[str, Tuple[int, ...]]
    outputs: Dict[str, Tuple[int, ...]]


def parts_of(graph: Graph, input_shape: Sequence[int], lanes: int) -> Tuple[List[Part], Optional[str]]:
    """Return the parts of a graph in the order in which they run, and a description of what MXNet runs, if anything.

    Raises `Unsupported` if nothing worth a plan is left.
    """
    _compute_constants(graph)
    one = {INPUT: (1, *input_shape[1:])}
    shapes = shapes_of(graph, one)
    nodes = [node for node in graph.nodes() if node.op != 'null']
    reasons = unknown(graph, _whole(graph, shapes), one, lanes)
    foreign = set(reasons)
    batched = _batched(graph, shapes, shapes_of(graph, {INPUT: (2, *input_shape[1:])}))
    while True:
        levels = _levels(nodes, foreign)
        more = _misplaced(nodes, levels, foreign, batched)
        if not more:
            break
        foreign |= more
    parts = [_part(graph, nodes, levels, level, shapes) for level in sorted(set(levels.values()))]
    if not any(part.own for part in parts):
        raise Unsupported(next(iter(reasons.values())))
    if not reasons:
        return parts, None
    named = sorted({node.op for node in nodes if id(node) in reasons})
    said = named[0] if len(named) == 1 else f'{", ".join(named[:-1])} and {named[-1]}'
    count = sum(part.own for part in parts)
    return parts, f'MXNet runs {said}, {"between" if count > 1 else "beside"} {count} plan{"s" * (count > 1)}'


def _compute_constants(graph: Graph) -> None:
    """Add values that do not depend on images to the parameters, so that every part can use them."""
    nodes = graph.nodes()
    moving = {id(node) for node in nodes if node.op == 'null' and node.name == INPUT}
    for node in nodes:
        if any(id(out.node) in moving for out in node.inputs):
            moving.add(id(node))
    read = {out: None for node in nodes if id(node) in moving for out in node.inputs}
    fixed = [out for out in read if id(out.node) not in moving and out.node.op != 'null']
    if not fixed:
        return
    # With a variable that nothing reads, because MXNet does not run a graph without one.
    symbol = Graph([*fixed, Out(Node('null', INPUT))], dict(graph.params)).symbol()
    values = {INPUT: np.zeros(1), **graph.params}
    made = mx.nd.CachedOp(symbol)(*(mx.nd.array(values[name]) for name in symbol.list_inputs()))
    known = {out: graph.variable(_name(out), array.asnumpy()) for out, array in zip(fixed, made)}
    for node in nodes:
        node.inputs = [known.get(out, out) for out in node.inputs]


def _whole(graph: Graph, shapes: Shapes) -> Shapes:
    for node in graph.nodes():
        shape = shapes.get((id(node), 0))
        if not shape or not all(n > 0 for n in shape):
            raise Unsupported(f'the operator {node.op} ({node.name}), whose shape is not known beforehand')
    return shapes


def _batched(graph: Graph, one: Shapes, two: Shapes) -> Set[Key]:
    """Return the values whose leading axis counts images, alone or together with a following axis."""
    return {key for key, shape in one.items() if shape and two.get(key) == (2 * shape[0], *shape[1:])}


def _levels(nodes: Sequence[Node], foreign: Set[int]) -> Dict[int, int]:
    levels: Dict[int, int] = {}
    for node in nodes:
        least = max((levels.get(id(out.node), 0) for out in node.inputs), default=0)
        levels[id(node)] = least + ((id(node) in foreign) != least % 2)
    return levels


def _misplaced(nodes: Sequence[Node], levels: Dict[int, int], foreign: Set[int], batched: Set[Key]) -> Set[int]:
    """Return further nodes for MXNet: levels without layers, and crossings that are not arrays of images."""
    worth = {levels[id(node)] for node in nodes if node.op in _LAYERS and id(node) not in foreign}
    more = {id(node) for node in nodes if id(node) not in foreign and levels[id(node)] not in worth}
    for node in nodes:
        for out in node.inputs:
            crosses = out.node.op != 'null' and levels[id(out.node)] != levels[id(node)]
            if crosses and (id(out.node), out.index) not in batched:
                more |= {id(out.node), id(node)} - foreign
    return more


def _part(graph: Graph, nodes: Sequence[Node], levels: Dict[int, int], level: int, shapes: Shapes) -> Part:
    """Return the nodes of a level as a graph of their own, with copies of its nodes."""
    ours = {id(node) for node in nodes if levels[id(node)] == level}
    copies: Dict[int, Node] = {}
    inputs: Dict[str, Tuple[int, ...]] = {}

    def taken(out: Out) -> Out:
        key = id(out.node)
        if key in ours:
            return Out(copies[key], out.index)
        if out.node.op == 'null' and out.node.name != INPUT:
            name = out.node.name
        else:
            name = _name(out)
            inputs[name] = shapes[key, out.index]
        if name not in variables:
            variables[name] = Node('null', name)
        return Out(variables[name])

    variables: Dict[str, Node] = {}
    for node in nodes:
        if id(node) in ours:
            copies[id(node)] = Node(node.op, node.name, map(taken, node.inputs), node.attrs, node.subgraphs)
    wanted: Dict[str, Out] = {}
    for reader in [*nodes, None]:
        for out in graph.heads if reader is None else reader.inputs:
            if id(out.node) in ours and (reader is None or id(reader) not in ours):
                wanted[ANSWER if reader is None else _name(out)] = out
    heads = [Out(copies[id(out.node)], out.index) for out in wanted.values()]
    params = {name: graph.params[name] for name in variables if name in graph.params}
    outputs = {name: shapes[id(out.node), out.index] for name, out in wanted.items()}
    return Part(level % 2 == 0, Graph(heads, params), inputs, outputs)


def _name(out: Out) -> str:
    return INPUT if out.node.op == 'null' else f'{out.node.name}:{out.index}'


class _Program:
    """A part that MXNet runs: arrays by name, with their leading axes, to arrays by name."""

    def __init__(self, part: Part) -> None:
        symbol = part.graph.symbol()
        self._names, self._outputs = symbol.list_inputs(), list(part.outputs)
        self._arrays = {name: mx.nd.array(part.graph.params[name]) for name in self._names if name not in part.inputs}
        self._run = mx.nd.CachedOp(symbol)

    def __call__(self, values: Dict[str, np.ndarray], images: int) -> Iterator[Tuple[str, np.ndarray]]:
        given = [self._arrays[n] if n in self._arrays else mx.nd.array(values[n]) for n in self._names]
        made = self._run(*given)
        for name, array in zip(self._outputs, made if isinstance(made, (list, tuple)) else [made]):
            yield name, array.asnumpy()


class _Plan:
    """The same for a part that the engine runs."""

    def __init__(self, part: Part, network: Any) -> None:
        self._part, self.network = part, network

    def __call__(self, values: Dict[str, np.ndarray], images: int) -> Iterator[Tuple[str, np.ndarray]]:
        flat = [values[name].reshape((images, -1)) for name in self._part.inputs]
        made, at = self.network.run(np.concatenate(flat, axis=1)), 0
        for name, shape in self._part.outputs.items():
            size = int(np.prod(shape, dtype=np.int64))
            yield name, made[:, at : at + size].reshape((images * shape[0], *shape[1:]))
            at += size


class SplitNetwork(gluon.Block):
    """Plans with MXNet between them: ``(N, 3, H, W) float32 -> (N, classes) float32`` as an `EngineNetwork`.

    ``note`` says what MXNet runs.
    """

    engine = 'own'

    def __init__(self, graph: Graph, input_shape: Sequence[int], lanes: int, make: Callable[..., Any]) -> None:
        """Use ``make(graph, inputs, shape)`` to plan a part whose inputs lie in a row in arrays of ``shape``."""
        super().__init__()
        parts, self.note = parts_of(graph, input_shape, lanes)
        self.input_shape, self.precision = tuple(input_shape), 'float32'
        self._steps: List[Callable[..., Iterator[Tuple[str, np.ndarray]]]] = []
        for part in parts:
            size = sum(int(np.prod(shape, dtype=np.int64)) for shape in part.inputs.values())
            if part.own:
                self._steps.append(_Plan(part, make(part.graph, part.inputs, (int(input_shape[0]), size))))
            else:
                self._steps.append(_Program(part))

    @property
    def plans(self) -> List[Any]:
        """Return the networks that the engine runs."""
        return [step.network for step in self._steps if isinstance(step, _Plan)]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the answers to images (N, 3, H, W).

        Raises `ValueError` for other sizes than those of ``input_shape``.
        """
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(f'images are {images.shape}; this network was made for (N, {self.input_shape[1:]})')
        values = {INPUT: np.ascontiguousarray(images, np.float32)}
        for step in self._steps:
            values.update(step(values, len(images)))
        return values[ANSWER]

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if mx.autograd.is_recording():
            raise ValueError('an optimized network has no gradients; train the network that it was made from')
        return mx.nd.from_numpy(np.ascontiguousarray(self.run(x.asnumpy())), zero_copy=True)
