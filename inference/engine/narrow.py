"""Convolutions in bfloat16 or int8 within a plan that is otherwise in float32.

Only maps are narrow. A convolution multiplies narrow numbers, but its sums, and everything in its epilogue (bias, gate,
shortcut and activation), are wide. Whatever produces a map that a convolution reads stores it in narrow numbers, as a
step of its chain, and in float32 only if another operator needs it. In bfloat16, more maps are narrow (`narrow_maps`).
All other operators are those of float32 plans.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from inference.engine.in_place import register_sum
from inference.engine.narrow_maps import FORGETFUL, chains_joined, map_of, maps_in_bfloat16, scaled_map, steps_of
from inference.engine.operators import Map, Narrow, Operator, Producer, Step, Tensor, View
from inference.engine.rows import narrow_map
from inference.engine.values import Lowered

__all__ = ['KIND_NUMBERS', 'Narrowing', 'narrowed']

#: The kinds of narrow numbers, as the kernels call them.
KIND_NUMBERS = {'bfloat16': 0, 'int8': 1}
SLACK = 64  # bytes behind a narrow map, see `kernels/engine/narrow.h`
# The sum of this many products of two bytes is below 2^31.
MOST_PRODUCTS = 2**31 // (255 * 127) - 1
FEW = 16  # outputs in a row, below which a convolution with a stride is slow
# Positions a multiple of so many channels apart would compete for the same few places in the first-level cache, so that
# such maps have a gap of unused channels.
SPREAD, GAP = 512, 32
LARGE = 1 << 14  # weights of a dense layer, from which on reading them takes longer than anything else

Range = Tuple[float, float]


class Narrowing(NamedTuple):
    """How a plan is made narrow. For int8, ``ranges`` are those of the maps that `narrowed` returns."""

    precision: str
    ranges: Optional[Sequence[Range]] = None
    first_layer: bool = True  # also the convolution that reads the image
    tiles: bool = True  # by AMX, if the processor has it

    def __call__(self, lowered: Lowered) -> None:
        """Rewrite the fused operators of ``lowered`` in place."""
        _Rewriting(lowered, self).run()


class Wanted(NamedTuple):
    """A map that is to become narrow; ``border``: how far convolutions read over its edge."""

    map: Union[Map, View]
    border: int


def _is_narrow(operator: Operator, first_layer: bool) -> bool:
    if operator.kind == 'stem':
        return first_layer
    return operator.kind == 'convolution' and operator.detail['weight'][0].size < MOST_PRODUCTS


def narrowed(lowered: Lowered, first_layer: bool = True) -> List[Wanted]:
    """Return the maps of fused operators that become narrow: those that convolutions read, or add to their sums."""
    wanted: Dict[int, Wanted] = {}

    def want(one: Union[Map, View], border: int) -> None:
        known = wanted.get(id(one.tensor))
        wanted[id(one.tensor)] = Wanted(one, max(border, known.border if known else 0))

    made = {id(one.out.tensor): one for one in lowered.operators if _is_narrow(one, first_layer)}
    for operator in made.values():
        want(operator.detail['x'], max(operator.detail['pad']))
    for operator in made.values():
        place = register_sum(operator)
        if place is not None and id(operator.chain[place].operand.tensor) in made:
            want(operator.chain[place].operand, 0)
    return list(wanted.values())


class _Rewriting:
    def __init__(self, lowered: Lowered, how: Narrowing) -> None:
        self.lowered, self.how = lowered, how
        self.made: Dict[int, Narrow] = {}
        self.maps: Dict[int, Map] = {}

    def run(self) -> None:
        operators = list(self.lowered.operators)
        numbers = {id(one.map.tensor): k for k, one in enumerate(narrowed(self.lowered))}
        for one in self.wanted():
            key = id(one.map.tensor)
            self.made[key] = self.store(one, None if self.how.ranges is None else self.how.ranges[numbers[key]])
        for operator in [one for one in operators if _is_narrow(one, self.how.first_layer)]:
            self.convolution(operator)
        for operator in operators:
            if operator.kind == 'dense' and operator.detail['weight'].size >= LARGE:
                operator.detail['bfloat16'] = True
            if hasattr(operator, 'chain'):
                operator.chain = steps_of(operator.chain, self.made)
            if operator.kind == 'pool' and id(operator.window[2].tensor) not in self.maps:
                self.pool(operator)
            elif self.how.precision == 'bfloat16':
                self.other(operator)
        self.forget()
        if self.how.precision == 'bfloat16':
            chains_joined(self.lowered, self.made)
            self.forget()
            for operator in self.lowered.operators:
                if isinstance(operator, Producer) and not operator.stores:
                    quick = Step('quick_sigmoid')
                    operator.chain = [quick if step.kind == 'sigmoid' else step for step in operator.chain]

    def wanted(self) -> List[Wanted]:
        """Return all maps that become narrow."""
        wanted = narrowed(self.lowered, self.how.first_layer)
        if self.how.precision != 'bfloat16':
            return wanted
        borders = {id(one.map.tensor): one for one in wanted}
        self.maps = maps_in_bfloat16(self.lowered, lambda operator: _is_narrow(operator, self.how.first_layer))
        for key, one in self.maps.items():
            borders.setdefault(key, Wanted(one, 0))
        for operator in self.lowered.operators:
            key = id(operator.detail['x'].tensor) if operator.kind == 'depthwise' else None
            if key in borders:
                one = borders[key]
                borders[key] = Wanted(one.map, max(one.border, *operator.detail['pad']))
        return list(borders.values())

    def convolution(self, operator: Producer) -> None:
        x = self.made[id(operator.detail['x'].tensor)]
        operator.kind = 'narrow_convolution'
        operator.detail.update(narrow=x, tiles=self.how.tiles, phases=0)
        operator.reads = [x.tensor]
        if operator.detail['stride'] > 1 and operator.out.width <= FEW and isinstance(operator.detail['x'], Map):
            self.split(operator)

    def other(self, operator: Operator) -> None:
        """Let an operator that is no convolution read the map in bfloat16, if there is one."""
        x, out = (None if one is None else self.made.get(id(one.tensor)) for one in map_of(operator))
        if x is None:
            return
        if operator.kind == 'depthwise':
            operator.kind = 'narrow_depthwise'
            operator.detail['narrow'] = x
            operator.reads = [x.tensor]
        elif operator.kind == 'elementwise':
            operator.chain = [Step('add_stored', x), *operator.chain]
            operator.reads = []
        elif operator.kind in ('pool', 'resize') and id(map_of(operator)[1].tensor) in self.maps:
            operators = self.lowered.operators
            operators[operators.index(operator)] = scaled_map(operator, x, out, narrow_map)

    def store(self, wanted: Wanted, range_: Optional[Range]) -> Narrow:
        """Let the producer of a map also write it in narrow numbers."""
        one, border = wanted
        image = isinstance(one, View)
        _, channels, height, width = one.shape
        pitch = 4 if image else self.lowered.padded(channels)
        if self.how.precision == 'bfloat16' and pitch % SPREAD == 0:
            pitch += GAP
        floats = _floats(self.how.precision, pitch, height + 2 * border, width + 2 * border)
        scale, zero = (1.0, 0) if range_ is None else _byte(range_)
        narrow = Narrow(Tensor(floats), self.how.precision, pitch, height, width, border, scale, zero)
        operators = self.lowered.operators
        if image:
            maker = Operator('image', [one.tensor], [narrow.tensor], lambda plan: _image(plan, channels, one, narrow))
            operators.insert(0, maker)
        else:
            maker = self.maker(one, narrow)
        self.edge(narrow, maker)
        return narrow

    def maker(self, one: Map, narrow: Narrow) -> Operator:
        """Let the producer of a map store it, or add an operator that does if the producer cannot."""
        operators = self.lowered.operators
        maker = self.producer(one)
        if maker is None and id(one.tensor) in self.maps:  # which is made anew with narrow maps
            return next(operator for operator in operators if one.tensor in operator.writes)
        if maker is None:
            first = min(k for k, each in enumerate(operators) if one.tensor in each.tensors_read())
            maker = Producer('elementwise', [one.tensor], [], out=one, detail=one, stores=False)
            operators.insert(first, maker)
        maker.chain = [*maker.chain, Step('store', narrow)]
        maker.writes = [*maker.writes, narrow.tensor]
        return maker

    def edge(self, narrow: Narrow, before: Operator) -> None:
        edge = Operator('edge', [], [narrow.tensor], lambda plan: narrow_map(plan, narrow))
        self.lowered.operators.insert(self.lowered.operators.index(before), edge)

    def split(self, convolution: Producer) -> None:
        """Let a convolution with a stride read the phases of its map, in which its rows of outputs join."""
        detail, out = convolution.detail, convolution.out
        x, stride, (top, left) = detail['narrow'], detail['stride'], detail['pad']
        kernel = detail['weight'].shape[2:]
        if detail['dilation'] > 1:
            return
        reach_y, reach_x = (min(side, stride) - 1 for side in kernel)
        phases = reach_y * stride + reach_x + 1
        height, width = (side + (k - 1) // stride for side, k in zip((out.height, out.width), kernel))
        floats = _floats(x.precision, x.pitch, phases * height, width)
        made = replace(x, tensor=Tensor(floats), height=phases * height, width=width, border=0)

        def numbers(plan: Any) -> List[int]:
            offset = [x.border - top, x.border - left]
            return [stride, *narrow_map(plan, x), *offset, phases, *narrow_map(plan, made)]

        operators = self.lowered.operators
        operators.insert(operators.index(convolution), Operator('phases', [x.tensor], [made.tensor], numbers))
        detail.update(narrow=made, phases=phases)
        convolution.reads = [made.tensor]

    def pool(self, operator: Operator) -> None:
        """Take the maxima of narrow numbers if a pool is only needed in narrow numbers: their order is the same."""
        how, x, out, window = operator.window
        narrow, operators = self.made.get(id(out.tensor)), self.lowered.operators
        readers = [one for one in operators if out.tensor in one.tensors_read()]
        alone = len(readers) == 1 and narrow is not None and narrow.tensor in readers[0].writes
        if how != 0 or not alone or self.producer(x) is None:
            return
        floats = _floats(narrow.precision, narrow.pitch, x.height, x.width)
        source = replace(narrow, tensor=Tensor(floats), height=x.height, width=x.width, border=0)
        operators.remove(readers[0])

        def numbers(plan: Any) -> List[int]:
            return [*window, *narrow_map(plan, source), *narrow_map(plan, narrow)]

        made = Operator('narrow_pool', [source.tensor], [narrow.tensor], numbers)
        operators[operators.index(operator)] = made
        self.maker(x, source)

    def producer(self, one: Map) -> Optional[Producer]:
        writers = [operator for operator in self.lowered.operators if one.tensor in operator.writes]
        if len(writers) == 1 and isinstance(writers[0], Producer) and writers[0].out.tensor is one.tensor:
            return writers[0]
        return None

    def forget(self) -> None:
        """Stop writing maps in float32 that are no longer read, where possible."""
        read = {id(tensor) for operator in self.lowered.operators for tensor in operator.tensors_read()}
        read.add(id(self.lowered.output.tensor))
        for operator in self.lowered.operators:
            if operator.kind in FORGETFUL and id(operator.out.tensor) not in read:
                operator.stores = False
                operator.writes = [tensor for tensor in operator.writes if tensor is not operator.out.tensor]


def _floats(precision: str, pitch: int, height: int, width: int) -> int:
    """Return the size of a narrow map, its border included, in floats."""
    size = 1 if precision == 'int8' else 2
    return (height * width * pitch * size + SLACK + 3) // 4


def _image(plan: Any, channels: int, image: View, narrow: Narrow) -> List[int]:
    return [channels, plan.tensor(image.tensor), *narrow_map(plan, narrow)]


def _byte(range_: Range) -> Tuple[float, int]:
    """Return the scale and zero point of bytes for a range, in which 0 is represented exactly."""
    low, high = min(range_[0], 0.0), max(range_[1], 0.0)
    if low == high:
        return 1.0, 0
    scale = float(np.float32((high - low) / 255))
    return scale, int(np.rint(-low / scale))
