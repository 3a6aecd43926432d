"""Refuse networks of forms that no original has, although it may have names for all of their parameters."""

from __future__ import annotations

from typing import Iterator, List

from mxnet import gluon

from model.attention.dca import ScaledMerge
from model.attention.dia import OUTPUTS, LightLSTM
from model.layers.no_norm import NoNorm

__all__ = ['check_form']


def _departures(block: gluon.Block) -> Iterator[str]:
    """Yield the options of `get_model` by which ``block`` departs from every original."""
    if isinstance(block, NoNorm):
        yield "norm='none'"
    if getattr(block, 'shortcuts', None) is False:
        yield 'shortcuts=False'
    if isinstance(block, ScaledMerge):
        yield f'merge={block.form!r}'
    if isinstance(block, LightLSTM):
        if block.output != OUTPUTS[0]:
            yield f'cell_output={block.output!r}'
        if not block.bottleneck:
            yield 'bottleneck=False'


def check_form(net: gluon.HybridBlock, source: str) -> None:
    """Raise ``ValueError`` if ``net`` has a form that ``source``, one of the originals, does not know.

    Its parameters may have the original's names all the same: a tanh in place of a sigmoid has none.
    """
    found: List[str] = []
    net.apply(lambda block: found.extend(_departures(block)))
    if found:
        raise ValueError(
            f'{source} has no network with {", ".join(dict.fromkeys(found))}; only our own names (torch) are for it'
        )
