"""Names of YimianDai/open-atac: an original in Gluon, whose structural names are ours."""

from __future__ import annotations

from typing import Dict

from mxnet import gluon

__all__ = ['names']


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{name: name}`` for every parameter, a shared one once."""
    first = {}
    for name, parameter in net._collect_params_with_prefix().items():
        first.setdefault(id(parameter), name)
    return {name: name for name in first.values()}
