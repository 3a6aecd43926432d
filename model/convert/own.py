"""Map our structural names to PyTorch's parameter names, for networks without an original and our own modules."""

from __future__ import annotations

from typing import Dict

from mxnet import gluon

from model.convert.tables import torch_names

__all__ = ['names']


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{name for PyTorch: our structural name}`` of every parameter, a shared one once."""
    parameters, first = net._collect_params_with_prefix(), {}
    for torch_name, own in torch_names(net).items():
        first.setdefault(id(parameters[own]), (torch_name, own))
    return dict(first.values())
