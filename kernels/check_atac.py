"""Compare the ATAC unit with the same made of MXNet's operators: a part of `kernels.check`."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

import numpy as np
from mxnet import autograd, nd

from kernels import check_bfloat16 as narrow
from kernels import fused

__all__ = ['UNITS', 'unit_difference']

#: (C, width, H = W): both blocks, with and without what is kept; pieces of a sample; odd numbers of positions.
UNITS = ((16, 8, 8), (16, 16, 5), (32, 16, 17), (64, 32, 7), (24, 8, 33), (8, 32, 4))


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

    def run(unit: Callable[..., Any], enter: Callable[..., Any], leave: Callable[..., Any]) -> List[np.ndarray]:
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
