"""Rules for the layer names of an original, from which its whole table of names is derived."""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Tuple, Union

from mxnet import gluon

from model.convert.tables import expand, torch_names

__all__ = ['Layers', 'Naming', 'as_maps', 'blocks', 'covered', 'named', 'of_family', 'own_names']

#: Ours -> the original's, of layers without the final dot.
Layers = Mapping[str, str]


class Naming(NamedTuple):
    """The original's layers for ours.

    Attributes:
        outside: layers that are in no block.
        block: its name, a format of ``s``, the stage, ``b``, the block within it, and ``n``, the block within the
            network, all from 0; ``{s:1}`` is the stage counted from 1. Or a function of ``s`` and ``b``.
        layers: those within a block, or a function of the block that says which.
        units: those of attention units, by their class.
    """

    outside: Layers
    block: Union[str, Callable[[int, int], str]]
    layers: Union[Layers, Callable[[gluon.Block], Layers]]
    units: Mapping[type, Layers] = {}


class _Count(int):
    """A number from 0 whose format specification is where the original begins to count."""

    def __format__(self, start: str) -> str:
        return str(int(self) + int(start or 0))


def blocks(net: gluon.Block) -> Iterator[Tuple[str, int, int, gluon.Block]]:
    """Yield path, stage, number within the stage, and block, for every residual block of a network."""
    for stage, (info, members) in enumerate(zip(net.feature_info, net.stages)):
        for number, block in enumerate(members):
            yield f'{info.name}.{number}', stage, number, block


def _parts(block: gluon.Block, path: str = '') -> Iterator[Tuple[str, gluon.Block]]:
    for name, child in block._children.items():
        yield f'{path}{name}', child
        yield from _parts(child, f'{path}{name}.')


def _prefixes(net: gluon.Block, naming: Naming) -> Iterator[Tuple[str, str]]:
    for ours, theirs in naming.outside.items():
        yield theirs, ours
    for count, (path, stage, number, block) in enumerate(blocks(net)):
        if callable(naming.block):
            prefix = naming.block(stage, number)
        else:
            prefix = naming.block.format(s=_Count(stage), b=_Count(number), n=_Count(count))
        layers = naming.layers(block) if callable(naming.layers) else naming.layers
        for ours, theirs in layers.items():
            yield f'{prefix}.{theirs}', f'{path}.{ours}'
        for place, unit in _parts(block):
            for ours, theirs in naming.units.get(type(unit), {}).items():
                yield f'{prefix}.{theirs}', f'{path}.{place}.{ours}'


def own_names(net: gluon.Block) -> Dict[str, str]:
    """Return ``{name: name}`` for originals in Gluon, whose leaves have our names."""
    return {name: name for name in net._collect_params_with_prefix()}


def named(
    net: gluon.Block,
    naming: Naming,
    source: str,
    leaves: Callable[[gluon.Block], Dict[str, str]] = torch_names,
) -> Dict[str, str]:
    """Return ``{original name: our structural name}`` of all parameters; one that blocks share has all its names.

    ``leaves`` gives our names with the original's words for the parameters of a layer. Raises ``ValueError`` for a
    parameter that the rules do not reach.
    """
    return covered(net, expand(net, _prefixes(net, naming), leaves(net)), source)


def covered(net: gluon.Block, names: Dict[str, str], source: str) -> Dict[str, str]:
    """Return the table as it is. Raises ``ValueError`` for a parameter of ``net`` that is not in it."""
    parameters = net._collect_params_with_prefix()
    reached = {id(parameters[own]) for own in names.values()}
    for name, parameter in parameters.items():
        if id(parameter) not in reached:
            raise ValueError(f'{source} has no network with {name}, as this one has')
    return names


def of_family(net: gluon.Block, families: Mapping[type, Naming], source: str) -> Naming:
    """Return the rules for the family that ``net`` is of. Raises ``ValueError`` if there are none."""
    for kind, naming in families.items():
        if isinstance(net, kind):
            return naming
    having = ', '.join(kind.__name__ for kind in families)
    raise ValueError(f'{source} has no {type(net).__name__}: it has {having}')


def as_maps(net: gluon.Block, names: Mapping[str, str], pattern: str) -> Dict[str, Tuple[int, ...]]:
    """Return ``{original name: shape}`` of dense weights that are 1x1 convolutions in the original.

    ``pattern`` is a regular expression for their names.
    """
    parameters = net._collect_params_with_prefix()
    shapes = {name: tuple(parameters[own].shape) for name, own in names.items()}
    return {n: (*shape, 1, 1) for n, shape in shapes.items() if len(shape) == 2 and re.fullmatch(pattern, n)}
