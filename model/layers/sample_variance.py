"""Batch norm whose running variance is the sample variance, as PyTorch keeps it."""

from __future__ import annotations

from typing import Any

from mxnet.autograd import is_recording
from mxnet.gluon import nn

__all__ = ['SampleVarianceNorm', 'with_sample_variance']


class SampleVarianceNorm(nn.BatchNorm):
    """``nn.BatchNorm`` of ``(N, C, H, W)`` whose running variance takes sums of squares over n - 1, not n.

    n = N H W is the number of values per channel. MXNet divides by n, PyTorch by n - 1: a difference where a norm sees
    few values, such as one for each image. Training normalises by the variance over n in both.

    MXNet's operator offers no other divisor. So the norm itself does not change the running statistics (momentum 1);
    they are kept by a second one, on values spread about their mean by ``sqrt(n / (n - 1))``, whose output is not used.
    A single value has no sample variance; its running variance is then 0, as in MXNet.
    """

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Any:
        statistics = (gamma, beta, running_mean, running_var)
        if not is_recording():
            return F.BatchNorm(x, *statistics, **self._kwargs)
        values = F.BlockGrad(x)
        count = F.sum(F.ones_like(F.slice_axis(values, axis=1, begin=0, end=1)))
        spread = F.sqrt(F.broadcast_div(count, F.broadcast_maximum(count - 1, F.ones_like(count))))
        mean = F.mean(values, axis=(0, 2, 3), keepdims=True)
        spread_values = F.broadcast_add(mean, F.broadcast_mul(F.broadcast_sub(values, mean), spread))
        kept = F.BatchNorm(spread_values, *statistics, **self._kwargs)
        normalised = F.BatchNorm(x, *statistics, **{**self._kwargs, 'momentum': 1})
        return F.elemwise_add(normalised, 0 * kept)


def with_sample_variance(norm: nn.BatchNorm) -> SampleVarianceNorm:
    """Return a norm of the same width and settings as ``norm`` that keeps the sample variance."""
    settings = norm._kwargs
    return SampleVarianceNorm(
        in_channels=norm.gamma.shape[0],
        momentum=settings['momentum'],
        epsilon=settings['eps'],
        use_global_stats=settings['use_global_stats'],
    )
