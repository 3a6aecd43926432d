"""Write each operator of a plan as the row of numbers that `kernels/engine` reads."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from inference.engine.bands import Together
from inference.engine.operators import STEPS, Map, Narrow, Operator, Producer, Step, View, bits
from inference.engine.pack import (
    bfloat16_dense_weights,
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
            both = np.stack([padded(row, plan.lanes).reshape(-1, plan.lanes) for row in operand], axis=1)
            numbers.append(plan.weights(both))
        elif isinstance(operand, np.ndarray):
            numbers.append(plan.weights(padded(operand, plan.lanes)))
        elif isinstance(operand, tuple):
            numbers += map(bits, operand)
        elif operand is not None:
            numbers.append(bits(operand))
    return numbers


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
    inputs = x.pitch if count == 1 else inputs
    whole = count == 1 and d['dilation'] == 1 and not d['phases']
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
    top, left = (0, 0) if d['phases'] else (x.border - pad for pad in d['pad'])
    return [
        int(d['tiles']), *narrow_map(plan, x), top, left, *weight.shape[2:], d['stride'], d['phases'],
        d['dilation'], operator.out.height, operator.out.width, count, inputs, outputs // L,
        operator.parts, min(operator.panel_parts, count * -(-outputs // L // 2)), place, *scales,
        plan.weights(padded(bias, L)), gate, residual, *added, *map(bits, bounds), *_pools(plan, operator),
        plan.tensor(operator.out.tensor) if operator.stores else -1, *ends, *_chain(plan, chain),
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
    tiles = -(-x.height // m) * -(-x.width // m)
    widest = 12 if L == 16 else 6
    fits = 262144 // ((m + 2) ** 2 * L * max(inputs, outputs)) // widest * widest
    at_once = max(1, min(-(-tiles // operator.parts), max(2 * widest, fits)))
    return [
        m, inputs, outputs, x.height, x.width, at_once, operator.parts, min(operator.panel_parts, -(-outputs // 2)),
        plan.tensor(x.tensor),
        plan.tensor(operator.out.tensor), plan.packed(winograd_weights, weight, m),
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
        channels, x.positions, operator.parts, plan.tensor(x.tensor),
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
    'winograd': _winograd,
    'depthwise': _depthwise,
    'elementwise': _elementwise,
    'dense': _dense,
}
