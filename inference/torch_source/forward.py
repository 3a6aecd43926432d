"""Write what a block computes as the lines of a method ``forward``."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mxnet import gluon

from inference.torch_source.layers import layer_of
from inference.torch_source.operators import Text, call
from inference.torch_source.record import Node, Recording, Unwritten, Value

__all__ = ['arguments', 'forward_lines', 'paths_below']

LONGEST = 84  # characters of an expression that is written within another
WIDEST = 90  # of a line
SHORT = 16  # of what is never given a name for its length
# Children whose result is nothing but the map a step further.
_STEPS = re.compile(r'(self|conv|bn|relu|norm|pool|avgpool|maxpool|msAA|layer|select|\W)\d*.*')


def paths_below(block: gluon.Block, prefix: str = 'self') -> Dict[int, str]:
    """Return how ``block`` writes each block below it, by its id: ``self.conv1``, ``self.down[0]``."""
    found: Dict[int, str] = {}
    for name, child in block._children.items():
        path = f'{prefix}[{name}]' if name.isdigit() else f'{prefix}.{name}'
        found.setdefault(id(child), path)
        for key, below in paths_below(child, path).items():
            found.setdefault(key, below)
    return found


def _needed(recording: Recording) -> List[Node]:
    """Return the nodes that the outputs need, in order."""
    wanted = {id(value.node) for value in recording.outputs}
    kept = []
    for node in reversed(recording.nodes):
        if id(node) in wanted:
            kept.append(node)
            wanted.update(id(value.node) for value in node.inputs if isinstance(value, Value))
    return kept[::-1]


class _Writer:
    def __init__(self, recording: Recording) -> None:
        self.lines: List[str] = []
        self.paths = paths_below(recording.block)
        self.nodes = _needed(recording)
        self.left: Dict[int, int] = {}  # uses to come, by the value's id
        self.texts: Dict[int, Text] = {}
        for value in (*recording.outputs, *(value for node in self.nodes for value in node.inputs)):
            if isinstance(value, Value):
                self.left[id(value)] = self.left.get(id(value), 0) + 1
        for value in recording.inputs:
            self.texts[id(value)] = Text(value.node.text, ndim=value.array.ndim)
        #: Values that are named together, ``*carry``, and that name.
        self.rows = [(recording.further, recording.rest)] if recording.further else []
        self.outputs = recording.outputs

    def use(self, value: Any) -> Any:
        if not isinstance(value, Value):
            return value
        self.left[id(value)] -= 1
        if id(value) not in self.texts:  # a parameter
            self.texts[id(value)] = Text(value.node.text, ndim=value.array.ndim)
        return self.texts[id(value)]

    def expression(self, node: Node, given: List[Any]) -> Text:
        if node.block is None:
            try:
                return node.write(*given)
            except (TypeError, KeyError, ValueError) as error:
                raise Unwritten(f'an operator has no form in PyTorch here ({error})') from error
        text = call(self.paths[id(node.block)], *given)
        layer = layer_of(node.block)
        return layer.after(text) if layer is not None and layer.after else text

    def name(self, hint: str, others: Sequence[Any] = ()) -> str:
        """Return a name that nothing needs any longer.

        Neither a value nor what will be written of one, nor ``others``.
        """
        waiting = ' '.join([*(text for key, text in self.texts.items() if self.left.get(key)), *map(str, others)])
        taken = set(re.findall(r'\w+', waiting))
        number, name = 1, hint
        while name in taken:
            number += 1
            name = f'{hint}{number}'
        return name

    def inputs_of(self, values: Sequence[Any]) -> List[Any]:
        """Return the texts of what is passed on.

        ``*carry`` where that is all of the carry, ``*carry[1:3]`` for a part.
        """
        texts: List[Any] = []
        values = list(values)
        while values:
            row, name, place = self.row_of(values[0])
            if row is None:
                texts.append(self.use(values.pop(0)))
                continue
            count = 1
            while values[count : count + 1] and place + count < len(row) and values[count] is row[place + count]:
                count += 1
            used = [self.use(value) for value in values[:count]]
            del values[:count]
            if count == len(row):
                texts.append(Text(f'*{name}'))
            elif count > 1:
                texts.append(Text(f'*{name}[{place or ""}:{place + count}]'))
            else:
                texts += used
        return texts

    def row_of(self, value: Any) -> Tuple[Optional[Sequence[Value]], Optional[str], int]:
        for row, name in self.rows:
            for place, member in enumerate(row):
                if value is member:
                    return row, name, place
        return None, None, 0

    def is_row(self, node: Node) -> bool:
        """Return whether all outputs of a block except the first are passed on together, wherever they go."""
        row = node.outputs[1:]
        if node.block is None or not row or not isinstance(node.block, gluon.HybridBlock):
            return False
        if layer_of(node.block) is not None or not type(node.block).hybrid_forward.__code__.co_flags & 0x04:
            return False
        members = {id(value) for value in row}
        for inputs in [self.outputs, *(other.inputs for other in self.nodes)]:
            places = [place for place, value in enumerate(inputs) if id(value) in members]
            if places and [id(value) for value in inputs[places[0] : places[0] + len(row)]] != [id(v) for v in row]:
                return False
            if len(places) not in (0, len(row)):
                return False
        return True

    def assign(self, node: Node, text: Text) -> None:
        path = self.paths[id(node.block)].rpartition('.')[2] if node.block is not None else ''
        hint = path if path.isidentifier() and not _STEPS.fullmatch(path) else 'out'
        if text.startswith('torch.sigmoid'):
            hint = 'gate'
        if self.is_row(node):
            first = node.outputs[0]
            names = [self.name(hint) if self.left.get(id(first)) else '_']
            self.texts[id(first)] = Text(names[0], ndim=first.array.ndim)
            rest = 'carry' if any(self.left.get(id(value)) for value in node.outputs[1:]) else '_'
            if rest == 'carry':
                rest = self.name('carry')
            for place, value in enumerate(node.outputs[1:]):
                self.texts[id(value)] = Text(f'{rest}[{place}]', ndim=value.array.ndim)
            self.rows.append((node.outputs[1:], rest))
            self.lines.append(f'{names[0]}, *{rest} = {text}')
            return
        names = []
        for value in node.outputs:
            name = self.name(hint) if self.left.get(id(value)) else '_'
            names.append(name)
            self.texts[id(value)] = Text(name, ndim=value.array.ndim)
        self.lines.append(f'{", ".join(names)} = {text}')

    def within(self, node: Node, text: Text) -> bool:
        """Return whether the expression is written where its value is used."""
        returned = len(self.outputs) == 1 and self.outputs[0].node is node
        longest = LONGEST + 12 if returned else LONGEST
        return len(node.outputs) == 1 and self.left.get(id(node.outputs[0])) == 1 and len(text) <= longest

    def named(self, node: Node, given: List[Any]) -> List[Any]:
        """Return the inputs, by a name where the expression would say them twice or become too long."""
        given = list(given)
        while True:
            text = str(self.expression(node, given))
            long = [place for place, value in enumerate(given) if isinstance(value, Text) and len(value) > SHORT]
            twice = [place for place in long if text.count(given[place]) > 1]
            place = next(iter(twice), None)
            if place is None and len(text) > WIDEST and long:
                place = max(long, key=lambda each: len(given[each]))
            if place is None:
                return given
            value = given[place]
            # What the others say is still to be written.
            name = self.name('out', given[:place] + given[place + 1 :])
            self.lines.append(f'{name} = {value}')
            named = Text(name, ndim=value.ndim)
            given = [named if isinstance(each, Text) and each == value else each for each in given]


def forward_lines(recording: Recording) -> List[str]:
    """Return the body of the method: assignments, and what is returned."""
    writer = _Writer(recording)
    for node in writer.nodes:
        inputs = writer.inputs_of(node.inputs) if node.block else [writer.use(value) for value in node.inputs]
        given = writer.named(node, inputs)
        text = writer.expression(node, given)
        if writer.within(node, text):
            writer.texts[id(node.outputs[0])] = Text(text, text.level, node.outputs[0].array.ndim)
        else:
            writer.assign(node, text)
    texts = writer.inputs_of(recording.outputs)
    given = ', '.join(texts)
    writer.lines.append(f'return ({given})' if any(text.startswith('*') for text in texts) else f'return {given}')
    return writer.lines


def arguments(recording: Recording) -> List[str]:
    """Return the method's arguments."""
    return [*recording.names, *([f'*{recording.rest}'] if recording.rest else [])]
