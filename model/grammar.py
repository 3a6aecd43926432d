"""The grammar of names.

    [cifar_][atac_][dca_|share_|dia_][UNIT_]BACKBONE

A name is taken apart by what is registered of attention units and backbones (:mod:`model.registry`); no network is
written out by hand.
"""

from __future__ import annotations

import difflib
import re
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple

from model.attention import ATTENTIONS, CONNECTIONS
from model.backbone.table import BACKBONES
from model.layers.factories import FOR_A_CONVOLUTION
from model.registry import Backbone
from model.renamed import renamed

__all__ = ['ModelName', 'all_names', 'attention_names', 'input_size', 'is_name', 'split_name']


class ModelName(NamedTuple):
    """A parsed name."""

    act_type: str
    backbone: str  # key of BACKBONES
    numbers: Tuple[int, ...]
    unit: Optional[str] = None  # key of ATTENTIONS
    connection: Optional[str] = None  # what a word of CONNECTIONS stands for

    @property
    def row(self) -> Backbone:
        return BACKBONES[self.backbone]


def _shared(row: Backbone, unit: str) -> bool:
    """Return whether the blocks of a stage of the row's backbones may share one such unit."""
    attention = ATTENTIONS[unit]
    inside = attention.place in FOR_A_CONVOLUTION or row.attention.get(unit, {}).get('inside', False)
    return attention.shares and not (inside and row.widens)


def attention_names(row: Backbone) -> List[str]:
    """Return the parts of a name that the backbones of a row take.

    ``''``, ``'se_'``, ``'dca_se_'``, ``'share_se_'``, ``'dia_'``, ...
    """
    units = [unit for unit, attention in ATTENTIONS.items() if attention.place in row.places]
    alone = [f'{unit}_' for unit in units]
    connected = [f'dca_{unit}_' for unit in units if ATTENTIONS[unit].connects]
    shared = [f'share_{unit}_' for unit in units if _shared(row, unit)]
    return ['', *alone, *connected, *shared, *(['dia_'] if 'branch' in row.places else [])]


def all_names() -> Iterator[str]:
    """Yield every listed backbone with every activation and attention that it takes, in the order of the tables."""
    for row in BACKBONES.values():
        for member in row.listed:
            for attention in attention_names(row):
                for act in ('', 'atac_'):
                    yield ('cifar_' if row.cifar else '') + act + attention + member


def _rebuilt(name: str) -> Optional[str]:
    """Return the name that the recognised parts of ``name`` make in the order of the grammar; None if none."""
    words = name.split('_')
    for start in range(len(words)):
        before, member = words[:start], '_'.join(words[start:])
        for row in BACKBONES.values():
            if re.fullmatch(row.pattern, member):
                parts = ['cifar'] if row.cifar else []
                for kind in (('atac',), CONNECTIONS, ATTENTIONS):
                    parts += [word for word in kind if word in before][:1]
                rebuilt = '_'.join([*parts, member])
                return rebuilt if rebuilt != name and is_name(rebuilt) else None
    return None


def is_name(name: str) -> bool:
    """Return whether a network has this name."""
    try:
        split_name(name)
    except ValueError:
        return False
    return True


def _nearest(name: str) -> str:
    rebuilt = _rebuilt(name)
    near = [one for one in difflib.get_close_matches(name, list(all_names()), 3, 0.6) if one != rebuilt]
    near = ([rebuilt] if rebuilt else []) + near
    if near:
        return f'; the nearest names are {", ".join(near[:3])}'
    listed = [('cifar_' if row.cifar else '') + member for row in BACKBONES.values() for member in row.listed[:1]]
    return f'; list_models() has all names, such as {", ".join(listed)}'


def _take(rest: str, words: Iterable[str]) -> Tuple[Optional[str], str]:
    """Take one of ``words`` and its underscore off the start of ``rest``, where one is there."""
    for word in words:
        if rest.startswith(word + '_'):
            return word, rest[len(word) + 1 :]
    return None, rest


def _check_connection(name: str, word: Optional[str], unit: Optional[str]) -> None:
    """Raise ``ValueError`` where the word of a connection does not go with the unit behind it."""
    if word == 'dia' and unit is not None:
        raise ValueError(f"{name}: 'dia_' replaces {unit!r}: use only one of the two{_nearest(name)}")
    for asking, does, lacks, takes in (
        ('dca', 'connects attention units', 'has no connection', lambda row: row.connects),
        ('share', 'has one attention unit for the blocks of a stage', 'has nothing to share', lambda row: row.shares),
    ):
        if word == asking and (unit is None or not takes(ATTENTIONS[unit])):
            units = ', '.join(key for key, row in ATTENTIONS.items() if takes(row))
            fault = '' if unit is None else f', and {unit!r} {lacks}'
            raise ValueError(f"{name}: '{word}_' {does} and needs one of {units} after it{fault}{_nearest(name)}")


def split_name(name: str) -> ModelName:
    """Parse a name; ``ValueError`` names the part at fault and the nearest valid names.

    A former name stands for the network that it used to denote (:mod:`model.renamed`).
    """
    name = renamed(name) or name
    cifar, rest = _take(name, ('cifar',))
    atac, rest = _take(rest, ('atac',))
    word, rest = _take(rest, CONNECTIONS)
    unit, rest = _take(rest, tuple(ATTENTIONS))
    _check_connection(name, word, unit)
    connection = CONNECTIONS.get(word)
    elsewhere = None
    for key, row in BACKBONES.items():
        match = re.fullmatch(row.pattern, rest)
        if match and row.cifar == bool(cifar):
            place = 'branch' if connection == 'dia' else unit and ATTENTIONS[unit].place
            if place and place not in row.places:
                takes = ', '.join(part.rstrip('_') for part in attention_names(row)[1:]) or 'none'
                raise ValueError(
                    f'{name}: {rest!r} has no place for {connection if unit is None else unit!r} '
                    f'(attention that it takes: {takes}){_nearest(name)}'
                )
            if connection == 'shared' and not _shared(row, unit):
                raise ValueError(
                    f'{name}: the blocks of a stage of {rest!r} have {unit!r} at several widths, and one unit, which '
                    f"'share_' asks for, has one width: leave 'share_' out{_nearest(name)}"
                )
            numbers = tuple(int(group) for group in match.groups())
            return ModelName('atac' if atac else row.act_type, key, numbers, unit, connection)
        elsewhere = elsewhere or (row if match else None)
    if elsewhere is not None:
        where = "needs the prefix 'cifar_'" if elsewhere.cifar else "takes no prefix 'cifar_'"
        raise ValueError(f'{name}: the backbone {rest!r} {where}{_nearest(name)}')
    raise ValueError(f'{name}: {rest!r} is not a backbone{_nearest(name)}')


def input_size(name: str) -> int:
    """Return the side, in pixels, of the images for which the network called ``name`` is made."""
    return split_name(name).row.size
