"""Batch norms whose statistics are those of the images of all ranks: --sync-bn.

Ranks exchange sums, as Peng et al. did ("MegDet", arXiv 1711.07240): on the way forward of the values and their
squares, on the way back of the gradients and their products with the normalised values. What a rank computes of its own
images is then what one process would compute of all of them, and so are the gradients of its layers, whose sum over the
ranks the step takes anyway.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon, nd

from model.layers.input_norm import InputNorm
from model.layers.sample_variance import SampleVarianceNorm
from training.distributed.ranks import Ranks

__all__ = ['synchronise']

_OPERATOR = 'synchronised_norm'
# What sums an array over the ranks in place, without waiting. Operators are made by MXNet, which knows strings alone.
_sum: List[Callable[[Any, str], Any]] = []


def synchronise(net: gluon.Block, ranks: Ranks) -> int:
    """Let the batch norms of `net` that take their batch's statistics take those of all ranks; returns how many do.

    Running statistics become those of all images, too, and parameters keep their names. Of one layer only one pass may
    be under way at a time, as the ranks' sums go by its number.
    """
    _sum[:] = [ranks.sum_up]
    count = 0
    known: Dict[int, bool] = {}

    def change(block: gluon.Block) -> None:
        nonlocal count
        norm = isinstance(block, (gluon.nn.BatchNorm, InputNorm)) and not block._kwargs['use_global_stats']
        if norm and id(block) not in known:  # units may share one
            known[id(block)] = True
            block.hybrid_forward = _forward(block, f'norm {count}')
            count += 1

    net.apply(change)
    return count


def _forward(block: gluon.HybridBlock, key: str) -> Callable[..., Any]:
    """Return what stands for the block's `hybrid_forward`."""
    settings = block._kwargs

    def hybrid_forward(F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Any:
        normalised, _ = F.Custom(
            _plain(F, x),
            gamma,
            beta,
            running_mean,
            running_var,
            op_type=_OPERATOR,
            key=key,
            eps=settings['eps'],
            momentum=settings['momentum'],
            fix_gamma=settings['fix_gamma'],
            sample=isinstance(block, SampleVarianceNorm),
        )
        return _plain(F, normalised)

    return hybrid_forward


def _plain(F: Any, values: Any) -> Any:
    """Return a copy of (N, C, ...) in the plain memory layout, whose gradient is in it too.

    In the layout of oneDNN's convolutions operators in Python would be given a copy that is gone before they read it.
    An operator that works in place would leave values in that layout; slicing does not.
    """
    return F.slice_axis(values, axis=0, begin=0, end=None)


def _sums(values: Any) -> Any:
    """Return the sum (C,) over all but the channels of (N, C, ...)."""
    return nd.sum(values, axis=1, exclude=True)


class _Norm(mx.operator.CustomOp):
    """`(x, gamma, beta) -> (y, known)`; `known` (2 C + 1,) has mean, 1 / deviation, and how many values each is of."""

    def __init__(self, key: str, eps: float, momentum: float, fix_gamma: bool, sample: bool) -> None:
        super().__init__()
        self.key, self.eps, self.momentum, self.fix_gamma, self.sample = key, eps, momentum, fix_gamma, sample

    def _normalised(self, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
        return nd.BatchNorm(
            x, gamma, beta, mean, variance, eps=self.eps, fix_gamma=self.fix_gamma, use_global_stats=True
        )

    def forward(self, is_train: bool, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        x, gamma, beta = in_data
        running_mean, running_var = aux
        if not is_train:
            self.assign(out_data[0], req[0], self._normalised(x, gamma, beta, running_mean, running_var))
            self.assign(out_data[1], req[1], nd.zeros_like(out_data[1]))
            return
        channels = gamma.shape[0]
        shift = running_mean.copy()  # near the mean, so that little is lost in the difference of squares
        shifted = nd.broadcast_sub(x.astype('float32', copy=False), _along(shift, x))
        own = nd.full((1,), x.size // channels, ctx=x.context)
        total = nd.concat(_sums(shifted), _sums(nd.square(shifted)), own, dim=0)
        _sum[0](total, f'{self.key} forward')
        first, squares, count = _parts(total, channels)
        from_shift = nd.broadcast_div(first, count)
        mean = shift + from_shift
        variance = nd.maximum(nd.broadcast_div(squares, count) - nd.square(from_shift), 0)
        kept = variance
        if self.sample:
            kept = nd.broadcast_mul(variance, nd.broadcast_div(count, nd.maximum(count - 1, 1)))
        running_mean[:] = self.momentum * running_mean + (1 - self.momentum) * mean
        running_var[:] = self.momentum * running_var + (1 - self.momentum) * kept
        self.assign(out_data[0], req[0], self._normalised(x, gamma, beta, mean, variance))
        self.assign(out_data[1], req[1], nd.concat(mean, 1 / nd.sqrt(variance + self.eps), count, dim=0))

    def backward(self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any) -> None:
        x, gamma, _ = in_data
        channels = gamma.shape[0]
        mean, factor, count = _parts(out_data[1], channels)
        slope = out_grad[0].astype('float32', copy=False)
        centred = nd.broadcast_sub(x.astype('float32', copy=False), _along(mean, x))
        normalised = nd.broadcast_mul(centred, _along(factor, x))
        own = nd.concat(_sums(slope), _sums(slope * normalised), dim=0)
        self.assign(in_grad[1], req[1], nd.zeros_like(gamma) if self.fix_gamma else own[channels:])
        self.assign(in_grad[2], req[2], own[:channels])
        total = own.copy()
        _sum[0](total, f'{self.key} backward')
        means = nd.broadcast_div(total, count)
        rest = nd.broadcast_add(nd.broadcast_mul(normalised, _along(means[channels:], x)), _along(means[:channels], x))
        scale = factor if self.fix_gamma else factor * gamma
        self.assign(in_grad[0], req[0], nd.broadcast_mul(slope - rest, _along(scale, x)).astype(x.dtype, copy=False))


def _along(values: Any, x: Any) -> Any:
    """Return values (C,) in the shape in which they go with `x` (N, C, ...)."""
    return values.reshape((1, -1, *(1,) * (x.ndim - 2)))


def _parts(values: Any, channels: int) -> Tuple[Any, Any, Any]:
    return values[:channels], values[channels : 2 * channels], values[2 * channels :]


@mx.operator.register(_OPERATOR)
class _NormProp(mx.operator.CustomOpProp):
    """The properties of the operator that MXNet asks for; all settings are strings."""

    def __init__(self, key: str, eps: str, momentum: str, fix_gamma: str, sample: str) -> None:
        super().__init__(need_top_grad=True)
        self._settings = key, float(eps), float(momentum), fix_gamma == 'True', sample == 'True'

    def list_arguments(self) -> List[str]:
        return ['x', 'gamma', 'beta']

    def list_outputs(self) -> List[str]:
        return ['y', 'known']

    def list_auxiliary_states(self) -> List[str]:
        return ['running_mean', 'running_var']

    def infer_shape(self, in_shape: Any) -> Any:
        channels = in_shape[0][1]
        each = [channels]
        return [in_shape[0], each, each], [in_shape[0], [2 * channels + 1]], [each, each]

    def infer_type(self, in_type: Any) -> Any:
        full = np.float32
        return [in_type[0], full, full], [in_type[0], full], [full, full]

    def create_operator(self, ctx: Any, shapes: Any, dtypes: Optional[Any]) -> _Norm:
        return _Norm(*self._settings)
