"""The table and the weights that `kernels/engine` runs: operators with their numbers, tensors with their places."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from inference.engine.bands import Together, banded
from inference.engine.fuse import fuse, order
from inference.engine.lower import Lowered
from inference.engine.operators import KINDS, STEPS, Map, Narrow, Operator, Producer, Step, Tensor, View, bits
from inference.engine.pack import (
    bfloat16_weights,
    byte_scales,
    byte_weights,
    dense_weights,
    depthwise_weights,
    direct_weights,
    joined_groups,
    padded,
    stem_weights,
    winograd_weights,
)

__all__ = ['Outline', 'Plan', 'Settings', 'make_outline', 'make_plan', 'winograd_layers']

VERSION = 1
ALIGNMENT = 16  # floats: a line of the cache


class Settings(NamedTuple):
    """What is chosen by measurement. ``winograd``: 0, 2 or 4 for each layer that may have it; None: a rule of thumb.

    ``bands``: whether they take turns, for each of `candidates` (bands.py). ``head``: so many operators run image by
    image where ``by_image`` is False, and the others on the whole batch.
    """

    threads: int = 1
    batch: int = 1
    by_image: bool = True  # each thread takes whole images; otherwise all threads work on each operator
    winograd: Optional[Tuple[int, ...]] = None
    bands: Tuple[bool, ...] = ()
    head: int = 0


class Plan:
    """``table`` (int64) and ``weights`` (float32) for `engine_open`."""

    def __init__(self, operators: List[Operator], lowered: Lowered, settings: Settings, packed: Dict[Any, Any]) -> None:
        self.lanes, self.settings, self._packed = lowered.lanes, settings, packed
        self._weights: List[np.ndarray] = []
        self._count = 0
        self._known: Dict[bytes, int] = {}
        self._places: Dict[int, int] = {}
        self._tensors: List[Tensor] = []
        self.operators = operators
        for operator in operators:
            for tensor in [*operator.tensors_read(), *operator.writes]:
                self._enter(tensor)
        self._enter(lowered.input.tensor)
        self._enter(lowered.output.tensor)
        head = len(operators) if settings.by_image else min(settings.head, len(operators))
        places, sizes = _arenas(operators, lowered, head)
        rows: List[int] = []
        for operator in operators:
            numbers = _numbers(self, operator)
            rows += [KINDS.index(operator.kind), len(numbers), *numbers]
        output = lowered.output
        header = [
            VERSION, self.lanes, len(self._tensors), len(operators), *sizes, head, settings.batch,
            self.tensor(lowered.input.tensor), lowered.input.size,
            self.tensor(output.tensor), output.size,
        ]  # fmt: skip
        tensors = [n for tensor in self._tensors for n in (*places[id(tensor)], tensor.size)]
        self.table = np.array([*header, *tensors, *rows], np.int64)
        self.weights_array = _aligned(self._weights, self._count)
        self.memory = sum(sizes) * 4

    def _enter(self, tensor: Tensor) -> None:
        if id(tensor) not in self._places:
            self._places[id(tensor)] = len(self._tensors)
            self._tensors.append(tensor)

    def tensor(self, tensor: Tensor) -> int:
        """Return the number of a tensor in the table."""
        return self._places[id(tensor)]

    def packed(self, function: Any, weight: np.ndarray, *arguments: Any) -> int:
        """Return the place of weights in the kernels' order, which ``function(weight, *arguments, lanes)`` gives."""
        # Views of one array are made anew for each plan; where they lie says which they are, as long as one is kept.
        key = (function.__name__, weight.ctypes.data, weight.shape, weight.strides, *arguments)
        if key not in self._packed:
            self._packed[key] = weight, function(weight, *arguments, self.lanes)
        return self.weights(self._packed[key][1])

    def weights(self, array: np.ndarray) -> int:
        """Return the place of an array among the weights; the same array again has the same place."""
        array = np.ascontiguousarray(array, np.float32).ravel()
        key = array.tobytes() if array.size <= 1 << 16 else None
        if key is not None and key in self._known:
            return self._known[key]
        place = self._count
        self._weights.append(array)
        self._count += -(-array.size // ALIGNMENT) * ALIGNMENT
        if key is not None:
            self._known[key] = place
        return place


class Outline(Plan):
    """A plan without its weights, which take most of the time to make: what it computes, but not with which numbers."""

    def packed(self, function: Any, weight: np.ndarray, *arguments: Any) -> int:
        return 0

    def weights(self, array: np.ndarray) -> int:
        return 0


def _aligned(arrays: Sequence[np.ndarray], count: int) -> np.ndarray:
    memory = np.zeros(count + 1024, np.float32)
    start = -memory.ctypes.data // 4 % 1024
    weights = memory[start : start + count]
    at = 0
    for array in arrays:
        weights[at : at + array.size] = array
        at += -(-array.size // ALIGNMENT) * ALIGNMENT
    return weights


def make_plan(lowered: Lowered, settings: Settings, packed: Optional[Dict[Any, Any]] = None) -> Plan:
    """Fuse and place; ``lowered`` is used up. ``packed`` keeps weights in the kernels' order for the next plan."""
    return Plan(_ready(lowered, settings), lowered, settings, {} if packed is None else packed)


def make_outline(lowered: Lowered, settings: Settings) -> Outline:
    """Return what `make_plan` would, without weights; ``lowered`` is used up."""
    return Outline(_ready(lowered, settings), lowered, settings, {})


def _ready(lowered: Lowered, settings: Settings) -> List[Operator]:
    fuse(lowered)
    for rewrite in lowered.rewrites:
        rewrite(lowered)
    return _arranged(lowered, settings)


def _arranged(lowered: Lowered, settings: Settings) -> List[Operator]:
    """Return the operators with methods, borders and parts, in their order, those together that take turns."""
    operators = order(_with_borders(lowered, settings))
    for operator in operators:
        if isinstance(operator, Producer):
            _set_parts(operator, settings)
    # Each image is one thread's, or all of them have as many.
    ordered = settings.by_image or settings.threads == 1 or settings.batch % settings.threads == 0
    operators = banded(operators, settings.bands, lowered.lanes, ordered)
    for operator in operators:
        for part in operator.parts if isinstance(operator, Together) else [operator]:
            if isinstance(part, Producer):
                for tensor in filter(None, (part.sums, part.maxima)):
                    tensor.size = part.parts * lowered.padded(part.out.channels)
    return operators


def winograd_layers(plan: Plan) -> List[Tuple[int, int]]:
    """Return where the operators of each layer begin and end that may be computed by Winograd's method."""
    layers = {}
    for k, operator in enumerate(plan.operators):
        number = getattr(operator, 'layer', None)
        if number is not None:
            border = plan.operators[k - 1]
            alone = border.kind != 'border' or border.writes[0] is not operator.reads[0]
            layers[number] = (k if alone else k - 1, k + 1)
    return [layers[number] for number in sorted(layers)]


# --- methods and borders ---------------------------------------------------------------------------------------------


def _takes_winograd(detail: Dict[str, Any]) -> bool:
    weight = detail['weight']
    return (
        weight.shape[2:] == (3, 3)
        and detail['stride'] == detail['dilation'] == detail['groups'] == 1
        and detail['pad'] == (1, 1)
        and weight.shape[1] >= 16
        and len(weight) >= 16
    )


def _with_borders(lowered: Lowered, settings: Settings) -> List[Operator]:
    """Return the operators with methods chosen, and with a border around each map that a direct convolution reads."""
    result: List[Operator] = []
    layer = 0
    for operator in lowered.operators:
        if operator.kind == 'convolution':
            detail = operator.detail
            x: Map = detail['x']
            method = 0
            if _takes_winograd(detail):
                thumb = 4 if min(x.height, x.width) >= 12 else 2
                method = thumb if settings.winograd is None else settings.winograd[layer]
                operator.layer = layer
                layer += 1
            if method:
                detail['method'] = method
                operator.kind = 'winograd'
            elif any(detail['pad']):
                result.append(_border(operator, lowered))
        result.append(operator)
    return result


def _border(operator: Producer, lowered: Lowered) -> Operator:
    detail = operator.detail
    x: Map = detail['x']
    ph, pw = detail['pad']
    wide = lowered.new_map(x.channels, x.height + 2 * ph, x.width + 2 * pw)
    blocks = lowered.padded(x.channels) // lowered.lanes
    detail['x'] = wide
    operator.reads = [wide.tensor]

    def numbers(plan: Plan) -> List[int]:
        return [blocks, x.height, x.width, ph, pw, ph, pw, plan.tensor(x.tensor), plan.tensor(wide.tensor)]

    return Operator('border', [x.tensor], [wide.tensor], numbers)


def _set_parts(operator: Producer, settings: Settings) -> None:
    """Cut the work on an image for several threads, where they share an image."""
    shared = not settings.by_image and 1 < settings.threads and settings.batch < 4 * settings.threads
    pieces = 2 * settings.threads if shared else 1
    out = operator.out
    if operator.kind == 'dense':
        operator.parts = 1
        operator.panel_parts = pieces
        return
    rows = out.height if operator.kind != 'elementwise' else out.positions
    operator.panel_parts = 1
    if operator.kind == 'convolution':
        weight = operator.detail['weight']
        dense = weight.shape[2:] == (1, 1) and operator.detail['stride'] == 1
        rows = out.positions if dense else out.height
        if out.positions < 200 and weight[0].size >= 256:  # weights are the larger part
            operator.parts, operator.panel_parts = 1, pieces
            return
    if operator.kind == 'narrow_convolution':
        rows = out.height
        if out.positions < 200:
            operator.parts, operator.panel_parts = 1, pieces
            return
    if operator.kind == 'winograd':
        m = operator.detail['method']
        rows = -(-out.height // m) * -(-out.width // m)
    operator.parts = max(1, min(rows, pieces))


# --- places ----------------------------------------------------------------------------------------------------------


def _arenas(
    operators: Sequence[Operator], lowered: Lowered, head: int
) -> Tuple[Dict[int, Tuple[int, int]], Tuple[int, int]]:
    """Return the arena and offset of each tensor, and both sizes; tensors that live at the same time do not overlap.

    What the operators before ``head`` keep to themselves lies in arena 0, a thread's. All else lies in arena 1, the
    batch's. What is passed on from one to the other lives from the beginning, since images pass the boundary at any
    time.
    """
    begin: Dict[int, int] = {id(lowered.input.tensor): -1}
    end: Dict[int, int] = {}
    tensors: Dict[int, Tensor] = {id(lowered.input.tensor): lowered.input.tensor}
    for k, operator in enumerate(operators):
        for tensor in [*operator.tensors_read(), *operator.writes]:
            tensors[id(tensor)] = tensor
            begin.setdefault(id(tensor), k)
            end[id(tensor)] = k
    end[id(lowered.output.tensor)] = len(operators) - (head == len(operators))
    end.setdefault(id(lowered.input.tensor), 0)
    arena = {key: int(end[key] >= head) for key in tensors}
    for key in tensors:
        if arena[key] and begin[key] < head:
            begin[key] = -1
    places: Dict[int, Tuple[int, int]] = {}
    placed: Tuple[List[Tuple[int, int, int, int]], ...] = ([], [])  # offset, size, begin, end
    sizes = [0, 0]
    for key in sorted(tensors, key=lambda key: -tensors[key].size):
        size = -(-tensors[key].size // ALIGNMENT) * ALIGNMENT
        which = arena[key]
        busy = sorted((o, s) for o, s, b, e in placed[which] if b <= end[key] and begin[key] <= e)
        at = 0
        for offset, length in busy:
            if at + size <= offset:
                break
            at = max(at, offset + length)
        places[key] = which, at
        placed[which].append((at, size, begin[key], end[key]))
        sizes[which] = max(sizes[which], at + size)
    return places, (sizes[0], sizes[1])


# --- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(plan: Plan, operator: Operator) -> List[int]:
    if isinstance(operator, Together):
        return operator.row(plan, _numbers)
    if operator.numbers is not None:
        return operator.numbers(plan)
    if operator.kind == 'join':
        x, maximum, made, producer = operator.pool
        tensor = producer.maxima if maximum else producer.sums
        factor = 1.0 if maximum else 1.0 / x.positions
        channels = padded(np.zeros(x.channels), plan.lanes).size
        return [channels, producer.parts, int(maximum), bits(factor), plan.tensor(tensor), plan.tensor(made.tensor)]
    return _PRODUCERS[operator.kind](plan, operator)


def _chain(plan: Plan, chain: Sequence[Step]) -> List[int]:
    numbers = [len(chain)]
    for step in chain:
        numbers.append(STEPS.index(step.kind))
        operand = step.operand
        if isinstance(operand, (Map, View)):
            numbers.append(plan.tensor(operand.tensor))
        elif isinstance(operand, Narrow):
            numbers += narrow_map(plan, operand)
        elif step.kind == 'affine':
            both = np.stack([padded(row, plan.lanes).reshape(-1, plan.lanes) for row in operand], axis=1)
            numbers.append(plan.weights(both))
        elif isinstance(operand, np.ndarray):
            numbers.append(plan.weights(padded(operand, plan.lanes)))
        elif isinstance(operand, tuple):
            numbers += map(bits, operand)
        elif operand is not None:
            numbers.append(bits(operand))
    return numbers


def _pools(plan: Plan, operator: Producer) -> List[int]:
    return [-1 if tensor is None else plan.tensor(tensor) for tensor in (operator.sums, operator.maxima)]


def _epilogue(plan: Plan, operator: Producer, bias: np.ndarray) -> List[int]:
    """Bias; what of the chain the registers can do: gate, residual, activation; pools; the rest of the chain."""
    chain = list(operator.chain)
    gate = residual = -1
    act: List[int] = [0]
    if chain and chain[0].kind == 'mul_channel':
        gate = plan.tensor(chain.pop(0).operand.tensor)
    if chain and chain[0].kind == 'add_map':
        residual = plan.tensor(chain.pop(0).operand.tensor)
    if chain and chain[0].kind == 'relu':
        chain.pop(0)
        act = [1]
    elif chain and chain[0].kind == 'clip':
        low, high = chain.pop(0).operand
        act = [2, bits(low), bits(high)]
    return [
        plan.weights(padded(bias, plan.lanes)), gate, residual, *act, *_pools(plan, operator), *_chain(plan, chain),
    ]  # fmt: skip


def narrow_map(plan: Plan, narrow: Narrow) -> List[int]:
    """Return the numbers of a narrow map."""
    return [
        int(narrow.precision == 'int8'), narrow.pitch, narrow.height, narrow.width, narrow.border, bits(narrow.scale),
        bits(narrow.zero), plan.tensor(narrow.tensor),
    ]  # fmt: skip


def _narrow_convolution(plan: Plan, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight, x, groups = d['weight'], d['narrow'], d['groups']
    count, inputs, outputs = joined_groups(weight, groups, L)
    inputs = x.pitch if count == 1 else inputs
    whole = count == 1 and d['dilation'] == 1
    chain, bounds, ends = list(operator.chain), (-np.inf, np.inf), [-1]
    gate = residual = -1
    added = [-1]
    if chain and chain[0].kind == 'mul_channel':
        gate = plan.tensor(chain.pop(0).operand.tensor)
    if chain and chain[0].kind == 'add_map':
        residual = plan.tensor(chain.pop(0).operand.tensor)
    elif chain and chain[0].kind == 'add_stored':
        added = narrow_map(plan, chain.pop(0).operand)
    if chain and chain[0].kind in ('relu', 'clip'):
        step = chain.pop(0)
        bounds = (0.0, np.inf) if step.kind == 'relu' else step.operand
    if [step.kind for step in chain] == ['store']:
        ends = narrow_map(plan, chain.pop().operand)
    if x.precision == 'int8':
        scale, sums = byte_scales(weight)
        bias = d['bias'] - x.scale * x.zero * scale * sums
        scales = [plan.weights(padded(x.scale * scale, L))]
        place = plan.packed(byte_weights, weight, groups, inputs, whole)
    else:
        bias, scales = d['bias'], []
        place = plan.packed(bfloat16_weights, weight, groups, inputs, whole)
    top, left = (x.border - pad for pad in d['pad'])
    return [
        int(d['tiles']), *narrow_map(plan, x), top, left, *weight.shape[2:], d['stride'], d['dilation'],
        operator.out.height, operator.out.width, count, inputs, outputs // L,
        operator.parts, min(operator.panel_parts, count * -(-outputs // L // 2)), place, *scales,
        plan.weights(padded(bias, L)), gate, residual, *added, *map(bits, bounds), *_pools(plan, operator),
        plan.tensor(operator.out.tensor) if operator.stores else -1, *ends, *_chain(plan, chain),
    ]  # fmt: skip


def _stem(plan: Plan, operator: Producer) -> List[int]:
    d = operator.detail
    weight, x = d['weight'], d['x']
    return [
        weight.shape[1], x.shape[2], x.shape[3], weight.shape[2], d['stride'], d['pad'][0],
        -(-len(weight) // plan.lanes), operator.parts, plan.tensor(x.tensor), plan.tensor(operator.out.tensor),
        plan.packed(stem_weights, weight), *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _convolution(plan: Plan, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight = d['weight']
    x: Map = d['x']
    count, inputs, outputs = joined_groups(weight, d['groups'], L)
    height, width = weight.shape[2:]
    pace = (1, *d['pace']) if 'pace' in d else (0,)
    return [
        inputs // L, outputs // L, count, height, width, d['stride'], d['dilation'], x.height, x.width,
        operator.parts, *pace, min(operator.panel_parts, count * -(-outputs // L // 2)),
        plan.tensor(x.tensor), plan.tensor(operator.out.tensor), plan.packed(direct_weights, weight, d['groups']),
        *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _winograd(plan: Plan, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight, x, m = d['weight'], d['x'], d['method']
    inputs, outputs = (-(-n // L) for n in (weight.shape[1], len(weight)))
    tiles = -(-x.height // m) * -(-x.width // m)
    widest = 12 if L == 16 else 6
    fits = 262144 // ((m + 2) ** 2 * L * max(inputs, outputs)) // widest * widest
    at_once = max(1, min(-(-tiles // operator.parts), max(2 * widest, fits)))
    return [
        m, inputs, outputs, x.height, x.width, at_once, operator.parts, plan.tensor(x.tensor),
        plan.tensor(operator.out.tensor), plan.packed(winograd_weights, weight, m),
        *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _depthwise(plan: Plan, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight, x = d['weight'], d['x']
    return [
        -(-len(weight) // L), *weight.shape[2:], d['stride'], d['dilation'], *d['pad'], x.height, x.width,
        operator.parts, int('whole' in d), plan.tensor(x.tensor), plan.tensor(operator.out.tensor),
        plan.packed(depthwise_weights, weight),
        *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _elementwise(plan: Plan, operator: Producer) -> List[int]:
    x: Map = operator.detail
    channels = padded(np.zeros(x.channels), plan.lanes).size
    return [
        channels, x.positions, operator.parts, plan.tensor(x.tensor),
        plan.tensor(operator.out.tensor) if operator.stores else -1, *_pools(plan, operator),
        *_chain(plan, operator.chain),
    ]  # fmt: skip


def _dense(plan: Plan, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight = d['weight']
    outputs = padded(np.zeros(len(weight)), L).size
    panels = -(-outputs // (4 * L))
    return [
        d['rows'], d['inputs'], d['pitch'], outputs, min(panels, operator.panel_parts), plan.tensor(d['x'].tensor),
        plan.tensor(operator.writes[0]), plan.packed(dense_weights, weight), plan.weights(padded(d['bias'], L)),
        *_chain(plan, operator.chain),
    ]  # fmt: skip


_PRODUCERS = {
    'stem': _stem,
    'convolution': _convolution,
    'narrow_convolution': _narrow_convolution,
    'winograd': _winograd,
    'depthwise': _depthwise,
    'elementwise': _elementwise,
    'dense': _dense,
}
