"""Find our counterpart of another project's network, by its name there."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Mapping, Tuple

from model.convert.tables import SOURCES, table

__all__ = ['Found', 'Rule', 'by_rules', 'counterpart']

#: Our name and the arguments of ``get_model``.
Found = Tuple[str, Dict[str, Any]]
#: A regular expression of the original's names, and what a match of it is here.
Rule = Tuple[str, Callable[['re.Match[str]'], Found]]


def by_rules(source: str, name: str, rules: Mapping[str, Callable[..., Found]], refused: Mapping[str, str]) -> Found:
    """Return the result of the first rule that matches the whole ``name``, called with the groups of its expression.

    ``refused`` gives the reasons for names that no rule may match, also by regular expressions.
    """
    for pattern, reason in refused.items():
        if re.fullmatch(pattern, name):
            raise ValueError(f'{source} {name}: this network does not exist here: {reason}')
    for pattern, found in rules.items():
        match = re.fullmatch(pattern, name)
        if match:
            return found(**match.groupdict())
    raise ValueError(f'{source} {name}: no network of this name is known here; docs/pretrained.md lists some that are')


def counterpart(source: str, name: str) -> Found:
    """Return our counterpart of the network that is called ``name`` in the project ``source``, and its arguments.

    ``get_model(our_name, **arguments)`` computes the same as the original from the same parameters. A tag after a dot
    (``resnet50.a1_in1k``), which selects weights, is ignored. Raises ``ValueError`` with the reason if there is none.
    """
    original = table(source)
    if not hasattr(original, 'counterpart'):
        having = ', '.join(repr(key) for key in SOURCES if hasattr(table(key), 'counterpart'))
        raise ValueError(f'{source} has no names of its own for networks: allowed are {having}')
    return original.counterpart(name)
