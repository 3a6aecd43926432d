"""Products, sums and extrema between a feature map and something smaller, in forms whose backward pass is fast.

On CPUs MXNet's broadcasting operators spend their backward pass in a generic reduction that costs ten times what the
arithmetic does: three quarters of the time that SE adds to a training step of ResNet-50. The same values come from
matrix products with vectors of ones, whose gradients are matrix products again. Where nothing is differentiated the
broadcasting operators are the faster ones, and other runtimes know them, so the form depends on whether the call is
recorded; with :mod:`kernels` they are the faster ones there too. A hybridized network keeps the forms of its first
call: one that was traced in inference and is then trained gives the same numbers, more slowly.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Tuple

from mxnet.autograd import is_recording

import kernels

__all__ = [
    'add_to_channels',
    'add_to_positions',
    'affine',
    'channel_max_and_mean',
    'channels_times_positions',
    'map_of_ones',
    'max_and_mean',
    'plain_reductions',
    'row_and_column_means',
    'rows_plus_columns',
    'rows_times_columns',
    'sample_variance',
    'scale_channels',
    'scale_map',
    'scale_positions',
    'spatial_max',
]


_plain = False


def _as_a_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let an ``F`` that has a table ``forms`` with the function's name write the function as a whole."""

    @functools.wraps(function)
    def run(F: Any, *inputs: Any, **options: Any) -> Any:
        forms = getattr(F, 'forms', None)
        return (
            function(F, *inputs, **options) if forms is None else forms[function.__name__](function, *inputs, **options)
        )

    return run


@contextmanager
def plain_reductions() -> Iterator[None]:
    """Let networks that are traced reduce over channels by the operators that say so, whatever these cost in MXNet.

    For an engine that has them in one pass.
    """
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def map_of_ones(F: Any, x: Any) -> Any:
    """Return ones (1, 1, H, W) for ``x`` (N, C, H, W)."""
    return F.ones_like(F.slice_axis(F.slice_axis(x, axis=0, begin=0, end=1), axis=1, begin=0, end=1))


@_as_a_whole
def scale_map(F: Any, x: Any, factor: Any) -> Any:
    """Return ``x`` (N, C, H, W) times ``factor`` (1,), one learned number."""
    if is_recording():
        return F.reshape_like(F.dot(F.reshape(x, (-1, 1)), F.reshape(factor, (1, 1))), x)
    return F.broadcast_mul(x, F.reshape(factor, (1, 1, 1, 1)))


def _over_space(F: Any, x: Any, vector: Any) -> Any:
    """Return ``vector`` (N, C) at every position of ``x`` (N, C, H, W)."""
    ones = F.reshape(map_of_ones(F, x), (-3, 0, 0))
    return F.dot(F.expand_dims(vector, axis=2), ones)


def _channel_ones(F: Any, flat: Any) -> Any:
    """Return ones (N, C, 1) for ``flat`` (N, C, HW)."""
    return F.ones_like(F.slice_axis(flat, axis=2, begin=0, end=1))


@_as_a_whole
def scale_channels(F: Any, x: Any, gate: Any) -> Any:
    """Return ``x`` (N, C, H, W) times ``gate`` (N, C), one factor per channel and sample."""
    if is_recording() and not kernels.fuses():
        return F.elemwise_mul(x, _over_space(F, x, gate))
    return F.broadcast_mul(x, F.reshape(gate, (0, 0, 1, 1)))


@_as_a_whole
def add_to_channels(F: Any, x: Any, term: Any) -> Any:
    """Return ``x`` (N, C, H, W) plus ``term`` (N, C), one summand per channel and sample."""
    if is_recording() and not kernels.fuses():
        return F.elemwise_add(x, _over_space(F, x, term))
    return F.broadcast_add(x, F.reshape(term, (0, 0, 1, 1)))


@_as_a_whole
def add_to_positions(F: Any, x: Any, term: Any) -> Any:
    """Return ``x`` (N, C, H, W) plus ``term`` (N, 1, H, W), one summand per position and sample."""
    if is_recording():
        flat = F.reshape(x, (0, 0, -1))
        return F.elemwise_add(x, F.reshape_like(F.batch_dot(_channel_ones(F, flat), F.reshape(term, (0, 0, -1))), x))
    return F.broadcast_add(x, term)


@_as_a_whole
def rows_times_columns(F: Any, rows: Any, columns: Any) -> Any:
    """Return the products (N, C, H, W) of ``rows`` (N, C, H, 1) and ``columns`` (N, C, 1, W)."""
    if not is_recording():
        return F.broadcast_mul(rows, columns)
    products = F.batch_dot(F.reshape(rows, (-3, 0, 0)), F.reshape(columns, (-3, 0, 0)))
    return F.reshape_like(products, rows, lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2)


@_as_a_whole
def rows_plus_columns(F: Any, rows: Any, columns: Any) -> Any:
    """Return the sums (N, C, H, W) of ``rows`` (N, C, H, 1) and ``columns`` (N, C, 1, W)."""
    if not is_recording():
        return F.broadcast_add(rows, columns)
    wide = rows_times_columns(F, rows, F.ones_like(columns))
    return F.elemwise_add(wide, rows_times_columns(F, F.ones_like(rows), columns))


@_as_a_whole
def channels_times_positions(F: Any, vector: Any, positions: Any) -> Any:
    """Return the products (N, C, H, W) of ``vector`` (N, C) and ``positions`` (N, 1, H, W)."""
    if not is_recording():
        return F.broadcast_mul(F.reshape(vector, (0, 0, 1, 1)), positions)
    products = F.batch_dot(F.expand_dims(vector, axis=2), F.reshape(positions, (0, 0, -1)))
    return F.reshape_like(products, positions, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4)


@_as_a_whole
def row_and_column_means(F: Any, x: Any) -> Tuple[Any, Any]:
    """Return the means of ``x`` (N, C, H, W) over the width, (N, C, H, 1), and over the height, (N, C, W, 1)."""
    return F.mean(x, axis=3, keepdims=True), F.expand_dims(F.mean(x, axis=2), axis=3)


@_as_a_whole
def sample_variance(F: Any, x: Any, mean_square: Any) -> Any:
    """Return the variance over space that divides by the positions less one, from the one that divides by all, (N, C).

    ``x`` is the map (N, C, H, W). Of one position it is 0.
    """
    count = F.reshape(F.sum(map_of_ones(F, x)), (1, 1))
    return F.broadcast_mul(mean_square, count / F.maximum(count - 1, 1))


def affine(F: Any, x: Any, gamma: Any, beta: Any) -> Any:
    """Return ``x`` (N, C, H, W) times ``gamma`` plus ``beta``, learned numbers (C,) for each channel."""
    if is_recording():
        ones = F.ones_like(F.slice_axis(F.reshape(x, (0, -1)), axis=1, begin=0, end=1))  # (N, 1)
        gamma, beta = (F.dot(ones, F.reshape(vector, (1, -1))) for vector in (gamma, beta))
        return add_to_channels(F, scale_channels(F, x, gamma), beta)
    gamma, beta = (F.reshape(vector, (1, -1, 1, 1)) for vector in (gamma, beta))
    return F.broadcast_add(F.broadcast_mul(x, gamma), beta)


@_as_a_whole
def scale_positions(F: Any, x: Any, gate: Any, channels: int, groups: int = 1) -> Any:
    """Return ``x`` (N, C, H, W) times ``gate`` (N, G, H, W), one factor per position, group of channels and sample.

    ``channels`` is C and ``groups`` G.
    """
    size = channels // groups
    if is_recording() and not (groups == 1 and kernels.fuses()):
        flat = F.reshape(F.reshape(x, (0, 0, -1)), (-1, size, 0))
        gates = F.reshape(F.reshape(gate, (0, 0, -1)), (-1, 1, 0))
        return F.elemwise_mul(x, F.reshape_like(F.batch_dot(_channel_ones(F, flat), gates), x))
    if groups == 1:
        return F.broadcast_mul(x, gate)
    grouped = F.broadcast_mul(F.reshape(x, (-1, size, 0, 0)), F.reshape(gate, (-1, 1, 0, 0)))
    return F.reshape(grouped, (-1, channels, 0, 0))


def _channel_max(F: Any, flat: Any, channels: int) -> Any:
    """Return the maximum over channels (N, 1, HW) of ``flat`` (N, C, HW)."""
    while channels % 2 == 0:  # whole maps against each other: a third of the reduction's time, gradients included
        parts = 4 if channels % 4 == 0 else 2
        maps = list(F.split(flat, num_outputs=parts, axis=1))
        flat = F.maximum(maps[0], maps[1])
        if parts == 4:
            flat = F.maximum(flat, F.maximum(maps[2], maps[3]))
        channels //= parts
    if channels == 1:
        return flat
    if is_recording():  # the position is exact in float16 too: there are at most 2048 channels
        return F.pick(flat, F.argmax(flat, axis=1), axis=1, keepdims=True)
    return F.max(flat, axis=1, keepdims=True)


@_as_a_whole
def spatial_max(F: Any, x: Any) -> Any:
    """Return the maximum over space, ``(N, C, H, W) -> (N, C)``.

    Its gradient goes to one position. It is found row by row, so that positions stay exact in float16. Pooling windows
    first would be faster; but outside of training mode MXNet does not note where a window's maximum was, and gradients
    that are asked for there go astray.
    """
    if is_recording():
        rows = F.pick(x, F.argmax(x, axis=3), axis=3)
        return F.pick(rows, F.argmax(rows, axis=2), axis=2)
    return F.Flatten(F.Pooling(x, kernel=(1, 1), global_pool=True, pool_type='max'))


@_as_a_whole
def max_and_mean(F: Any, x: Any, axis: int) -> Any:
    """Return the maximum and the mean over an axis of space, ``(N, C, H, W) -> (N, 2, C, W)`` or ``(N, 2, C, H)``.

    The maximum's gradient goes to one position, the first that has it.
    """
    if is_recording():
        maximum = F.pick(x, F.argmax(x, axis=axis), axis=axis)
    else:
        maximum = F.max(x, axis=axis)
    return F.stack(maximum, F.mean(x, axis=axis), axis=1)


@_as_a_whole
def channel_max_and_mean(F: Any, x: Any, channels: int) -> Any:
    """Return the maximum and the mean over channels, in this order: ``(N, C, H, W) -> (N, 2, H, W)``.

    The maximum's gradient goes to one channel, the first that has it.
    """
    if _plain and not is_recording():
        return F.concat(F.max(x, axis=1, keepdims=True), F.mean(x, axis=1, keepdims=True), dim=1)
    flat = F.reshape(x, (0, 0, -1))
    mean = F.batch_dot(_channel_ones(F, flat) / channels, flat, transpose_a=True)
    both = F.concat(_channel_max(F, flat, channels), mean, dim=1)
    return F.reshape_like(both, x, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4)
