"""Put our operators in place of several of MXNet's in graphs that are traced in `kernels.fusing`.

A batch norm up to the ReLU behind it becomes two operators (`norm.h`), which take along the sum with a shortcut and a
gate for each channel, with the pool that the gate is computed from. Any other sum and its ReLU become one. Without a
sum, a ReLU6 (`clip`) serves as well.

In graphs with MXNet's casts to bfloat16, maps stay bfloat16 where MXNet would make them float32 because a number for
each channel or position is.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

__all__ = ['fused_graph', 'fuse_what_is_traced']

Entry = Tuple[int, int]  # number of a node, number of its output
Node = Dict[str, Any]

SUMS = ('elemwise_add', '_plus', '_Plus')
#: Of a map and something smaller.
PRODUCTS = ('broadcast_mul', 'broadcast_add')
#: Operators that leave the number of axes as it is.
KEEPING = (
    'Activation',
    'BatchNorm',
    'Dropout',
    'Pooling',
    '_atac',
    '_attend',
    '_copy',
    '_pool_channels',
    '_pool_space',
    '_pool_space_max',
    '_sge',
    'amp_cast',
    'amp_multicast',
    *PRODUCTS,
    *SUMS,
)


class Match(NamedTuple):
    """The nodes from a batch norm to a ReLU: the entries of gate and shortcut, and the pool, if there are any.

    Without a ``norm``, ``terms`` are the two entries of the sum in front of the ReLU.
    """

    norm: Optional[int] = None
    terms: Tuple[Entry, ...] = ()
    gate: Optional[Entry] = None
    pool: Optional[int] = None
    shortcut: Optional[Entry] = None
    six: bool = False  # a ReLU6


class _Graph:
    def __init__(self, content: Dict[str, Any]) -> None:
        self.nodes: List[Node] = content['nodes']
        used = [tuple(entry[:2]) for node in self.nodes for entry in node['inputs']]
        self.uses = Counter([*used, *(tuple(entry[:2]) for entry in content['heads'])])
        self.has_casts = any(node['op'] == 'amp_cast' for node in self.nodes)
        self._narrow: List[bool] = []  # whether the first output of each node is certain to be bfloat16
        for number in range(len(self.nodes)):
            self._narrow.append(self._is_narrow(number))

    def _is_narrow(self, number: int) -> bool:
        op = self.nodes[number]['op']
        if op in ('amp_cast', 'Cast'):
            return self.attribute(number, 'dtype', '') == 'bfloat16'
        if op == 'Convolution':
            return self.has_casts
        if op in (*SUMS, *PRODUCTS, 'amp_multicast'):
            return all(map(self.is_narrow, self.inputs(number))) or self.narrow_product(number) is not None
        return op in KEEPING and self.is_narrow(self.inputs(number)[0])

    def is_narrow(self, entry: Entry) -> bool:
        """Return whether an entry is certain to be a bfloat16 map, or numbers in bfloat16."""
        first = entry[1] == 0 or self.nodes[entry[0]]['op'] == 'amp_multicast'
        return first and self._narrow[entry[0]]

    def of_one_type(self, *entries: Entry) -> bool:
        """Return whether entries are certain to have the same number format."""
        return not self.has_casts or all(map(self.is_narrow, entries))

    def without_cast(self, entry: Entry) -> Entry:
        """Return what an entry is before MXNet's cast to the wider format of several."""
        return self.inputs(entry[0])[entry[1]] if self.nodes[entry[0]]['op'] == 'amp_multicast' else entry

    def is_row(self, entry: Entry) -> bool:
        """Return whether an entry is a number for each channel and sample, as (N, C, 1, 1)."""
        return self.nodes[entry[0]]['op'] == 'Reshape' and self.attribute(entry[0], 'shape', '') == '(0, 0, 1, 1)'

    def is_plane(self, entry: Entry) -> bool:
        """Return whether an entry is a number for each position and sample, as (N, 1, H, W), of ours."""
        number = entry[0]
        while self.nodes[number]['op'] in KEEPING:
            number = self.inputs(number)[0][0]
        return self.nodes[number]['op'] == '_single_map'

    def narrow_product(self, number: int) -> Optional[Tuple[Entry, Entry]]:
        """Return the inputs of a product or sum of a bfloat16 map and wider numbers for its channels or positions."""
        if not self.has_casts or self.nodes[number]['op'] not in PRODUCTS:
            return None
        x, factor = map(self.without_cast, self.inputs(number))
        is_factor = not self.is_narrow(factor) and (self.is_row(factor) or self.is_plane(factor))
        return (x, factor) if self.is_narrow(x) and is_factor else None

    def inputs(self, number: int) -> List[Entry]:
        return [(entry[0], entry[1]) for entry in self.nodes[number]['inputs']]

    def attribute(self, number: int, name: str, otherwise: str) -> str:
        return self.nodes[number].get('attrs', {}).get(name, otherwise)

    def only_use(self, entry: Entry, *ops: str) -> bool:
        """Return whether an entry is the first output of one of the operators, and used once."""
        return entry[1] == 0 and self.uses[entry] == 1 and self.nodes[entry[0]]['op'] in ops

    def is_map(self, entry: Entry) -> bool:
        """Return whether an entry is certain to be (N, C, H, W)."""
        number, output = entry
        while self.nodes[number]['op'] in KEEPING:
            number, output = self.inputs(number)[output if self.nodes[number]['op'] == 'amp_multicast' else 0]
        kernel = self.attribute(number, 'kernel', '')
        return self.nodes[number]['op'] == 'Convolution' and kernel.count(',') == 1 and not kernel.endswith(',)')

    def is_norm(self, entry: Entry) -> bool:
        """Return whether an entry is the output of a batch norm that we have, and used once."""
        number = entry[0]
        wanted = {'fix_gamma': 'False', 'use_global_stats': 'False', 'axis': '1', 'output_mean_var': 'False'}
        usual = {'fix_gamma': 'True', 'use_global_stats': 'False', 'axis': '1', 'output_mean_var': 'False'}
        return (
            self.only_use(entry, 'BatchNorm')
            and all(self.attribute(number, name, usual[name]) == value for name, value in wanted.items())
            and not (self.uses[number, 1] or self.uses[number, 2])
            and self.is_map(self.inputs(number)[0])
            and self.of_one_type(self.inputs(number)[0])
        )

    def branch(self, entry: Entry) -> Optional[Match]:
        """Return what an entry is if it is a batch norm, with a gate or without one."""
        if self.is_norm(entry):
            return Match(entry[0])
        if not self.only_use(entry, 'broadcast_mul'):
            return None
        pooled, factor = map(self.without_cast, self.inputs(entry[0]))
        if not self.is_row(factor) or self.is_narrow(self.inputs(factor[0])[0]):
            return None
        if not self.only_use(pooled, '_pool_space') or not self.is_norm(self.inputs(pooled[0])[0]):
            return None
        return Match(self.inputs(pooled[0])[0][0], gate=self.inputs(factor[0])[0], pool=pooled[0])

    def match(self, number: int) -> Optional[Match]:
        """Return what is behind a node, if it is a ReLU that can be fused."""
        op = self.nodes[number]['op']
        if op == 'clip' and [float(self.attribute(number, name, 'nan')) for name in ('a_min', 'a_max')] == [0, 6]:
            found = self.branch(self.inputs(number)[0])
            return found and found._replace(six=True)
        if op != 'Activation' or self.attribute(number, 'act_type', '') != 'relu':
            return None
        source = self.inputs(number)[0]
        if not self.only_use(source, *SUMS):
            return self.branch(source)
        terms = [self.without_cast(entry) for entry in self.inputs(source[0])]
        if not self.of_one_type(*terms):
            return None
        for own, other in (terms, terms[::-1]):
            found = self.branch(own)
            if found is not None:
                return found._replace(shortcut=other)
        return Match(terms=tuple(terms)) if any(map(self.is_map, terms)) else None


def _last(match: Match) -> Tuple[str, List[Entry]]:
    """Return the operator in place of the ReLU, and its inputs."""
    if match.norm is None:
        return '_sum_relu', list(match.terms)
    name = '_norm_leave' + ('_gate' if match.gate else '') + ('_sum' if match.shortcut else '') + '_six' * match.six
    inputs = [(match.norm, 0), (match.norm, 2), match.gate, match.shortcut]
    return name, [entry for entry in inputs if entry is not None]


def fused_graph(symbol: Any) -> Any:
    """Return a symbol with the same inputs and outputs as ``symbol``, whose batch norms with a ReLU are fused."""
    from mxnet import symbol as sym

    content = json.loads(symbol.tojson(remove_amp_cast=False))
    graph = _Graph(content)
    matches = {number: graph.match(number) for number in range(len(graph.nodes))}
    ends = {number: match for number, match in matches.items() if match is not None}
    products = {number: graph.narrow_product(number) for number in range(len(graph.nodes))}
    if not (ends or any(products.values())) or any(node.get('control_deps') for node in graph.nodes):
        return symbol
    begins = {match.norm for match in ends.values()}
    pools = {match.pool for match in ends.values()}
    nodes: List[Node] = []
    places: Dict[int, int] = {}  # outputs keep their numbers: those of a batch norm and of its pool are the first two

    def moved(entry: Entry) -> List[int]:
        return [places[entry[0]], entry[1], 0]

    def add(old: int, node: Node, inputs: List[Entry]) -> None:
        places[old] = len(nodes)
        nodes.append({**node, 'inputs': [moved(entry) for entry in inputs]})

    for number, node in enumerate(graph.nodes):
        if number in begins:
            attributes = {name: value for name, value in node.get('attrs', {}).items() if name in ('eps', 'momentum')}
            add(number, {'op': '_norm_enter', 'name': node['name'], 'attrs': attributes}, graph.inputs(number))
        elif number in pools:
            places[number] = places[graph.inputs(number)[0][0]]
        elif number in ends:
            name, inputs = _last(ends[number])
            add(number, {'op': name, 'name': node['name']}, inputs)
        elif products[number] is not None:
            x, row = products[number]
            cast = {'op': 'amp_cast', 'name': f'{node["name"]}_narrow', 'attrs': {'dtype': 'bfloat16'}}
            nodes.append({**cast, 'inputs': [moved(row)]})
            places[number] = len(nodes)
            nodes.append({**node, 'inputs': [moved(x), [len(nodes) - 1, 0, 0]]})
        else:
            add(number, node, graph.inputs(number))
    heads = [moved((entry[0], entry[1])) for entry in content['heads']]
    arguments = [number for number, node in enumerate(nodes) if node['op'] == 'null']
    kept = {'nodes': nodes, 'arg_nodes': arguments, 'heads': heads, 'attrs': content['attrs']}
    return sym.load_json(json.dumps(kept))


def fuse_what_is_traced() -> None:
    """Make Gluon fuse the graph of every block that is hybridized, when it traces it in `kernels.fusing`."""
    from mxnet.gluon import HybridBlock

    import kernels

    trace = HybridBlock._get_graph

    def traced(self: HybridBlock, *args: Any) -> Any:
        if not self._cached_graph and kernels.fuses():
            inputs, out = trace(self, *args)
            self._cached_graph = inputs, fused_graph(out)
        return trace(self, *args)

    HybridBlock._get_graph = traced
