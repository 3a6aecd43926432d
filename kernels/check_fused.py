"""Compare our operators with the same made of MXNet's: a part of `kernels.check`."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from mxnet import autograd, nd

from kernels import check_bfloat16 as narrow
from kernels import fused

__all__ = ['FUSED', 'fused_cases', 'fused_difference']


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


def _merged(u: Any, v: Any, weight: Any, *bias_gamma_beta: Any) -> Any:
    *bias, gamma, beta = bias_gamma_beta
    a, b = (weight.reshape((1, 2))[:, k : k + 1] for k in (0, 1))
    total = nd.broadcast_add(nd.broadcast_mul(u, a), nd.broadcast_mul(v, b))
    total = nd.broadcast_add(total, bias[0].reshape((1, 1))) if bias else total
    return nd.relu(nd.LayerNorm(total, gamma, beta, axis=-1, eps=1e-5))


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


def _norm(gated: bool, summed: bool, six: bool = False) -> Fused:
    settings = {'eps': 1e-5, 'momentum': 0.9}
    scale = 4 if six else 1  # for numbers beyond 6

    def ours(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, *shortcut: Any) -> Any:
        return fused.norm_relu(
            nd,
            x,
            *(gamma * scale, beta, mean, variance),
            epsilon=settings['eps'],
            momentum=settings['momentum'],
            gate=nd.sigmoid if gated else None,
            shortcut=shortcut[0] if summed else None,
            six=six,
        )

    def theirs(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, *shortcut: Any) -> Any:
        value = nd.BatchNorm(x, gamma * scale, beta, mean, variance, fix_gamma=False, **settings)
        if gated:
            value = nd.broadcast_mul(value, nd.sigmoid(nd.mean(value, axis=(2, 3), keepdims=True)))
        return nd.clip(value, 0, 6) if six else nd.relu(value + shortcut[0] if summed else value)

    def parameters(*shape: int) -> Sequence[Tuple[int, ...]]:
        return ((shape[1],),) * 4 + ((shape,) if summed else ())

    return Fused(ours, theirs, parameters)


def _merge_vectors(bias: bool) -> Fused:
    return Fused(
        lambda x, *rest: fused.merge_vectors(nd, narrow.wide(x).mean((2, 3)), *rest, epsilon=1e-5),
        lambda x, *rest: _merged(x.mean((2, 3)), *rest),
        lambda n, channels, *space: ((n, channels), (1, 2, 1, 1), *((1,),) * bias, (channels,), (channels,)),
    )


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
    'DCA of maps': Fused(
        lambda x, p, q, other: fused.merge_maps(nd, x, other, p, q),
        lambda x, p, q, other: nd.broadcast_add(
            nd.broadcast_mul(x, p.reshape((1, 1, 1, 1))), nd.broadcast_mul(other, q.reshape((1, 1, 1, 1)))
        ),
        lambda *shape: ((1,), (1,), shape),
    ),
    'DCA of vectors': _merge_vectors(False),
    'DCA of vectors, with bias': _merge_vectors(True),
    'sum and ReLU': Fused(
        lambda x, other: fused.sum_relu(nd, x, other), lambda x, other: nd.relu(x + other), lambda *shape: (shape,)
    ),
    'norm and ReLU': _norm(False, False),
    'norm, sum and ReLU': _norm(False, True),
    'norm, gate and ReLU': _norm(True, False),
    'norm, gate, sum and ReLU': _norm(True, True),
    'norm and ReLU6': _norm(False, False, six=True),
    'norm, gate and ReLU6': _norm(True, False, six=True),
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

    def run(function: Callable[..., Any], dtype: str) -> List[np.ndarray]:
        def enter(array: Any) -> Any:
            return narrow.narrow(array) if bfloat16 and dtype == 'float32' else array

        inputs = [nd.array(array, dtype=dtype) for array in start]
        for array in inputs:
            array.attach_grad()
        with autograd.record():
            x = enter(inputs[0] * 1)
            if in_layout and dtype == 'float32':
                x = nd.Convolution(x, enter(identity), kernel=(1, 1), num_filter=shape[1], no_bias=True)
            others = (
                [*inputs[1:-1], enter(inputs[-1]) if 'sum' in name or 'of maps' in name else inputs[-1]]
                if inputs[1:]
                else []
            )
            outs = function(x, *others)
            outs = list(outs) if isinstance(outs, (list, tuple)) else [outs]
            if bfloat16 and dtype == 'float32':
                outs = [narrow.wide(out) for out in outs]
        chance = np.random.RandomState(1)
        heads = [chance.randn(*out.shape) for out in outs]
        heads = [narrow.rounded(head) if bfloat16 and head.shape == shape else head for head in heads]
        autograd.backward(outs, [nd.array(head, dtype=dtype) for head in heads])
        return [array.asnumpy() for array in (*outs, *inputs, *(array.grad for array in inputs))]

    pairs = zip(run(case.function, 'float32'), run(case.composed, 'float64'))
    return float(np.max([np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1) for ours, theirs in pairs]))


def fused_cases() -> Iterator[Tuple[str, Tuple[int, ...], bool]]:
    """Yield every operator, shape and layout to compare, as :func:`kernels.check.operator_cases`."""
    for name in FUSED:
        for shape in ((3, 16, 5, 7), (2, 24, 4, 4), (2, 128, 9, 16), (2, 5, 3, 3), (1, 32, 1, 1)):
            if 'norm' in name and shape[2:] == (1, 1):
                continue  # a deviation of 0
            yield name, shape, False
            yield name, shape, True
