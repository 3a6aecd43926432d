"""Compare a compiled library with NumPy, in a process that may crash.

    python -m kernels.check LIBRARY

Every operator with another kernel is compared, with its gradient, on maps in oneDNN's layout and on plain ones; the
operators of our own with the same made of MXNet's; and Nesterov's step. Exit status 1 and a line for the first
difference.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Iterator, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, nd

import environment  # noqa: F401  MXNet cannot be imported before it
import kernels
from environment.cpu import lacks
from kernels import check_bfloat16 as narrow
from kernels import check_convolution, fused
from kernels.multi_tensor import Copy, NAGUpdate

__all__ = [
    'FUSED',
    'UNITS',
    'differences',
    'fused_cases',
    'fused_difference',
    'operator_cases',
    'unit_difference',
    'update_difference',
]

Arrays = List[np.ndarray]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


#: (C, width, H = W): both blocks, with and without what is kept; pieces of a sample; odd numbers of positions.
UNITS = ((16, 8, 8), (16, 16, 5), (32, 16, 17), (64, 32, 7), (24, 8, 33), (8, 32, 4))


class Operator(NamedTuple):
    """MXNet's operator, its value and its gradients from NumPy, the gradient above being their first argument."""

    function: Callable[..., Any]
    value: Callable[..., np.ndarray]
    gradients: Callable[..., Sequence[np.ndarray]]
    inputs: int = 2
    calls: int = 2  # of kernels of ours, for the value and the gradients
    factor: str = ''  # the second input has numbers for 'channels', (N, C, 1, 1), or 'positions', (N, 1, H, W)


OPERATORS = {
    'product': Operator(nd.elemwise_mul, lambda a, b: a * b, lambda g, a, b: (g * b, g * a)),
    'sum': Operator(nd.elemwise_add, lambda a, b: a + b, lambda g, a, b: (g, g), calls=1),
    'sum of two': Operator(nd.add_n, lambda a, b: a + b, lambda g, a, b: (g, g), calls=1),
    'sigmoid': Operator(
        lambda x: nd.Activation(x, act_type='sigmoid'),
        _sigmoid,
        lambda g, x: (g * _sigmoid(x) * _sigmoid(-x),),
        inputs=1,
    ),
    'scaled channels': Operator(
        nd.broadcast_mul,
        lambda x, factor: x * factor,
        lambda g, x, factor: (g * factor, (g * x).sum((2, 3), keepdims=True)),
        factor='channels',
    ),
    'shifted channels': Operator(
        nd.broadcast_add,
        lambda x, term: x + term,
        lambda g, x, term: (g, g.sum((2, 3), keepdims=True)),
        factor='channels',
    ),
    'scaled positions': Operator(
        nd.broadcast_mul,
        lambda x, factor: x * factor,
        lambda g, x, factor: (g * factor, (g * x).sum(1, keepdims=True)),
        factor='positions',
    ),
    'relu': Operator(
        lambda x: nd.Activation(x, act_type='relu'),
        lambda x: np.maximum(x, 0),
        lambda g, x: (g * (x > 0),),
        inputs=1,
    ),
    'clip': Operator(
        lambda x: nd.clip(x, -0.5, 0.75),
        lambda x: np.clip(x, -0.5, 0.75),
        lambda g, x: (g * ((x >= -0.5) & (x <= 0.75)),),
        inputs=1,
    ),
    'mean over space': Operator(
        lambda x: nd.contrib.AdaptiveAvgPooling2D(x, output_size=1),
        lambda x: x.mean((2, 3), keepdims=True),
        lambda g, x: (x * 0 + g / x[0, 0].size,),
        inputs=1,
    ),
}


def _channel_pools(x: Any) -> Any:
    return nd.concat(nd.max(x, axis=1, keepdims=True), nd.mean(x, axis=1, keepdims=True), dim=1)


def _attended(x: Any, mask: Any, bias: Any) -> Tuple[Any, ...]:
    logits = nd.sum(nd.broadcast_mul(x, mask), axis=1, keepdims=True)
    weights = nd.softmax(nd.broadcast_add(logits, bias.reshape((1, 1, 1, 1))).reshape((0, 0, -1)), axis=2)
    return x, nd.sum(nd.broadcast_mul(x.reshape((0, 0, -1)), weights), axis=2)


def _enhanced(x: Any, weight: Any, bias: Any) -> Any:
    groups = weight.shape[1]
    parts = x.reshape((0, -4, groups, -1, -2)).reshape((0, 0, 0, -1))  # (N, G, C / G, H W)
    t = nd.sum(nd.broadcast_mul(parts, nd.mean(parts, axis=3, keepdims=True)), axis=2)
    centred = nd.broadcast_sub(t, nd.mean(t, axis=2, keepdims=True))
    variance = nd.sum(centred**2, axis=2, keepdims=True) / max(t.shape[2] - 1, 1)
    normed = nd.broadcast_div(centred, nd.sqrt(nd.maximum(variance, 1e-12)) + 1e-5)
    logits = nd.broadcast_add(nd.broadcast_mul(normed, weight.reshape((1, -1, 1))), bias.reshape((1, -1, 1)))
    return nd.broadcast_mul(parts, nd.expand_dims(nd.sigmoid(logits), axis=2)).reshape(x.shape)


class Fused(NamedTuple):
    """An operator of ours, the same composed of MXNet's, and the shapes of its parameters for that of the map."""

    function: Callable[..., Any]
    composed: Callable[..., Any]
    parameters: Callable[..., Sequence[Tuple[int, ...]]] = lambda *shape: ()


def _sge(groups: int) -> Fused:
    def groups_of(channels: int) -> int:
        return int(np.gcd(groups, channels))

    return Fused(
        lambda x, weight, bias: fused.sge(nd, x, weight, bias, weight.shape[1], 1e-5),
        _enhanced,
        lambda n, channels, *space: ((1, groups_of(channels), 1, 1),) * 2,
    )


def _norm(gated: bool, summed: bool) -> Fused:
    settings = {'eps': 1e-5, 'momentum': 0.9}

    def ours(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, *shortcut: Any) -> Any:
        return fused.norm_relu(
            nd,
            x,
            *(gamma, beta, mean, variance),
            epsilon=settings['eps'],
            momentum=settings['momentum'],
            gate=nd.sigmoid if gated else None,
            shortcut=shortcut[0] if summed else None,
        )

    def theirs(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, *shortcut: Any) -> Any:
        value = nd.BatchNorm(x, gamma, beta, mean, variance, fix_gamma=False, **settings)
        if gated:
            value = nd.broadcast_mul(value, nd.sigmoid(nd.mean(value, axis=(2, 3), keepdims=True)))
        return nd.relu(value + shortcut[0] if summed else value)

    def parameters(*shape: int) -> Sequence[Tuple[int, ...]]:
        return ((shape[1],),) * 4 + ((shape,) if summed else ())

    return Fused(ours, theirs, parameters)


FUSED = {
    'mean': Fused(lambda x: fused.pool_space(nd, x), lambda x: (x, nd.mean(x, axis=(2, 3)))),
    'mean and maximum': Fused(
        lambda x: fused.pool_space_max(nd, x), lambda x: (x, nd.mean(x, axis=(2, 3)), nd.max(x, axis=(2, 3)))
    ),
    'mean and maximum alone': Fused(
        lambda x: fused.pool_space_max(nd, x, alone=True)[1:],
        lambda x: (nd.mean(x, axis=(2, 3)), nd.max(x, axis=(2, 3))),
    ),
    'pools of channels': Fused(lambda x: fused.pool_channels(nd, x), lambda x: (x, _channel_pools(x))),
    'pools of channels alone': Fused(lambda x: fused.pool_channels(nd, x, alone=True)[1], lambda x: _channel_pools(x)),
    'GC': Fused(
        lambda x, mask, bias: fused.attend(nd, x, mask, bias),
        _attended,
        lambda n, channels, *space: ((1, channels, 1, 1), (1,)),
    ),
    'single map': Fused(
        lambda x, weight: fused.single_map(nd, x, weight, 3),
        lambda x, weight: nd.Convolution(x, weight, kernel=(7, 7), pad=(3, 3), num_filter=1, no_bias=True),
        lambda n, channels, *space: ((1, channels, 7, 7),),
    ),
    'sum and ReLU': Fused(
        lambda x, other: fused.sum_relu(nd, x, other), lambda x, other: nd.relu(x + other), lambda *shape: (shape,)
    ),
    'norm and ReLU': _norm(False, False),
    'norm, sum and ReLU': _norm(False, True),
    'norm, gate and ReLU': _norm(True, False),
    'norm, gate, sum and ReLU': _norm(True, True),
    'SGE, 4 groups': _sge(4),
    'SGE, many groups': _sge(64),
    'SGE, one group': _sge(1),
}


def fused_difference(name: str, shape: Tuple[int, ...], in_layout: bool, bfloat16: bool = False) -> float:
    """Return the largest difference of one of :data:`FUSED` from its composition in float64, relative to its scale.

    Compared are what it gives, all gradients and what becomes of its inputs. With ``bfloat16`` its maps are.
    """
    case, random = FUSED[name], np.random.RandomState(0)
    start = [random.randn(*one) for one in (shape, *case.parameters(*shape))]
    if 'maximum' in name or 'pools' in name:  # no two numbers so near that float32 has them the other way around
        start[0] = random.permutation(start[0].size).reshape(shape) / start[0].size
    if 'norm' in name:
        start[4] = np.abs(start[4])  # the running variance
    if bfloat16:
        if 'maximum' in name or 'pools' in name:  # no two equal numbers of a position or channel
            channels, places = random.permutation(256)[: shape[1]], 37 * np.arange(shape[2] * shape[3])
            start[0] = (channels[:, None] + places + np.zeros((shape[0], 1, 1))).reshape(shape) % 256 - 128
        start = [narrow.rounded(one) if one.shape == shape else one for one in start]
    identity = nd.array(np.eye(shape[1])[:, :, None, None])

    def run(function: Callable[..., Any], dtype: str) -> Arrays:
        def enter(array: Any) -> Any:
            return nd.amp_cast(array, dtype=narrow.TYPE) if bfloat16 and dtype == 'float32' else array

        inputs = [nd.array(array, dtype=dtype) for array in start]
        for array in inputs:
            array.attach_grad()
        with autograd.record():
            x = enter(inputs[0] * 1)
            if in_layout and dtype == 'float32':
                x = nd.Convolution(x, enter(identity), kernel=(1, 1), num_filter=shape[1], no_bias=True)
            others = [*inputs[1:-1], enter(inputs[-1]) if 'sum' in name else inputs[-1]] if inputs[1:] else []
            outs = function(x, *others)
            outs = list(outs) if isinstance(outs, (list, tuple)) else [outs]
            if bfloat16 and dtype == 'float32':
                outs = [nd.amp_cast(out, dtype=dtype) for out in outs]
        chance = np.random.RandomState(1)
        heads = [chance.randn(*out.shape) for out in outs]
        heads = [narrow.rounded(head) if bfloat16 and head.shape == shape else head for head in heads]
        autograd.backward(outs, [nd.array(head, dtype=dtype) for head in heads])
        return [array.asnumpy() for array in (*outs, *inputs, *(array.grad for array in inputs))]

    pairs = zip(run(case.function, 'float32'), run(case.composed, 'float64'))
    return float(np.max([np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1) for ours, theirs in pairs]))


def fused_cases() -> Iterator[Tuple[str, Tuple[int, ...], bool]]:
    """Yield every operator, shape and layout to compare, as :func:`operator_cases`."""
    for name in FUSED:
        for shape in ((3, 16, 5, 7), (2, 24, 4, 4), (2, 128, 9, 16), (2, 5, 3, 3), (1, 32, 1, 1)):
            if 'norm' in name and shape[2:] == (1, 1):
                continue  # a deviation of 0
            yield name, shape, False
            yield name, shape, True


def operator_cases() -> Iterator[Tuple[str, Tuple[int, ...], bool]]:
    """Yield every operator, shape and layout to compare: (its name, shape, whether in oneDNN's layout)."""
    for name in OPERATORS:
        for shape in ((3, 16, 5, 7), (2, 24, 4, 4), (2, 32, 17, 16), (2, 5, 3, 3)):
            yield name, shape, False
            yield name, shape, True


def differences(name: str, shape: Tuple[int, ...], in_layout: bool) -> float:
    """Return the largest difference from NumPy of an operator's value and gradients, each relative to its scale."""
    operator, random = OPERATORS[name], np.random.RandomState(0)
    second = {'': shape, 'channels': (*shape[:2], 1, 1), 'positions': (shape[0], 1, *shape[2:])}[operator.factor]
    shapes = [shape, second][: operator.inputs]
    inputs = [nd.array(random.uniform(-1, 1, one)) for one in shapes]
    # A convolution that changes nothing: what it gives, and what it gets back, is in oneDNN's layout.
    identity = nd.array(np.eye(shape[1])[:, :, None, None])
    for array in inputs:
        array.attach_grad()

    def through(x: Any) -> Any:
        return nd.Convolution(x, identity, kernel=(1, 1), num_filter=shape[1], no_bias=True) if in_layout else x

    nd.waitall()
    before = kernels.calls()
    with autograd.record():
        out = through(operator.function(*(through(array) if array.shape == shape else array for array in inputs)))
    above = random.uniform(-1, 1, out.shape).astype(np.float32)
    out.backward(nd.array(above))
    nd.waitall()
    taken = kernels.calls() - before
    if shape[1] % 8 == 0 and taken != operator.calls:  # else oneDNN's layout has padding, which is MXNet's business
        sys.exit(f'error: {name} of {shape}: the kernels took {taken} calls, not {operator.calls}')
    arrays = [array.asnumpy().astype(np.float64) for array in inputs]
    expected = [operator.value(*arrays), *operator.gradients(above, *arrays)]
    pairs = zip([out, *(array.grad for array in inputs)], expected)
    apart = [np.abs(ours.asnumpy() - theirs).max() / max(np.abs(theirs).max(), 1) for ours, theirs in pairs]
    return float(np.max(apart))  # NumPy's maximum, which propagates NaN


def _before_relu(data: Any, parameters: Sequence[Any], train: bool) -> Any:
    """Return the input of an ATAC unit's ReLU, in float64."""
    weight, gamma, beta, mean, variance = parameters
    hidden = np.einsum('oc,nchw->ohwn', weight[:, :, 0, 0], data).reshape(len(weight), -1)
    if train:
        mean, variance = hidden.mean(axis=1), hidden.var(axis=1)
    return ((hidden.T - mean) / np.sqrt(variance + 1e-5)) * gamma + beta


def _same(array: Any) -> Any:
    return array


def unit_difference(
    channels: int,
    width: int,
    side: int,
    in_layout: bool,
    samples: int = 3,
    train: bool = True,
    bfloat16: bool = False,
) -> float:
    """Return the largest relative difference of the ATAC operator from MXNet's: value, gradients, running statistics.

    Without ``train`` the gradients are those of inference. With ``bfloat16`` our maps are, and MXNet's float32;
    there is no ReLU then, on one or the other side of which rounding would put a number.
    """
    random = np.random.RandomState(0)
    shapes = [(width, channels, 1, 1), *[(width,)] * 4, (channels, width, 1, 1), *[(channels,)] * 4]
    start = [random.uniform(0.3, 1.2, shape) if len(shape) == 1 else random.randn(*shape) * 0.5 for shape in shapes]
    data, identity = random.randn(samples, channels, side, side), np.eye(channels)[:, :, None, None]
    data = narrow.rounded(data) if bfloat16 else data
    # Where the ReLU's input is 0 but for rounding, its gradient is a matter of chance.
    while not bfloat16 and np.abs(_before_relu(data, start[:5], train)).min() < 3e-6:
        data = random.randn(*data.shape)
    above = narrow.rounded(random.randn(*data.shape))

    def composed(
        x: Any, w1: Any, g1: Any, b1: Any, m1: Any, v1: Any, w2: Any, g2: Any, b2: Any, m2: Any, v2: Any
    ) -> Any:
        norm = {'fix_gamma': False, 'eps': 1e-5, 'momentum': 0.9}
        hidden = nd.Convolution(x, w1, kernel=(1, 1), num_filter=width, no_bias=True)
        hidden = nd.BatchNorm(hidden, g1, b1, m1, v1, **norm)
        hidden = hidden if bfloat16 else nd.relu(hidden)
        logits = nd.Convolution(hidden, w2, kernel=(1, 1), num_filter=channels, no_bias=True)
        return nd.elemwise_mul(x, nd.Activation(nd.BatchNorm(logits, g2, b2, m2, v2, **norm), act_type='sigmoid'))

    def one(x: Any, *parameters: Any) -> Any:
        return fused.atac(nd, x, *parameters, width=width, relu=not bfloat16, epsilon=1e-5, momentum=0.9)

    def run(unit: Callable[..., Any], enter: Callable[..., Any], leave: Callable[..., Any]) -> Arrays:
        x, parameters = nd.array(data), [nd.array(array) for array in start]
        for array in (x, *parameters):
            array.attach_grad()
        inferred = leave(unit(enter(x), *parameters))
        with autograd.record(train_mode=train):
            entered, kernel = enter(x), enter(nd.array(identity))
            if in_layout:
                entered = nd.Convolution(entered, kernel, kernel=(1, 1), num_filter=channels, no_bias=True)
            out = leave(unit(entered, *parameters))
        out.backward(nd.array(above), train_mode=train)
        # What goes into every position of a channel changes nothing behind the second norm.
        learned = [parameters[k].grad for k in ((0, 1, 5, 6, 7) if bfloat16 else (0, 1, 2, 5, 6, 7))]
        return [array.asnumpy() for array in (inferred, out, x.grad, *learned, *parameters)]

    steps = (narrow.narrow, narrow.wide) if bfloat16 else (_same, _same)
    pairs = zip(run(one, *steps), run(composed, _same, _same))
    return float(np.max([np.abs(ours - theirs).max() / np.abs(theirs).max() for ours, theirs in pairs]))


def update_difference(shapes: Sequence[Tuple[int, ...]], momentum: float = 0.9, rescale: float = 0.25) -> float:
    """Return the largest relative difference from NumPy after two of Nesterov's steps and a copy after each.

    Compared are weights, momenta and the gradients' length.
    """
    random = np.random.RandomState(0)
    weights, gradients, momenta = ([random.randn(*shape) for shape in shapes] for _ in range(3))
    rates, decays = random.uniform(0, 0.2, (2, len(shapes)))
    ours = [[nd.array(array) for array in arrays] for arrays in (weights, gradients, momenta)]
    steps = NAGUpdate(*ours)
    state = ours[0] + ours[2]
    copies = [nd.zeros(array.shape) for array in state]
    for _ in range(2):
        norm = steps(rates, decays, momentum, rescale)
        Copy(state, copies)()
        for array in state:
            array[:] = 0
        Copy(copies, state)()
    for k, (rate, decay) in enumerate(zip(rates, decays)):
        for _ in range(2):
            before, gradient = momentum * momenta[k], rescale * gradients[k]
            ahead = before - rate * (gradient + decay * weights[k])
            weights[k] = weights[k] - before + (momentum + 1) * ahead
            momenta[k] = before - rate * (gradient + decay * weights[k])
    pairs = zip(state, weights + momenta)
    squares = sum((array**2).sum() for array in gradients)
    apart = [np.abs(array.asnumpy() - expected).max() for array, expected in pairs]
    return float(np.max([abs(norm.asscalar() / squares - 1), *apart]))


def main(path: str) -> None:
    kernels.install(path)
    for case in operator_cases():
        if not differences(*case) < 1e-5:
            sys.exit(f'error: {case} differs from NumPy by {differences(*case):.1e}')
    for case in fused_cases():
        if not fused_difference(*case) < 2e-5:
            sys.exit(f'error: {case} differs from MXNet by {fused_difference(*case):.1e}')
    for case in check_convolution.OURS:
        for in_layout in (False, True):
            apart, taken = check_convolution.errors(case, in_layout)
            if not (max(apart) < check_convolution.ERROR and taken == 2):
                sys.exit(f'error: {case} differs from NumPy by {max(apart):.1e}; {taken} calls')
    for unit in UNITS:
        for in_layout in (False, True):
            if not unit_difference(*unit, in_layout) < 1e-4:
                sys.exit(f'error: ATAC {unit} differs from MXNet by {unit_difference(*unit, in_layout):.1e}')
    if not update_difference([(3,), (16, 16, 3, 3), (10, 64), (200, 200)]) < 1e-5:
        sys.exit("error: Nesterov's step differs from NumPy")
    if kernels.have('bfloat16'):
        for case in fused_cases():
            apart = fused_difference(*case, bfloat16=True)
            if not apart < narrow.TOLERANCE:
                sys.exit(f'error: {case} in bfloat16 differs from MXNet by {apart:.1e}')
        for unit in UNITS:
            apart = unit_difference(*unit, in_layout=True, bfloat16=True)
            if not apart < 4 * narrow.TOLERANCE:
                sys.exit(f'error: ATAC {unit} in bfloat16 differs from MXNet by {apart:.1e}')
    if not lacks('bfloat16'):
        for norm in narrow.NORMS:
            if not narrow.norm_difference(norm) < 4 * narrow.TOLERANCE:
                sys.exit(f'error: the norm of {norm} in bfloat16 differs by {narrow.norm_difference(norm):.1e}')
        for case in narrow.CONVOLUTIONS:
            if not narrow.convolution_difference(case) < narrow.TOLERANCE:
                sys.exit(f'error: {case} in bfloat16 differs by {narrow.convolution_difference(case):.1e}')
    mx.nd.waitall()


if __name__ == '__main__':
    main(sys.argv[1])
