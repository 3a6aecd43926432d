"""Write each operator of a plan as the row of numbers that `kernels/engine` reads."""

from __future__ import annotations

import re
from typing import List, Sequence, Tuple

import numpy as np

from inference.engine.bands import Together
from inference.engine.operators import STEPS, Map, Narrow, Operator, Producer, Step, View, bits, winograd_tiles
from inference.engine.pack import (
    bfloat16_dense_weights,
    bfloat16_depthwise_weights,
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
from inference.engine.places import Places

__all__ = ['narrow_map', 'row']

# Steps of a chain that maps in bfloat16 take in registers (`kernels/engine/narrow_ending.h`).
_IN_REGISTERS = re.compile(
    '(?P<mask>quick_sigmoid (?:add_number )?mul_stored )?(?P<store>store )?(?P<norm>affine (?:(?:relu|clip) )?store )?'
)


def row(plan: Places, operator: Operator) -> List[int]:
    """Return the numbers of an operator."""
    if isinstance(operator, Together):
        return operator.row(plan, row)
    if operator.numbers is not None:
        return operator.numbers(plan)
    if operator.kind == 'join':
        x, maximum, made, producer = operator.pool
        tensor = producer.maxima if maximum else producer.sums
        factor = 1.0 if maximum else 1.0 / x.positions
        channels = padded(np.zeros(x.channels), plan.lanes).size
        return [channels, producer.parts, int(maximum), bits(factor), plan.tensor(tensor), plan.tensor(made.tensor)]
    return _PRODUCERS[operator.kind](plan, operator)


def _chain(plan: Places, chain: Sequence[Step]) -> List[int]:
    numbers = [len(chain)]
    for step in chain:
        numbers.append(STEPS.index(step.kind))
        operand = step.operand
        if isinstance(operand, (Map, View)):
            numbers.append(plan.tensor(operand.tensor))
        elif isinstance(operand, Narrow):
            numbers += narrow_map(plan, operand)
        elif step.kind == 'affine':
            numbers.append(plan.weights(_affine(plan, step)))
        elif isinstance(operand, np.ndarray):
            numbers.append(plan.weights(padded(operand, plan.lanes)))
        elif isinstance(operand, tuple):
            numbers += map(bits, operand)
        elif operand is not None:
            numbers.append(bits(operand))
    return numbers


def _affine(plan: Places, step: Step) -> np.ndarray:
    """Return factors and summands, (block, 2, lanes)."""
    return np.stack([padded(row, plan.lanes).reshape(-1, plan.lanes) for row in step.operand], axis=1)


def _pools(plan: Places, operator: Producer) -> List[int]:
    return [-1 if tensor is None else plan.tensor(tensor) for tensor in (operator.sums, operator.maxima)]


def _epilogue(plan: Places, operator: Producer, bias: np.ndarray) -> List[int]:
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


def narrow_map(plan: Places, narrow: Narrow) -> List[int]:
    """Return the numbers of a narrow map."""
    return [
        int(narrow.precision == 'int8'), narrow.pitch, narrow.height, narrow.width, narrow.border, bits(narrow.scale),
        bits(narrow.zero), plan.tensor(narrow.tensor),
    ]  # fmt: skip


def _narrow_convolution(plan: Places, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight, x, groups = d['weight'], d['narrow'], d['groups']
    count, inputs, outputs = joined_groups(weight, groups, L)
    inputs = min(x.pitch, inputs)
    whole = count == 1 and d['dilation'] == 1 and inputs == x.pitch and not d['phases']
    scales: List[int] = []
    bias = d['bias']
    if x.precision == 'int8':
        scale, sums = byte_scales(weight)
        bias = bias - x.scale * x.zero * scale * sums
        scales = [plan.weights(padded(x.scale * scale, L))]
        place = plan.packed(byte_weights, weight, groups, inputs, whole)
    else:
        place = plan.packed(bfloat16_weights, weight, groups, inputs, whole)
    top, left = (0, 0) if d['phases'] else (x.border - pad for pad in d['pad'])
    return [
        int(d['tiles']), *narrow_map(plan, x), top, left, *weight.shape[2:], d['stride'], d['phases'],
        d['dilation'], operator.out.height, operator.out.width, count, inputs, outputs // L,
        operator.parts, min(operator.panel_parts, count * -(-outputs // L // 2)), place, *scales,
        *_ending(plan, operator, bias),
    ]  # fmt: skip


def _ending(plan: Places, operator: Producer, bias: np.ndarray) -> List[int]:
    """Return what follows the sums of narrow maps.

    These are: bias; gate, sum and bounds; pools; the map in float32; the map in narrow numbers, if the chain stores one
    next; a mask and the norm of the next block, if nothing else follows; the rest of the chain.
    """
    chain, bounds = list(operator.chain), _bounds([])
    gate = residual = -1
    added, ends, mask, norm = [-1], [-1], [-1], [-1]
    if chain and chain[0].kind == 'mul_channel':
        gate = plan.tensor(chain.pop(0).operand.tensor)
    if chain and chain[0].kind == 'add_map':
        residual = plan.tensor(chain.pop(0).operand.tensor)
    elif chain and chain[0].kind == 'add_stored':
        added = narrow_map(plan, chain.pop(0).operand)
    if chain and chain[0].kind in ('relu', 'clip'):
        bounds = _bounds([chain.pop(0)])
    found = _IN_REGISTERS.fullmatch(''.join(f'{step.kind} ' for step in chain))
    alone = residual < 0 and not operator.stores and operator.sums is operator.maxima is None
    if found is not None and alone and operator.detail['narrow'].precision == 'bfloat16':
        if found['mask']:
            _, *more, last = [chain.pop(0) for _ in found['mask'].split()]
            mask = [*narrow_map(plan, last.operand), bits(more[0].operand if more else 0.0)]
        if found['store']:
            ends = narrow_map(plan, chain.pop(0).operand)
        if found['norm']:
            first, *middle, last = chain
            norm = [plan.weights(_affine(plan, first)), *map(bits, _bounds(middle)), *narrow_map(plan, last.operand)]
            chain = []
    elif chain and chain[0].kind == 'store':
        ends = narrow_map(plan, chain.pop(0).operand)
    return [
        plan.weights(padded(bias, plan.lanes)), gate, residual, *added, *map(bits, bounds), *_pools(plan, operator),
        plan.tensor(operator.out.tensor) if operator.stores else -1, *ends, *mask, *norm, *_chain(plan, chain),
    ]  # fmt: skip


def _bounds(steps: Sequence[Step]) -> Tuple[float, float]:
    """Return what an activation, if there is one, cuts its numbers off at."""
    if not steps:
        return (-np.inf, np.inf)
    return (0.0, np.inf) if steps[0].kind == 'relu' else steps[0].operand


def _narrow_depthwise(plan: Places, operator: Producer) -> List[int]:
    d, x, out = operator.detail, operator.detail['narrow'], operator.out
    top, left = (x.border - pad for pad in d['pad'])
    return [
        -(-out.channels // plan.lanes), *narrow_map(plan, x), top, left, *d['weight'].shape[2:], d['stride'],
        d['dilation'], out.height, out.width,
        operator.parts, plan.packed(bfloat16_depthwise_weights, d['weight']), *_ending(plan, operator, d['bias']),
    ]  # fmt: skip


def _stem(plan: Places, operator: Producer) -> List[int]:
    d = operator.detail
    weight, x = d['weight'], d['x']
    return [
        weight.shape[1], x.shape[2], x.shape[3], weight.shape[2], d['stride'], d['pad'][0],
        -(-len(weight) // plan.lanes), operator.parts, plan.tensor(x.tensor), plan.tensor(operator.out.tensor),
        plan.packed(stem_weights, weight), *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _convolution(plan: Places, operator: Producer) -> List[int]:
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


def _winograd(plan: Places, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight, x, m = d['weight'], d['x'], d['method']
    inputs, outputs = (-(-n // L) for n in (weight.shape[1], len(weight)))
    tiles = winograd_tiles(x, m, d['dilation'])
    widest = 12 if L == 16 else 6
    fits = 262144 // ((m + 2) ** 2 * L * max(inputs, outputs)) // widest * widest
    at_once = max(1, min(-(-tiles // operator.parts), max(2 * widest, fits)))
    return [
        m, d['dilation'], inputs, outputs, x.height, x.width, at_once, operator.parts,
        min(operator.panel_parts, -(-outputs // 2)), plan.tensor(x.tensor), plan.tensor(operator.out.tensor),
        plan.packed(winograd_weights, weight, m),
        *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _depthwise(plan: Places, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight, x = d['weight'], d['x']
    return [
        -(-len(weight) // L), *weight.shape[2:], d['stride'], d['dilation'], *d['pad'], x.height, x.width,
        operator.parts, int('whole' in d), plan.tensor(x.tensor), plan.tensor(operator.out.tensor),
        plan.packed(depthwise_weights, weight),
        *_epilogue(plan, operator, d['bias']),
    ]  # fmt: skip


def _elementwise(plan: Places, operator: Producer) -> List[int]:
    x: Map = operator.detail
    channels = padded(np.zeros(x.channels), plan.lanes).size
    return [
        channels, x.positions, operator.parts, plan.tensor(x.tensor) if operator.reads else -1,
        plan.tensor(operator.out.tensor) if operator.stores else -1, *_pools(plan, operator),
        *_chain(plan, operator.chain),
    ]  # fmt: skip


def _dense(plan: Places, operator: Producer) -> List[int]:
    d, L = operator.detail, plan.lanes
    weight = d['weight']
    outputs = padded(np.zeros(len(weight)), L).size
    panels = -(-outputs // (4 * L))
    narrow = d.get('bfloat16', False)
    return [
        d['rows'], d['inputs'], d['pitch'], outputs, min(panels, operator.panel_parts), plan.tensor(d['x'].tensor),
        plan.tensor(operator.writes[0]), int(narrow),
        plan.packed(bfloat16_dense_weights if narrow else dense_weights, weight), plan.weights(padded(d['bias'], L)),
        *_chain(plan, operator.chain),
    ]  # fmt: skip


_PRODUCERS = {
    'stem': _stem,
    'convolution': _convolution,
    'narrow_convolution': _narrow_convolution,
    'narrow_depthwise': _narrow_depthwise,
    'winograd': _winograd,
    'depthwise': _depthwise,
    'elementwise': _elementwise,
    'dense': _dense,
}
