"""Blocks of one form as one class, with the numbers that differ between them as its arguments."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any, Dict, Hashable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from inference.torch_source.forward import arguments, forward_lines
from inference.torch_source.layers import Argument, layer_of
from inference.torch_source.record import Recording, Unwritten
from model.convert.tables import torch_leaf
from model.layers.carry import Stage

__all__ = ['Part', 'Written', 'written']

_WIDTH = 110
# Arguments that say how many channels come out.
_ENDS = ('out_channels', 'out_features', 'num_features', 'num_channels', 'normalized_shape', 'channels')


class Part(NamedTuple):
    """A constructor's call: its arguments, or what it is made of."""

    head: str
    arguments: Tuple[Argument, ...] = ()
    parts: Tuple[Part, ...] = ()
    end: str = ''
    places: Tuple[str, ...] = ()  # what is written in place of the arguments' values, '' for the value

    def items(self) -> List[Any]:
        if self.parts:
            return _repeated(self.parts)
        places = self.places or [''] * len(self.arguments)
        items = []
        for argument, place in zip(self.arguments, places):
            if argument.default is None:
                items.append(place or repr(argument.value))
            elif place or argument.value != argument.default:
                items.append(f'{argument.name}={place or repr(argument.value)}')
        return items

    def line(self) -> str:
        items = ', '.join(each if isinstance(each, str) else each.line() for each in self.items())
        return f'{self.head}({items}){self.end}'

    def lines(self, before: str, after: str, indent: int) -> List[str]:
        """Return ``before head(items) after``, on several lines if one is too short."""
        space = ' ' * indent
        whole = f'{space}{before}{self.line()}{after}'
        if len(whole) <= _WIDTH or not self.items():
            return [whole]
        rows = [f'{space}{before}{self.head}(']
        for each in self.items():
            if isinstance(each, str):
                rows.append(f'{space}    {each},')
            else:
                rows += each.lines('', ',', indent + 4)
        return [*rows, f'{space}){self.end}{after}']


def _repeated(parts: Sequence[Part]) -> List[Any]:
    """Return the parts, several alike in a row as one line."""
    items: List[Any] = []
    start = 0
    while start < len(parts):
        end = start + 1
        while end < len(parts) and parts[end].line() == parts[start].line():
            end += 1
        one = parts[start]
        items.append(one if end == start + 1 else f'*({one.line()} for _ in range({end - start}))')
        start = end
    return items


class Written(NamedTuple):
    """The classes in the order in which they are defined, and which blocks share another's."""

    classes: List[List[str]]
    name: str
    ties: List[Tuple[str, str, str]]  # the block's path, its attribute, whose it is


class _Class(NamedTuple):
    name: str
    values: Dict[int, List[Argument]]  # what the constructor gets, by the block's id


def written(net: gluon.HybridBlock, recordings: Dict[int, Recording], taken: Set[str]) -> Written:
    """Return the source of the classes that make up ``net``; ``taken`` are names that they cannot have."""
    return _Classes(net, recordings, taken).write(net)


class _Classes:
    def __init__(self, net: gluon.HybridBlock, recordings: Dict[int, Recording], taken: Set[str]) -> None:
        self.recordings, self.taken = recordings, set(taken)
        if not any(recording.further for recording in recordings.values()):
            for recording in recordings.values():  # nothing is passed on in this network
                recording.rest = None
        self.shared: Dict[Tuple[int, str], str] = {}
        self.ties: List[Tuple[str, str, str]] = []
        self._find_shared(net, '', {})
        self.forms: Dict[int, Hashable] = {}
        self.bodies: Dict[int, List[str]] = {}
        self.blocks: Dict[Hashable, List[gluon.Block]] = {}
        self.form(net)
        self.names = self._named()
        self.made: Dict[Hashable, _Class] = {}
        self.sources: List[List[str]] = []

    def _find_shared(self, block: gluon.Block, path: str, owners: Dict[int, str]) -> None:
        for name, child in block._children.items():
            below = f'{path}[{name}]' if name.isdigit() else f'{path}.{name}'
            if id(child) in owners and (layer_of(child) is None or child.collect_params()):
                self.shared[id(block), name] = owners[id(child)]
                self.ties.append((path, name, owners[id(child)]))
                continue
            owners[id(child)] = below
            self._find_shared(child, below, owners)

    def _children(self, block: gluon.Block) -> Iterator[Tuple[str, gluon.Block]]:
        return ((name, child) for name, child in block._children.items() if (id(block), name) not in self.shared)

    def _is_row(self, block: gluon.Block) -> Optional[str]:
        """Return ``nn.Sequential`` or ``Stage`` for blocks that are nothing else."""
        if (
            type(block) not in (nn.HybridSequential, Stage)
            and type(block).hybrid_forward is not nn.HybridSequential.hybrid_forward
        ):
            recording = self.recordings.get(id(block))
            if recording is None or not isinstance(block, nn.HybridSequential) or not _is_chain(recording):
                return None
        if any(layer_of(child) is not None and layer_of(child).after for child in block._children.values()):
            raise Unwritten('a layer with an activation of its own in a sequence has no form in PyTorch here')
        recording = self.recordings.get(id(block))
        carries = recording is not None and (len(recording.outputs) > 1 or len(recording.inputs) > 1)
        return 'Stage' if carries else 'nn.Sequential'

    def form(self, block: gluon.Block) -> Hashable:
        """Return the form of a block, without its numbers; blocks of one form become one class."""
        if id(block) not in self.forms:
            self.forms[id(block)] = self._form(block)
        return self.forms[id(block)]

    def _form(self, block: gluon.Block) -> Hashable:
        layer = layer_of(block)
        if layer is not None:
            return layer.name, layer.end
        row = self._is_row(block)
        children = tuple((name, self.form(child)) for name, child in self._children(block))
        if row:
            return row, children
        if id(block) not in self.recordings:
            raise Unwritten(f'{type(block).__name__} takes no part in what the network computes')
        recording = self.recordings[id(block)]
        self.bodies[id(block)] = forward_lines(recording)
        own = tuple((torch_leaf(block, name), len(each.shape)) for name, each in block._reg_params.items())
        key = (type(block), tuple(arguments(recording)), tuple(self.bodies[id(block)]), children, own)
        self.blocks.setdefault(key, []).append(block)
        return key

    def _named(self) -> Dict[Hashable, str]:
        """Return a name for each class: that of the block's, and for its richer forms what they have more."""
        names: Dict[Hashable, str] = {}
        families: Dict[str, List[Hashable]] = {}
        for key in self.blocks:
            families.setdefault(key[0].__name__.lstrip('_'), []).append(key)
        for name, keys in families.items():
            name = name + 'Block' if name in self.taken else name
            least = min(keys, key=lambda key: len(key[3]))
            plain = {child for child, _ in least[3]}
            for key in [least, *(key for key in keys if key != least)]:
                more = [child for child, _ in key[3] if child not in plain and not child.isdigit()]
                wanted = name + (f'With{"And".join(map(_camel, more))}' if 0 < len(more) <= 2 else '')
                number, unique = 1, wanted
                while unique in self.taken:
                    number += 1
                    unique = f'{wanted}{number}'
                self.taken.add(unique)
                names[key] = unique
        return names

    def part(self, block: gluon.Block) -> Part:
        layer = layer_of(block)
        if layer is not None:
            return Part(layer.name, layer.arguments, (), layer.end)
        row = self._is_row(block)
        if row:
            return Part(row, (), tuple(self.part(child) for _, child in self._children(block)))
        known = self.made.get(self.form(block)) or self._make(self.form(block))
        return Part(known.name, tuple(known.values[id(block)]))

    def _make(self, key: Hashable) -> _Class:
        """Return the class of one form: its arguments are the numbers that differ between its blocks."""
        blocks = self.blocks[key]
        parts = [[(name, self.part(child)) for name, child in self._children(block)] for block in blocks]
        columns = [list(_columns(own)) + _own_columns(block) for own, block in zip(parts, blocks)]
        places, values = _places(columns)
        made = _Class(self.names[key], {id(block): row for block, row in zip(blocks, values)})
        self.made[key] = made
        body = self.bodies[id(blocks[0])]
        given = [argument.name for argument in values[0]]
        self.sources.append(
            _source(made.name, blocks[0], parts[0], places, given, key, body, self._left_out(blocks[0]))
        )
        return made

    def _left_out(self, block: gluon.Block) -> List[str]:
        return [name for name in block._children if (id(block), name) in self.shared]

    def write(self, net: gluon.HybridBlock) -> Written:
        self.part(net)
        return Written(self.sources, self.names[self.form(net)], self.ties)


def _is_chain(recording: Recording) -> bool:
    """Return whether each child gets what the one before it gives, and nothing else."""
    value = recording.inputs[0]
    for node in recording.nodes:
        if node.block is None or node.inputs != [value] or len(node.outputs) != 1:
            return False
        value = node.outputs[0]
    return recording.outputs == (value,)


def _camel(name: str) -> str:
    return ''.join(word[:1].upper() + word[1:] for word in name.split('_'))


Column = Tuple[str, Argument]


def _columns(parts: Sequence[Tuple[str, Part]]) -> Iterator[Column]:
    """Yield all numbers in the constructor, each with the child that it belongs to."""
    for name, part in parts:
        for argument in part.arguments:
            yield name, argument
        yield from _columns([(f'{name}', below) for below in part.parts])


def _own_columns(block: gluon.Block) -> List[Column]:
    return [
        (torch_leaf(block, name), Argument('size', side, 'channels'))
        for name, parameter in block._reg_params.items()
        for side in parameter.shape
    ]


def _places(rows: Sequence[Sequence[Column]]) -> Tuple[List[str], List[List[Argument]]]:
    """Return which argument each column is, '' for what is the same in all blocks, and each block's values of them."""
    groups: Dict[Tuple, List[int]] = {}
    for column, (_, argument) in enumerate(rows[0]):
        vector = tuple(row[column][1].value for row in rows)
        if len(set(vector)) > 1:
            groups.setdefault((argument.family, vector), []).append(column)
    places = [''] * len(rows[0])
    channels = [column for column, (_, argument) in enumerate(rows[0]) if argument.family == 'channels']
    taken: Set[str] = set()
    values: List[List[Argument]] = [[] for _ in rows]
    for (family, vector), columns in groups.items():
        name = _argument_name(family, columns, channels, rows[0], taken)
        taken.add(name)
        for column in columns:
            places[column] = name
        for row, value in zip(values, vector):
            row.append(Argument(name, value, family))
    return places, values


def _argument_name(family: str, columns: List[int], channels: List[int], row: Sequence[Column], taken: Set[str]) -> str:
    wanted = family
    if family == 'channels':
        ends = [column for column in channels if row[column][1].name in _ENDS]
        first, last = channels[0] in columns, bool(ends) and ends[-1] in columns
        wanted = 'channels' if first and last else 'in_channels' if first else 'channels' if last else 'width'
    child = row[columns[0]][0]
    if wanted in taken:
        wanted = f'{child}_{row[columns[0]][1].name}' if not child.isdigit() else f'{wanted}{child}'
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f'{wanted}{number}'
    return name


def _told(block: gluon.Block) -> str:
    """Return the first paragraph of what the block's class says of itself."""
    text = inspect.cleandoc(vars(type(block)).get('__doc__') or '').partition('\n\n')[0]
    text = re.sub(r':\w+:`~?([\w.]+)`', lambda found: found[1].rpartition('.')[2], text)
    return text.replace('``', '`').replace('\\', '\\\\').replace('"""', "'''")


def _source(
    name: str,
    block: gluon.Block,
    parts: Sequence[Tuple[str, Part]],
    places: List[str],
    given: List[str],
    key: Any,
    body: List[str],
    shared: List[str],
) -> List[str]:
    numbered = [child.isdigit() for child, _ in parts]
    if any(numbered) and not all(numbered):
        raise Unwritten(f'{type(block).__name__} has children with numbers for names and others')
    in_row = bool(numbered) and all(numbered)
    lines = [f'class {name}({"nn.Sequential" if in_row else "nn.Module"}):']
    told = _told(block)
    if told:
        rows = told.split('\n')
        lines += [f'    """{rows[0]}', *(f'    {row}'.rstrip() for row in rows[1:])]
        lines[-1] += '"""'
        lines.append('')
    lines += _head('__init__', given)
    rest = iter(places)
    placed = [(child, _placed(part, rest)) for child, part in parts]
    if in_row:
        lines += Part('super().__init__', (), tuple(part for _, part in placed)).lines('', '', 8)
    else:
        lines.append('        super().__init__()')
        for child, part in placed:
            lines += part.lines(f'self.{child} = ', '', 8)
    for child in shared:
        lines.append(f"        # {child}: another block's, see below")
    for leaf, parameter in block._reg_params.items():
        sides = [next(rest) or str(side) for side in parameter.shape]
        lines.append(f'        self.{torch_leaf(block, leaf)} = nn.Parameter(torch.zeros({", ".join(sides)}))')
    return [*lines, '', *_head('forward', key[1]), *(f'        {line}' for line in body)]


def _head(name: str, given: Sequence[str]) -> List[str]:
    """Return the head of a method with these arguments."""
    inner = ', '.join(['self', *given])
    if len(inner) + len(name) + 11 <= _WIDTH:
        return [f'    def {name}({inner}):']
    return [f'    def {name}(', *(f'        {row}' for row in textwrap.wrap(inner, _WIDTH - 8)), '    ):']


def _placed(part: Part, rest: Iterator[str]) -> Part:
    places = tuple(next(rest) for _ in part.arguments)
    return part._replace(places=places, parts=tuple(_placed(below, rest) for below in part.parts))
