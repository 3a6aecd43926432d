"""Networks by name: the grammar, and the tables that it reads.

    [cifar_][atac_][dca_|dia_][UNIT_]BACKBONE

A name is taken apart by the tables of activations (``model.activation``), attention units (``model.attention``) and
backbones (``model.backbone.table``); no network is written out by hand.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from mxnet import gluon

from model.activation import activation_factory
from model.activation.factory import canonical
from model.backbone.plugs import batch_norm
from model.backbone.table import BACKBONES
from model.published import PUBLISHED, Published

__all__ = ['ListedModel', 'get_model', 'input_size', 'list_models', 'split_name']


# Keyword arguments of get_model that set up the activation unit: ours -> the unit's.
_ACT_OPTIONS = {
    'act_reduction': 'reduction',
    'act_relu': 'relu',
    'act_global': 'global_context',
    'act_kernel': 'kernel',
    'act_dilation': 'dilation',
    'act_mxnet_gradient': 'mxnet_gradient',
}
COMMON_OPTIONS = ('classes', 'act_type', 'use_global_stats', 'act_batch_stats', 'norm', *_ACT_OPTIONS)


class ModelName(NamedTuple):
    """A name taken apart."""

    act_type: str
    backbone: str  # key of BACKBONES
    numbers: Tuple[int, ...]


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, list_models(), 3, 0.3)
    return f'; the nearest names are {", ".join(near)}' if near else '; see list_models()'


def split_name(name: str) -> ModelName:
    """Take a name apart; ``ValueError`` names the part at fault and the nearest valid names."""
    rest = name
    cifar = rest.startswith('cifar_')
    rest = rest[len('cifar_') :] if cifar else rest
    atac = rest.startswith('atac_')
    rest = rest[len('atac_') :] if atac else rest
    elsewhere = None
    for key, row in BACKBONES.items():
        match = re.fullmatch(row.pattern, rest)
        if match and row.cifar == cifar:
            return ModelName('atac' if atac else row.act_type, key, tuple(int(g) for g in match.groups()))
        elsewhere = elsewhere or (row if match else None)
    if elsewhere is not None:
        where = "needs the prefix 'cifar_'" if elsewhere.cifar else "takes no prefix 'cifar_'"
        raise ValueError(f'{name}: the backbone {rest!r} {where}{_nearest(name)}')
    raise ValueError(f'{name}: {rest!r} is not a backbone{_nearest(name)}')


def input_size(name: str) -> int:
    """Return the side, in pixels, of the images that the network called ``name`` is made for."""
    return BACKBONES[split_name(name).backbone].size


def get_model(name: str, **overrides: Any) -> gluon.HybridBlock:
    """Return the network called ``name``, uninitialised: ``(N, 3, H, W) -> (N, classes)``.

    Defaults are the published network's. Keyword arguments override them:

    classes : outputs
    act_type : activation unit, ``'relu'``, ``'prelu'``, ``'elu'``, ``'selu'``, ``'gelu'``, ``'swish'``, ``'xunit'``,
        ``'atac'``, ``'atac_spatial'``, ``'atac_sequential'`` (or open-atac's ``'ChaATAC'``, ``'xUnit'``, ...)
    act_reduction, act_relu, act_global : the ATAC unit's r (2), inner ReLU (yes) and global context (no)
    act_kernel, act_dilation : of the depth-wise convolutions in xUnit (kernel) and the spatial ATAC units (3, 1)
    act_mxnet_gradient : SELU with MXNet's wrong gradient, as open-atac trained it (no)
    act_layers, act_order : how many places, from the end (``'bac'``) or the start (``'pre'``), take the unit; the rest
        keep ReLU
    use_global_stats : all batch norms use their running statistics in training too
    act_batch_stats : but not those in the activation units (open-atac, where the option never reaches them)
    norm : factory ``(channels, **kwargs) -> layer`` of the network's own norms, batch norm by default
    final_drop : dropout rate before the classifier

    ResNet-v1b also takes ``deep_stem``, ``stem_width``, ``avg_down``, ``dilated``, ``last_gamma``; the CIFAR ResNet-v2
    ``channels`` (widths of stem and stages) and ``update_input_norm`` (False: open-atac's behaviour on a CPU).

    ``ValueError`` names the part of the name, or the argument, that is at fault, and the nearest valid ones.
    """
    parsed = split_name(name)
    row = BACKBONES[parsed.backbone]
    allowed = (*COMMON_OPTIONS, *row.options)
    for key in overrides:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 3, 0.4) or sorted(allowed)
            raise ValueError(f'{name} takes no argument {key!r}; did you mean {", ".join(near)}?')
    options = {**row.defaults, **overrides}
    act_type = canonical(options.pop('act_type', parsed.act_type))
    if parsed.act_type == 'atac' and not act_type.startswith('atac'):
        raise ValueError(f"{name} and act_type={act_type!r} contradict each other; drop 'atac_' from the name")
    use_global_stats = options.pop('use_global_stats', False)
    act_options = {unit: options.pop(ours) for ours, unit in _ACT_OPTIONS.items() if ours in options}
    if use_global_stats and not options.pop('act_batch_stats', False):
        act_options['use_global_stats'] = True
    options.pop('act_batch_stats', None)
    norm = options.pop('norm', batch_norm)
    net = row.build(
        parsed.numbers,
        activation=activation_factory(act_type, **act_options),
        replaced=activation_factory(row.act_type),
        norm=partial(norm, use_global_stats=True) if use_global_stats else norm,
        **options,
    )
    return net


class ListedModel(str):
    """A network's name that also says what was published of it (``published`` is None where nothing was)."""

    published: Optional[Published]

    def __new__(cls, name: str):
        listed = super().__new__(cls, name)
        listed.published = PUBLISHED.get(name)
        return listed

    @property
    def paper(self) -> Optional[str]:
        return self.published and self.published.paper

    @property
    def params(self) -> Optional[int]:
        return self.published and self.published.params

    @property
    def macs(self) -> Optional[int]:
        return self.published and self.published.macs

    @property
    def accuracy(self) -> Optional[Dict[str, float]]:
        return self.published and self.published.accuracy


def list_models(pattern: str = '*') -> List[ListedModel]:
    """Return the names that match ``pattern`` (``'*atac*'``), in the order of the tables.

    Families without end (``resnet{6n+2}_v2``) are listed as far as they were published; get_model takes all of them. A
    name is a string with the attributes ``paper``, ``params``, ``macs`` and ``accuracy``, None where not published.
    """
    names = []
    for row in BACKBONES.values():
        for member in row.listed:
            for act in ('', 'atac_'):
                names.append(('cifar_' if row.cifar else '') + act + member)
    return [ListedModel(name) for name in names if fnmatch.fnmatchcase(name, pattern)]
