"""Measure how much each block of a deeply connected network relies on the attention of the block before it.

Ma, Guo, Tang, Zhang, "DCANet", arXiv 2007.05099, merge the two as ``a current + b previous`` with learned scalars and
describe their balance as ``|b| / (|a| + |b|)``, which is called the share of the weight here. It ignores how large the
two are: if the previous attention hardly varies between channels, no weight gives it influence. So there is a second
figure, the share of the signal, ``|b| s(previous) / (|a| s(current) + |b| s(previous))``, where s is the standard
deviation over channels (for spatial attention over positions), on given images and with the previous attention after
its adapter.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.explain.hooks import ActivationHooks, Taps, blocks_of, hooked, replaced
from inference.explain.stages import places_in
from model.attention.dca import Merge, ScaledMerge, SpatialMapConnection, TermConnection
from model.parameters.load import value_of

__all__ = ['Reliance', 'reliance']

BATCH = 16


@dataclass(frozen=True)
class Reliance:
    """How much one unit relies on the one before it, from 0, not at all, to 1, on nothing else.

    Attributes:
        path: of the unit, ``'layer2.0.attention'``.
        place: stage and block, ``'2.0'``.
        part: which connection, if a unit has several: ``'channel'`` and ``'spatial'``, ``'branch 1'`` and so on.
        weight: share of the learned weight.
        signal: share of the signal, the mean over the images; None without images.
    """

    path: str
    place: str
    part: str
    weight: float
    signal: Optional[float] = None


class _Place(NamedTuple):
    path: str
    place: str
    part: str
    block: gluon.HybridBlock


def _places(net: gluon.Block) -> Iterator[_Place]:
    place_of = places_in(net)
    for path, block in blocks_of(net):
        if isinstance(block, (Merge, ScaledMerge, TermConnection, SpatialMapConnection)):
            unit, _, inside = path.partition('.connection')
            place, part = place_of(unit), ''
            for name in ('channel', 'spatial'):
                if place.endswith(f'.{name}'):
                    place, part = place[: -len(name) - 1], name
            branch = [name for name in inside.split('.') if name.isdigit()]
            yield _Place(unit, place, f'branch {int(branch[0]) + 1}' if branch else part, block)


def _weights(block: gluon.HybridBlock) -> Tuple[float, float]:
    """Return the absolute values of the learned factors of the current and of the previous attention."""
    if isinstance(block, Merge):
        current, previous = value_of(block.conv.weight).ravel()
    elif isinstance(block, TermConnection):
        current, previous = 1.0, value_of(block.beta).item()
    else:
        current, previous = value_of(block.p1).item(), value_of(block.p2).item()
    return abs(float(current)), abs(float(previous))


def _share(current: float, previous: float) -> float:
    return previous / (current + previous) if previous else 0.0


def _listen(place: int, block: gluon.HybridBlock, stack: ExitStack, taps: Taps) -> None:
    """Record what is merged at the place, in pairs: the current attention, and the previous one after its adapter."""

    def add(symbol: mx.sym.Symbol) -> None:
        taps.append((place, symbol))

    if isinstance(block, (Merge, ScaledMerge)):
        stack.enter_context(hooked(block, lambda inputs, _: (add(inputs[0]), add(inputs[1]))))
        return
    adapted: List[mx.sym.Symbol] = []
    if block.adapter is not None:
        stack.enter_context(hooked(block.adapter, lambda _, out: adapted.append(out)))
    elif isinstance(block, SpatialMapConnection):
        read = block.read

        def reading(F: Any, *handed_on: Any) -> Any:
            adapted.append(read(F, *handed_on))
            return adapted[-1]

        stack.enter_context(replaced(block, 'read', reading))
    stack.enter_context(hooked(block, lambda inputs, _: (add(inputs[0]), add(adapted[-1] if adapted else inputs[1]))))


def _spread(values: np.ndarray) -> np.ndarray:
    """Return (N,): the standard deviation over channels of (N, C), or over positions of (N, M, H, W), the mean of M."""
    if values.ndim == 2:
        return values.std(axis=1)
    return values.std(axis=(2, 3)).mean(axis=1)


def _signals(net: gluon.HybridBlock, places: List[_Place], images: np.ndarray) -> List[float]:
    def attach(stack: ExitStack, taps: Taps) -> None:
        for number, place in enumerate(places):
            _listen(number, place.block, stack, taps)

    hooks = ActivationHooks(net, attach)
    shares: Dict[int, List[np.ndarray]] = {number: [] for number in range(len(places))}
    for start in range(0, len(images), BATCH):
        values = hooks.read(images[start : start + BATCH])
        for number, current, previous in zip(hooks.names[::2], values[::2], values[1::2]):
            a, b = _weights(places[number].block)
            signal = b * _spread(previous)
            total = a * _spread(current) + signal
            shares[number].append(np.divide(signal, total, out=np.zeros_like(total), where=total > 0))
    return [float(np.concatenate(shares[number]).mean()) for number in range(len(places))]


def reliance(net: gluon.HybridBlock, images: Optional[np.ndarray] = None) -> List[Reliance]:
    """Return how much each unit of ``net`` relies on the one before it, in order of depth, beginning with the second.

    Args:
        net: the network.
        images: (N, 3, H, W) float32, preprocessed for the network, if the share of the signal is wanted too.

    Raises:
        ValueError: the network's units are not connected.
    """
    places = list(_places(net))
    if not places:
        raise ValueError(
            f'{type(net).__name__} has no connected units; take a network with dca_ in its name, and two blocks or more'
        )
    signals = [None] * len(places) if images is None else _signals(net, places, images)
    return [Reliance(*place[:3], _share(*_weights(place.block)), signal) for place, signal in zip(places, signals)]
