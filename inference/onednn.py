"""Fusion by oneDNN, as far as it can be trusted."""

from __future__ import annotations

import mxnet as mx

__all__ = ['fused', 'fused_for_int8', 'has_onednn']


def has_onednn() -> bool:
    """Whether this MXNet was built with it."""
    return mx.runtime.Features().is_enabled('MKLDNN')


def fused(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The symbol with activations and sums taken into the convolutions and dense layers before them.

    Done on the symbol: ``optimize_for`` with parameters infers shapes first, and fails there ("Shape inconsistent") on
    squeeze-and-excitation networks.
    """
    return symbol.get_backend_symbol('MKLDNN')


def fused_for_int8(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The same for a symbol that is to be quantized, and again when it is."""
    return symbol.get_backend_symbol('MKLDNN_QUANTIZE')
