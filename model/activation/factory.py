"""Every activation unit by name, through one factory."""

from __future__ import annotations

import difflib
from typing import Any, Callable, Dict, NamedTuple, Tuple

from mxnet import gluon

from model.activation import plain
from model.activation.atac import ATAC, SequentialATAC, SpatialATAC
from model.activation.xunit import XUnit

__all__ = ['ACTIVATIONS', 'Activation', 'activation_factory', 'canonical']


class Activation(NamedTuple):
    """A row of the table: the block's constructor ``(channels, **options)`` and which options it reads."""

    build: Callable[..., gluon.HybridBlock]
    options: Tuple[str, ...] = ()
    alias: str = ''  # open-atac's name for it


ACTIVATIONS: Dict[str, Activation] = {
    'relu': Activation(plain.ReLU),
    'relu6': Activation(lambda channels: plain.ReLU6()),
    'prelu': Activation(lambda channels: plain.PReLU()),
    'elu': Activation(plain.ELU),
    'selu': Activation(lambda channels, **options: plain.SELU(**options), ('mxnet_gradient',)),
    'gelu': Activation(plain.GELU),
    'swish': Activation(plain.Swish),
    'xunit': Activation(XUnit, ('kernel', 'use_global_stats'), 'xUnit'),
    'atac': Activation(ATAC, ('reduction', 'relu', 'global_context', 'use_global_stats', 'sample_variance'), 'ChaATAC'),
    'atac_spatial': Activation(SpatialATAC, ('kernel', 'dilation', 'relu', 'use_global_stats'), 'SpaATAC'),
    'atac_sequential': Activation(SequentialATAC, ('kernel', 'dilation', 'relu', 'use_global_stats'), 'SeqATAC'),
}

_ALIASES = {row.alias: name for name, row in ACTIVATIONS.items() if row.alias}


def canonical(name: str) -> str:
    """Return our name of an activation given ours or open-atac's; ``ValueError`` names the nearest valid ones."""
    name = _ALIASES.get(str(name), str(name))
    if name not in ACTIVATIONS:
        known = [*ACTIVATIONS, *_ALIASES]
        near = difflib.get_close_matches(name, known, 3, 0.4) or known
        raise ValueError(f'unknown activation {name!r}; did you mean {", ".join(near)}?')
    return name


def activation_factory(name: str, **options: Any) -> Callable[[int], gluon.HybridBlock]:
    """Return ``channels -> block`` for the activation ``name``.

    ``options`` (``reduction``, ``relu``, ``global_context``, ``kernel``, ``dilation``, ``use_global_stats``,
    ``sample_variance``, ``mxnet_gradient``) that the unit does not have are left out, so one set serves a sweep over
    units.
    """
    row = ACTIVATIONS[canonical(name)]
    chosen = {key: value for key, value in options.items() if key in row.options}
    return lambda channels: row.build(channels, **chosen)
