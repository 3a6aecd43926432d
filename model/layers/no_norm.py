"""The norm of networks without norms, on which attention's part in stable training is studied (arXiv 1905.10671)."""

from __future__ import annotations

from typing import Any

from mxnet import gluon

__all__ = ['NoNorm', 'no_norm']


class NoNorm(gluon.HybridBlock):
    """``x -> x``, without parameters, where other networks have a norm."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return x


def no_norm(channels: int, gamma_initializer: str = 'ones', **kwargs: Any) -> NoNorm:
    """Return a factory of norms for ``get_model``.

    Raises ``ValueError`` for initial values, because they have no gamma.
    """
    if gamma_initializer != 'ones':
        raise ValueError(f"norm is 'none', and a norm is to start at {gamma_initializer}: leave one of the two out")
    return NoNorm()
