"""A network's graph as a list of nodes that can be rewritten, and its parameters as NumPy arrays."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

import mxnet as mx
import numpy as np

from model.parameters.load import value_of

__all__ = ['INPUT', 'Graph', 'Node', 'Out', 'in_float32', 'parameters_of', 'trace']

INPUT = 'data'


class Out(NamedTuple):
    """One of a node's outputs."""

    node: Node
    index: int = 0


class Node:
    """An operator applied to outputs of other nodes; the operator ``null`` is a variable, named in the parameters.

    ``attrs`` are MXNet's, as strings. ``subgraphs`` contains the operators that a fused operator replaces.
    """

    def __init__(
        self,
        op: str,
        name: str,
        inputs: Iterable[Out] = (),
        attrs: Optional[Dict[str, str]] = None,
        subgraphs: Any = None,
    ) -> None:
        self.op, self.name, self.inputs = op, name, list(inputs)
        self.attrs, self.subgraphs = dict(attrs or {}), subgraphs

    def __repr__(self) -> str:
        return f'{self.op}({self.name})'

    def get(self, key: str, default: str) -> str:
        return self.attrs.get(key, default)

    def true(self, key: str, default: bool = False) -> bool:
        return self.attrs.get(key, str(default)) in ('True', 'true', '1')

    def numbers(self, key: str, default: str) -> Tuple[int, ...]:
        """Return the attribute's numbers: ``'(2, 2)'`` is (2, 2)."""
        text = self.attrs.get(key, default).strip('()[] ')
        return tuple(int(part) for part in text.split(',') if part.strip())


class Graph:
    """Nodes that lead from the variable ``data`` to ``heads``; ``params`` maps the other variables to arrays."""

    def __init__(self, heads: List[Out], params: Dict[str, np.ndarray]) -> None:
        self.heads, self.params = heads, params

    @classmethod
    def of(cls, symbol: mx.sym.Symbol, params: Dict[str, np.ndarray]) -> Graph:
        """Read a symbol; unused parameters are left out."""
        table = json.loads(symbol.tojson(remove_amp_cast=False))
        nodes: List[Node] = []
        for row in table['nodes']:
            inputs = [Out(nodes[entry[0]], entry[1]) for entry in row['inputs']]
            nodes.append(Node(row['op'], row['name'], inputs, row.get('attrs'), row.get('subgraphs')))
        graph = cls([Out(nodes[entry[0]], entry[1]) for entry in table['heads']], {})
        graph.params = {node.name: params[node.name] for node in graph.nodes() if node.name in params}
        return graph

    def nodes(self) -> List[Node]:
        """Return all nodes that the heads need, each after those it reads from."""
        done: Set[int] = set()
        order: List[Node] = []
        stack: List[Tuple[Node, bool]] = [(out.node, False) for out in reversed(self.heads)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif id(node) not in done:
                done.add(id(node))
                stack.append((node, True))
                stack.extend((out.node, False) for out in reversed(node.inputs))
        return order

    def readers(self) -> Dict[Tuple[int, int], List[Node]]:
        """Return a map from ``(id of node, output)`` to the nodes that read it; a head counts as the reader None."""
        table: Dict[Tuple[int, int], List[Any]] = {}
        for node in self.nodes():
            for out in node.inputs:
                table.setdefault((id(out.node), out.index), []).append(node)
        for out in self.heads:
            table.setdefault((id(out.node), out.index), []).append(None)
        return table

    def replace_all(self, changes: Dict[int, Out]) -> None:
        """Let everything that reads output 0 of a node, given by its id, read another output, replacements included."""

        def final(out: Out) -> Out:
            while out.index == 0 and id(out.node) in changes:
                out = changes[id(out.node)]
            return out

        self.heads = [final(out) for out in self.heads]
        done: Set[int] = set()
        waiting = [out.node for out in self.heads]
        while waiting:
            node = waiting.pop()
            if id(node) not in done:
                done.add(id(node))
                node.inputs = [final(out) for out in node.inputs]
                waiting.extend(out.node for out in node.inputs)

    def value(self, out: Out) -> Optional[np.ndarray]:
        """Return the array behind a variable; None for anything computed."""
        return self.params.get(out.node.name) if out.node.op == 'null' else None

    def variable(self, name: str, value: np.ndarray) -> Out:
        """Return a new parameter; its name is ``name`` or one like it."""
        unique, count = name, 0
        while unique in self.params:
            count += 1
            unique = f'{name}_{count}'
        self.params[unique] = value
        return Out(Node('null', unique))

    def symbol(self) -> mx.sym.Symbol:
        """Return the symbol; parameters that it no longer uses are removed from ``params``."""
        nodes = self.nodes()
        place = {id(node): index for index, node in enumerate(nodes)}
        rows: List[Dict[str, Any]] = []
        for node in nodes:
            row: Dict[str, Any] = {'op': node.op, 'name': node.name}
            if node.attrs:
                row['attrs'] = node.attrs
            row['inputs'] = [[place[id(out.node)], out.index, 0] for out in node.inputs]
            if node.subgraphs:
                row['subgraphs'] = node.subgraphs
            rows.append(row)
        table = {
            'nodes': rows,
            'arg_nodes': [index for index, node in enumerate(nodes) if node.op == 'null'],
            'heads': [[place[id(out.node)], out.index, 0] for out in self.heads],
            'attrs': {'mxnet_version': ['int', 10901]},
        }
        used = {node.name for node in nodes if node.op == 'null'}
        self.params = {name: value for name, value in self.params.items() if name in used}
        return mx.sym.load_json(json.dumps(table))


def parameters_of(net: mx.gluon.HybridBlock) -> Dict[str, np.ndarray]:
    """Copy a network's parameters by name, as float32; raise ``ValueError`` for one without a value."""
    params = {}
    for parameter in net.collect_params().values():
        if parameter._data is None:
            raise ValueError(
                f'the parameter {parameter.name} has no value yet; load parameters, or initialise and run the network'
            )
        params[parameter.name] = value_of(parameter).astype(np.float32)
    return params


def in_float32(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return a symbol that was just traced, without the casts that MXNet's amp puts into it.

    Once switched on, as training in bfloat16 does, amp adds casts to every graph of its process.
    """
    from mxnet.contrib.amp import amp

    return mx.sym.load_json(symbol.tojson(remove_amp_cast=True)) if amp._amp_initialized else symbol


def trace(net: mx.gluon.HybridBlock) -> Graph:
    """Return the graph of an initialised network in inference; its parameters are copied, as float32.

    Raises ``ValueError`` for a network without values.
    """
    with mx.autograd.pause():  # our units have other forms if gradients are needed
        symbol = net(mx.sym.var(INPUT))
    if isinstance(symbol, (list, tuple)):
        raise ValueError(f'the network returns {len(symbol)} arrays; a classifier returns one')
    return Graph.of(in_float32(symbol), parameters_of(net))
