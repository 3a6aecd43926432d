"""Find which array of a file is which parameter, if its names do not follow the network's structure.

``Block.collect_params().save``, ``HybridBlock.export`` and ``Module.save_checkpoint`` name parameters as MXNet named
them when the network was built: ``resnetv1b0_layers1_conv0_weight``. The numbers count what was built before in that
process, so those of another build differ, and those of another program that builds the same layers are different
names altogether. Then the order of the arrays decides, where it leaves no doubt.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from common.text import printable
from environment import UserError
from model.parameters.gluoncv_names import gluoncv_network

__all__ = ['structural_names']

Arrays = Dict[str, np.ndarray]
_OLDER = {'running_mean': 'moving_mean', 'running_var': 'moving_var'}
_NUMBER = re.compile(r'\d+')


class Place(NamedTuple):
    """A parameter: its structural name, its layer's, its own in that, and its shape, in which 0 is an open extent."""

    name: str
    layer: str
    leaf: str
    shape: Tuple[int, ...]

    def holds(self, array: np.ndarray) -> bool:
        return len(self.shape) == array.ndim and all(want in (0, have) for want, have in zip(self.shape, array.shape))


def _places(net: gluon.Block) -> Dict[str, Place]:
    """Return the parameters by MXNet's names for them, each once, in the order in which the network holds them."""
    found: Dict[str, Place] = {}
    for name, parameter in net._collect_params_with_prefix().items():
        layer, _, leaf = name.rpartition('.')
        found.setdefault(parameter.name, Place(name, layer, leaf, tuple(parameter.shape)))
    return {name: found[name] for name in net.collect_params() if name in found}


def _of_any_classes(places: Dict[str, Place]) -> Dict[str, Place]:
    """Return the places with the number of classes left open.

    Names do not depend on it, and who sets them will see it.
    """
    dense = [place.layer for place in places.values() if place.leaf == 'weight' and len(place.shape) == 2]
    return {
        name: place._replace(shape=(0, *place.shape[1:])) if place.layer in dense[-1:] else place
        for name, place in places.items()
    }


def _canonical(names: Sequence[str]) -> Dict[str, Tuple]:
    """Return names without the scope that all have, and every number in place of which of the numbers there it is.

    Two builds of one network have the same canonical names.
    """
    common, scope, _ = os.path.commonprefix(list(names)).rpartition('_')
    words = {name: [_word(part) for part in name[len(common + scope) :].split('_')] for name in names}
    numbers: Dict[Tuple, Set[int]] = defaultdict(set)
    for parts in words.values():
        for end, (word, number) in enumerate(parts):
            numbers[(*parts[:end], word)].add(number)
    ranks = {place: {number: rank for rank, number in enumerate(sorted(found))} for place, found in numbers.items()}
    return {
        name: tuple((word, ranks[(*parts[:end], word)][number]) for end, (word, number) in enumerate(parts))
        for name, parts in words.items()
    }


def _word(part: str) -> Tuple[str, int]:
    """Return a part of a name without the number at its end, and that number, -1 for none."""
    word = part.rstrip('0123456789')
    return word, int(part[len(word) :][:18] or -1)


def _by_names(arrays: Arrays, places: Mapping[str, Place]) -> Optional[Dict[str, str]]:
    """Return ``{structural name: name in the file}`` if the file is of another build of the same network, else None."""
    theirs, ours = _canonical(list(arrays)), _canonical(list(places))
    if len(theirs) != len(ours) or set(theirs.values()) != set(ours.values()):
        return None
    named = {canonical: name for name, canonical in theirs.items()}
    return {place.name: named[ours[name]] for name, place in places.items()}


def _stem(name: str, leaf: str) -> Optional[str]:
    """Return the layer's part of a name whose own part is ``leaf``; None if it is another."""
    for own in (leaf, _OLDER.get(leaf, leaf)):
        if name == own or name.endswith(f'_{own}'):
            return name[: -len(own)].rstrip('_')
    return None


def _misfit(arrays: Arrays, order: Sequence[Place], rank: Mapping[str, int]) -> Optional[Tuple[int, str]]:
    """Return where and why the arrays, in the file's order, are not the parameters in this one; None if they are.

    Number, shapes and kinds are right, what is one layer there is one here, and the numbers in names grow as the
    layers go on (``rank``).
    """
    layers: Dict[str, str] = {}
    for at, (place, (name, array)) in enumerate(zip(order, arrays.items())):
        stem = _stem(name, place.leaf)
        if stem is None or not place.holds(array):
            return at, f'{name} {array.shape} comes where {place.name} {place.shape} is due'
        if layers.setdefault(stem, place.layer) != place.layer:
            return at, f'{name} is in one layer with parameters of {layers[stem]}, and {place.name} is not'
    if len(set(layers.values())) < len(layers):
        return len(order), 'parameters of one layer have names of several'
    firsts: Dict[str, int] = {}
    for place in order:
        firsts[place.layer] = min(rank[place.name], firsts.get(place.layer, rank[place.name]))
    families: Dict[str, List[Tuple[List[int], str]]] = defaultdict(list)
    for stem in layers:
        families[_NUMBER.sub('#', stem)].append(([int(n[:18]) for n in _NUMBER.findall(stem)], stem))
    for family in families.values():
        stems = [stem for _, stem in sorted(family)]
        for before, after in zip(stems, stems[1:]):
            if firsts[layers[before]] > firsts[layers[after]]:
                return len(order), f'{before} comes before {after} by its number, and after it in order'
    return None


def _orders(net: gluon.Block, places: Mapping[str, Place]) -> List[List[Place]]:
    """Return the orders in which programs save the parameters of ``net``.

    That in which it holds them, and for a ``Module`` that or the order of the computation with the running statistics
    at the end.
    """
    held = list(places.values())
    orders = [held, _statistics_last(held)]
    try:
        graph = net(mx.sym.var('data'))
    except TypeError:  # it takes more than images
        return orders
    graph = mx.sym.Group(graph) if isinstance(graph, (list, tuple)) else graph
    computed = [name for name in graph.list_inputs() if name != 'data']
    return [*orders, _statistics_last([places[name] for name in computed])] if set(computed) == set(places) else orders


def _statistics_last(order: List[Place]) -> List[Place]:
    return sorted(order, key=lambda place: place.leaf in _OLDER)


def _assignments(net: gluon.Block, arrays: Arrays, places: Mapping[str, Place]) -> Tuple[List[Dict[str, str]], str]:
    """Return every assignment ``{structural name.

    Name in the file}`` that the file speaks for, and why there is none.
    """
    rank = {place.name: number for number, place in enumerate(places.values())}
    found, misfits = [], []
    named = _by_names(arrays, places)
    if named is not None:
        found.append(named)
    if len(arrays) != len(places):
        return found, f'it has {len(arrays)} arrays, and this network {len(places)} parameters'
    for order in _orders(net, _of_any_classes(places)):
        misfit = _misfit(arrays, order, rank)
        if misfit is None:
            found.append({place.name: name for place, name in zip(order, arrays)})
        else:
            misfits.append(misfit)
    if not found:
        shapes = _by_shapes(arrays, list(places.values()))
        found += [] if shapes is None else [shapes]
    return found, max(misfits, default=(0, ''))[1]  # of the order that came furthest


def _by_shapes(arrays: Arrays, places: List[Place]) -> Optional[Dict[str, str]]:
    """Return the assignment if every array fits only one parameter, and every parameter only one array."""
    fitting = {
        place.name: [n for n, array in arrays.items() if _stem(n, place.leaf) is not None and place.holds(array)]
        for place in places
    }
    taken = {names[0] for names in fitting.values() if len(names) == 1}
    if any(len(names) != 1 for names in fitting.values()) or len(taken) < len(arrays):
        return None
    return {name: names[0] for name, names in fitting.items()}


def structural_names(arrays: Arrays, net: gluon.Block, origin: Any) -> Arrays:
    """Return the arrays of a file by the structural names of ``net``, which need not be initialised.

    Whether they fit is not said where the names are structural ones, or those of another build of the same network.
    Raises ``UserError``, with the reason, if it is not certain which is which.
    """
    stripped = {name[4:] if name.startswith(('arg:', 'aux:')) else name: array for name, array in arrays.items()}
    if len(stripped) < len(arrays):
        raise UserError(f'{origin}: an array is in it both as arg: and as aux:; save it again')
    own = net._collect_params_with_prefix()
    if all('.' in name or name in own for name in stripped):
        return stripped
    found, reason = _assignments(net, stripped, _places(net))
    if found and all(assignment == found[0] for assignment in found):
        return {name: stripped[theirs] for name, theirs in found[0].items()}
    if found:
        name, other = next((name, each) for each in found for name in each if each[name] != found[0][name])
        reason = f'names and order, or two orders, disagree about {name}: {found[0][name]} or {other[name]}'
    known = gluoncv_network(stripped)
    reason = printable(reason) + (f'; {known}' if known else '')
    raise UserError(
        f'{origin}: its names (such as {printable(next(iter(stripped)))}) are those of another network or program, and '
        f'which array is which is uncertain: {reason}; load a file that the network itself saved, or import it '
        'with mxnet.gluon.SymbolBlock.imports'
    )
