"""Our own operators, each in place of several of MXNet's, as functions of ``F`` (`mxnet.ndarray` or `mxnet.symbol`).

All compute with float32 or bfloat16 maps (N, C, H, W) on CPUs, and raise `MXNetError` for other types. Most pass their
map on: what comes behind takes it from there, so that only one gradient of the map's size comes back.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

from kernels import in_bfloat16, operator_function

__all__ = [
    'atac',
    'attend',
    'merge_maps',
    'merge_vectors',
    'norm_relu',
    'pool_channels',
    'pool_space',
    'pool_space_max',
    'sge',
    'single_map',
    'sum_relu',
    'values_of',
]


def values_of(F: Any, x: Any, *parameters: Any) -> List[Any]:
    """Return Gluon's ``parameters`` as arrays where ``x`` is, or as variables of its graph."""
    return [one.var() if F.__name__ == 'mxnet.symbol' else one.data(x.ctx) for one in parameters]


def pool_space(F: Any, x: Any) -> Tuple[Any, Any]:
    """Return ``x``, and its mean over space (N, C)."""
    passed, mean = operator_function(F, '_pool_space')(x)
    return passed, mean


def pool_space_max(F: Any, x: Any, alone: bool = False) -> Tuple[Any, Any, Any]:
    """Return ``x``, and its mean and maximum over space, (N, C) each.

    ``alone``: the first is not used, so that no gradient comes back through it.
    """
    passed, mean, maximum = operator_function(F, '_pool_space_max')(x, alone=int(alone))
    return passed, mean, maximum


def pool_channels(F: Any, x: Any, alone: bool = False) -> Tuple[Any, Any]:
    """Return ``x``, and its maximum and mean over channels (N, 2, H, W); ``alone`` as in :func:`pool_space_max`."""
    passed, pooled = operator_function(F, '_pool_channels')(x, alone=int(alone))
    return passed, pooled


def attend(F: Any, x: Any, mask: Any, bias: Any) -> Tuple[Any, Any]:
    """Return ``x``, and its mean over space (N, C) with the weights ``softmax(mask x + bias)``.

    ``mask`` (1, C, 1, 1) and ``bias`` (1,) are those of a convolution to one channel.
    """
    passed, context = operator_function(F, '_attend')(x, mask, bias)
    return passed, context


def sge(F: Any, x: Any, weight: Any, bias: Any, groups: int, epsilon: float) -> Any:
    """Return the output of the SGE unit for ``x``; ``weight`` and ``bias`` are (1, ``groups``, 1, 1).

    ``epsilon`` is added to the standard deviation of each group's importance over space.
    """
    return operator_function(F, '_sge')(x, weight, bias, groups=groups, epsilon=repr(epsilon))


def single_map(F: Any, x: Any, weight: Any, padding: int) -> Any:
    """Return the convolution of ``x`` (N, C, H, W) with ``weight`` (1, C, K, K), (N, 1, H', W').

    Its stride is 1, and ``padding``, which all sides have, is less than K.
    """
    return operator_function(F, '_single_map')(x, weight, pad=padding)


def merge_maps(F: Any, u: Any, v: Any, p: Any, q: Any) -> Any:
    """Return ``p u + q v`` of maps (N, C, H, W) and learned numbers ``p`` and ``q``, (1,) each."""
    if in_bfloat16():
        u, v = F.amp_multicast(u, v, num_outputs=2)  # to the wider type
    return operator_function(F, '_merge_maps')(u, p, q, v)


def merge_vectors(F: Any, u: Any, v: Any, weight: Any, *bias_gamma_beta: Any, epsilon: float) -> Any:
    """Return ``relu(layer_norm(a u + b v + c))`` of vectors (N, C).

    ``weight`` (1, 2, 1, 1) is a and b, the bias (1,) is c and may be left out, and (C,) are the scale and shift of the
    norm.
    """
    name = '_merge_vectors' + ('_bias' if len(bias_gamma_beta) == 3 else '')
    if in_bfloat16():
        u, v = (F.amp_cast(one, dtype='float32') for one in (u, v))
    return operator_function(F, name)(u, v, weight, *bias_gamma_beta, eps=repr(epsilon))


def norm_relu(
    F: Any,
    x: Any,
    *parameters: Any,
    epsilon: float,
    momentum: float,
    gate: Optional[Callable[[Any], Any]] = None,
    shortcut: Any = None,
    six: bool = False,
) -> Any:
    """Return ``relu(gate(mean) normed + shortcut)`` of the batch norm of ``x``, with its mean over space (N, C).

    ``parameters`` are the norm's scale, shift, running mean and running variance, (C,) each; without ``gate`` and
    ``shortcut`` these are 1 and 0. ``six`` makes it a ReLU6, without a shortcut. :mod:`kernels.graphs` finds this in
    the graphs of networks.
    """
    entered, mean, statistics = operator_function(F, '_norm_enter')(
        x, *parameters, eps=repr(epsilon), momentum=repr(momentum)
    )
    name = '_norm_leave' + ('' if gate is None else '_gate') + ('' if shortcut is None else '_sum') + '_six' * six
    others = ([] if gate is None else [gate(mean)]) + ([] if shortcut is None else [shortcut])
    return operator_function(F, name)(entered, statistics, *others)


def sum_relu(F: Any, a: Any, b: Any) -> Any:
    """Return ``relu(a + b)``."""
    return operator_function(F, '_sum_relu')(a, b)


def atac(F: Any, x: Any, *parameters: Any, width: int, relu: bool, epsilon: float, momentum: float) -> Any:
    """Return the output of the ATAC unit for ``x`` (N, C, H, W).

    ``parameters`` are W1 (width, C, 1, 1), the scale, shift, running mean and running variance (width,) of the batch
    norm behind it, and the same of W2 (C, width, 1, 1) and its norm (C,). C and ``width`` are multiples of 8. In
    training the running statistics are updated in the backward pass.
    """
    return operator_function(F, '_atac')(
        x, *parameters, width=width, relu=int(relu), epsilon=repr(epsilon), momentum=repr(momentum)
    )
