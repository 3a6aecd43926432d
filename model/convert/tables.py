"""The tables of names of the originals, and how to write one.

A table is a module with the functions

``names(net) -> {original name: our structural name}``
    for every parameter and running statistic of ``net``, derived from its structure. A parameter that several of our
    blocks share appears under one of its names. ``ValueError`` if the original has no such network.
``unused(net) -> {original name: shape}``, optional
    parameters that the original declares but its forward pass never uses.
``shapes(net) -> {original name: shape}``, optional
    the original's shapes where they differ from ours by dimensions of size 1.
``counterpart(name) -> (our name, arguments of get_model)``, optional
    our network for one of the original's by its own name. ``ValueError`` with the reason if there is none.
``flipped(net) -> names``, optional
    the original's names of arrays whose second axis is in the opposite order of ours.
``structural(net, arrays, origin) -> arrays``, optional
    arrays by the original's names, from arrays without them: an original in Gluon may be saved in several ways.
``COPIES``, optional
    True if the original's dictionary repeats a parameter for each of the blocks that share it.
``OPTIONS``, optional
    arguments of ``get_model`` without which our networks do not compute the same as the original.
``NORMALISATION``, optional
    ``mean`` and ``std`` of the original's inputs, on the scale 0 to 1, if they are not the usual ones.
"""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType
from typing import Dict, Iterable, Iterator, Mapping, Optional, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.activation.plain import PReLU
from model.convert.forms import check_form

__all__ = ['SOURCES', 'expand', 'names_in', 'table', 'torch_leaf', 'torch_names']

SOURCES: Dict[str, str] = {
    'torch': 'model.convert.own',
    'open-atac': 'model.convert.open_atac',
    'dianet': 'model.convert.dianet',
    'dcanet': 'model.convert.dcanet',
    'residual-attention': 'model.convert.residual_attention',
    'torchvision': 'model.convert.torchvision',
    'timm': 'model.convert.timm',
    'pytorchcv': 'model.convert.pytorchcv',
    'gluoncv': 'model.convert.gluoncv',
}

_NORM = frozenset(('gamma', 'beta'))


def table(source: str) -> ModuleType:
    """Return the table of the original called ``source``.

    Raises ``ValueError`` with the allowed names for any other.
    """
    if source not in SOURCES:
        near = difflib.get_close_matches(source, SOURCES, 1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise ValueError(f'source is {source!r}: allowed are {", ".join(map(repr, SOURCES))}{hint}')
    return importlib.import_module(SOURCES[source])


def names_in(source: str, net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}`` of all parameters and running statistics of ``net``.

    Raises ``ValueError`` if the source is unknown, or has no such network.
    """
    original = table(source)
    if source != 'torch':  # our own networks
        check_form(net, source)
    return original.names(net)


def torch_leaf(block: gluon.Block, leaf: str) -> str:
    """Return what PyTorch calls the parameter ``leaf`` of ``block``: the ``gamma`` of a norm is its ``weight``.

    Norms, MXNet's, ours and anybody's, are those that have a ``gamma`` and a ``beta``.
    """
    if _NORM <= set(block._reg_params):
        return {'gamma': 'weight', 'beta': 'bias'}.get(leaf, leaf)
    if isinstance(block, (nn.PReLU, PReLU)):
        return {'alpha': 'weight'}.get(leaf, leaf)
    return leaf


def _leaves(block: gluon.Block, prefix: str = '') -> Iterator[Tuple[str, gluon.Block, str]]:
    for leaf in block._reg_params:
        yield prefix, block, leaf
    for name, child in block._children.items():
        yield from _leaves(child, f'{prefix}{name}.')


def torch_names(net: gluon.Block) -> Dict[str, str]:
    """Return ``{our structural name with PyTorch's leaves: our structural name}``, shared parameters under all names.

    ``layer1.0.bn1.weight`` for ``layer1.0.bn1.gamma``.
    """
    return {prefix + torch_leaf(block, leaf): prefix + leaf for prefix, block, leaf in _leaves(net)}


def expand(
    net: gluon.Block, prefixes: Iterable[Tuple[str, str]], leaves: Optional[Mapping[str, str]] = None
) -> Dict[str, str]:
    """Return the names of all parameters below pairs ``(original's prefix, ours)``, both without the final dot.

    Below the prefixes names agree, except for what ``leaves`` has for ours, PyTorch's words unless they are given; the
    longest of our prefixes that fits a name counts. Parameters below none of them are left out.
    """
    ours = {prefix: theirs for theirs, prefix in prefixes}
    names = {}
    for leaf_name, name in (torch_names(net) if leaves is None else leaves).items():
        parts = name.split('.')
        for end in range(len(parts) - 1, 0, -1):
            prefix = '.'.join(parts[:end])
            if prefix in ours:
                names[ours[prefix] + leaf_name[len(prefix) :]] = name
                break
    return names
