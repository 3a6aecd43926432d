"""Every activation unit by name, through one factory."""

from __future__ import annotations

import difflib
from typing import Any, Callable, Union

from mxnet import gluon

from model.activation import plain
from model.activation.atac import SequentialATAC, SpatialATAC, placed_atac
from model.activation.xunit import XUnit
from model.registry import ACTIVATIONS, Activation, register_activation

__all__ = ['ACTIVATIONS', 'Activation', 'activation_factory', 'canonical']


register_activation('relu', plain.ReLU)
register_activation('relu6', lambda channels: plain.ReLU6())
register_activation('prelu', lambda channels: plain.PReLU())
register_activation('elu', plain.ELU)
register_activation('selu', lambda channels, **options: plain.SELU(**options), options=('mxnet_gradient',))
register_activation('gelu', plain.GELU)
register_activation('swish', plain.Swish)
register_activation('xunit', XUnit, options=('kernel', 'use_global_stats'), alias='xUnit')
register_activation(
    'atac',
    placed_atac,
    options=('reduction', 'relu', 'global_context', 'use_global_stats', 'sample_variance', 'kernel', 'placement'),
    alias='ChaATAC',
)
_SPATIAL = ('kernel', 'dilation', 'relu', 'use_global_stats')
register_activation('atac_spatial', SpatialATAC, options=_SPATIAL, alias='SpaATAC')
register_activation('atac_sequential', SequentialATAC, options=_SPATIAL, alias='SeqATAC')


def canonical(name: str) -> str:
    """Return our name of an activation given ours or open-atac's; ``ValueError`` names the nearest valid ones."""
    aliases = {row.alias: ours for ours, row in ACTIVATIONS.items() if row.alias}
    name = aliases.get(str(name), str(name))
    if name not in ACTIVATIONS:
        known = [*ACTIVATIONS, *aliases]
        near = difflib.get_close_matches(name, known, 3, 0.4) or known
        raise ValueError(f'unknown activation {name!r}; did you mean {", ".join(near)}?')
    return name


def activation_factory(unit: Union[str, Activation], **options: Any) -> Callable[[int], gluon.HybridBlock]:
    """Return ``channels -> block`` for the activation called ``unit``, or for a row that is not registered.

    ``options`` that the unit does not have are ignored, so that one set serves a sweep over units: ``reduction``,
    ``relu``, ``global_context``, ``kernel``, ``dilation``, ``placement``, ``use_global_stats``, ``sample_variance``,
    ``mxnet_gradient``.
    """
    row = ACTIVATIONS[canonical(unit)] if isinstance(unit, str) else unit
    chosen = {key: value for key, value in options.items() if key in row.options}
    return lambda channels: row.build(channels, **chosen)
