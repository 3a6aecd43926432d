"""The name tables of the originals, and what writing one takes.

A table is a module with the functions

``names(net) -> {original name: our structural name}``
    of every parameter and running statistic of ``net``, derived from its structure. A parameter of ours that several
    blocks share may appear under any of its names.
``unused(net) -> {original name: shape}``, optional
    what the original declares and its forward pass never uses.
``shapes(net) -> {original name: shape}``, optional
    the original's shapes where they differ from ours by extents of 1.
"""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType
from typing import Callable, Dict, Iterable, Iterator, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.pairs import unique_parameters

__all__ = ['SOURCES', 'parameters_below', 'table', 'torch_leaf', 'torch_names']
