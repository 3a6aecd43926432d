"""Batch norm on the image, without learned scale and shift, whose running statistics do get updated."""

from __future__ import annotations

from typing import Any, Union

import numpy as np
from mxnet import gluon

__all__ = ['InputNorm']


class InputNorm(gluon.HybridBlock):
    """Normalise each channel of ``(N, C, H, W)`` by its batch (training) or running (inference) statistics.

    MXNet updates the running statistics of a batch norm in the backward pass on CPUs (apache/mxnet issue 18673). The
    first layer of a network with frozen scale and shift has nothing to differentiate, so its backward pass never runs,
    and inference sees other inputs than training did. Here ``gamma`` asks for a gradient, which makes the pass run. The
    operator ignores gamma's value and returns a zero gradient (``fix_gamma``), and its learning rate is zero: it
    neither trains nor counts as trainable.

    After ``use_running_statistics()`` training normalises by them too, and leaves them as they are.

    With ``update_running=False`` the statistics stay at 0 and 1 on CPUs, as in open-atac. Parameter names are those of
    ``nn.BatchNorm``: gamma, beta, running_mean, running_var; momentum 0.9, epsilon 1e-5.
    """

    def __init__(self, channels: int = 3, update_running: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kwargs = {'eps': 1e-5, 'momentum': 0.9, 'fix_gamma': True, 'use_global_stats': False}
        shape = (channels,)
        self.gamma = self.params.get('gamma', shape=shape, init='ones', grad_req='write' if update_running else 'null')
        self.gamma.lr_mult = self.gamma.wd_mult = 0.0
        self.beta = self.params.get('beta', shape=shape, init='zeros', grad_req='null', differentiable=False)
        self.running_mean = self.params.get(
            'running_mean', shape=shape, init='zeros', grad_req='null', differentiable=False
        )
        self.running_var = self.params.get(
            'running_var', shape=shape, init='ones', grad_req='null', differentiable=False
        )

    def cast(self, dtype: Union[str, type, np.dtype]) -> None:
        """Cast like ``nn.BatchNorm``: the parameters stay float32 when the network becomes float16."""
        super().cast('float32' if np.dtype(dtype).name == 'float16' else dtype)

    def use_running_statistics(self) -> None:
        self._kwargs['use_global_stats'] = True

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Any:
        return F.BatchNorm(x, gamma, beta, running_mean, running_var, **self._kwargs)
