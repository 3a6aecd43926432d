"""Fusion by oneDNN, where it can be trusted."""

from __future__ import annotations

import mxnet as mx

__all__ = ['fused', 'fused_for_int8', 'has_onednn']


def has_onednn() -> bool:
    """Return whether this MXNet was built with it."""
    return mx.runtime.Features().is_enabled('MKLDNN')


def fused(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the symbol with activations and sums taken into the convolutions and dense layers before them.

    This only works on the symbol. ``optimize_for`` infers shapes after each step of the fusion, and assigns them to the
    parameters in their former order. That order changes if a sum is fused into the convolution of its second operand
    because the first is not a convolution: ``x * gate + downsample(y)``, which every network with gates in its residual
    blocks has. It then fails ("Shape inconsistent") or, if the shapes happen to agree, does not notice. We go by names.
    """
    return symbol.get_backend_symbol('MKLDNN')


def fused_for_int8(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the same for a symbol that is to be quantized, and again when it is."""
    return symbol.get_backend_symbol('MKLDNN_QUANTIZE')
