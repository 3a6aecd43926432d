"""Read what every attention unit of a network computes for an image: gates, weights and masks, in order.

| unit | name | shape | range |
| --- | --- | --- | --- |
| SE, GE, ECA, CBAM's channel attention | gate | (N, C) | 0 to 1 |
| CBAM's spatial attention | gate | (N, 1, H, W) | 0 to 1 |
| SGE | gate | (N, groups, H, W) | 0 to 1 |
| SimAM, coordinate attention, triplet attention (the mean of its three) | gate | (N, C, H, W) | 0 to 1 |
| BAM | gate | (N, C, H, W) | 0 to 1: features are multiplied by 1 + gate |
| AFF, iAFF | gate | (N, C, H, W) | 0 to 1: the shortcut's share, 1 less it the branch's |
| iAFF | first gate | (N, C, H, W) | the same in the sum that the gate is computed from |
| SK | branch 1, branch 2 | (N, C) | 0 to 1, their sum 1 |
| GC | term | (N, C) | any: it is added |
| GC | positions | (N, 1, H, W) | 0 to 1, sum 1 over space: where the term's context comes from |
| DIA | hidden | (N, C) | 0 to 1, with tanh at the output -1 to 1: the gate, and the LSTM's state h |
| DIA | cell | (N, C) | any: the LSTM's state c |
| DIA of several layers | hidden k, cell k | (N, C) | the same of the layers below the last, from the first |
| ATAC and its ablations, xUnit | gate | (N, C, H, W); (N, C, 1, 1) with global context | 0 to 1 |
| Residual Attention | mask | (N, C, H, W) | 0 to 1: features are multiplied by 1 + mask, with naive learning by mask |
| Residual Attention's channel masks | mask | (N, C, H, W) | -1 to 1: the same |
| Residual Attention | level k | (N, C, h, w) | any: the mask branch k pools down, on its way up again |
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Type

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.explain.hooks import ActivationHooks, Taps, blocks_of, hooked, replaced
from inference.explain.stages import places_in
from model.activation.gate import Gate as ActivationGate
from model.attention.aff import IAFF
from model.attention.dia import DIA
from model.attention.gc import GC
from model.attention.sk import SK
from model.attention.unit import AttentionUnit
from model.backbone.attention_module import AttentionModule

__all__ = ['Gate', 'GateReader']

BATCH = 16


@dataclass(frozen=True)
class Gate:
    """An array that one unit computes for a batch of images.

    Attributes:
        path: of the unit in the network, ``'layer2.0.attention'``.
        place: the same for readers, ``'2.0'``: stage and block.
        unit: its class, ``'SE'``.
        name: which of its arrays this is, as in the module's table.
        bounded: whether it lies between 0 and 1.
        values: (N, C), or (N, maps, H, W).
    """

    path: str
    place: str
    unit: str
    name: str
    bounded: bool
    values: np.ndarray

    @property
    def by_channel(self) -> np.ndarray:
        """Return (N, C): the mean over space."""
        return self.values if self.values.ndim == 2 else self.values.mean(axis=(2, 3))

    @property
    def by_position(self) -> Optional[np.ndarray]:
        """Return (N, H, W): the mean over channels; None if the gate is the same at every position."""
        if self.values.ndim == 2 or self.values.shape[2:] == (1, 1):
            return None
        return self.values.mean(axis=1)


class _Tap(NamedTuple):
    path: str
    place: str
    unit: str
    name: str
    bounded: bool


#: ``(name, symbol, bounded)``: one array of a unit
_Add = Callable[..., None]


def _attention(unit: AttentionUnit, add: _Add, stack: ExitStack) -> None:
    own = unit.transform

    def transform(F: Any, *contexts: Any) -> Any:
        attention = own(F, *contexts)
        add('gate', attention)
        return attention

    stack.enter_context(replaced(unit, 'transform', transform))


def _selective(unit: SK, add: _Add, stack: ExitStack) -> None:
    own = unit.transform

    def transform(F: Any, *contexts: Any) -> Any:
        weights = own(F, *contexts)
        for number, weight in enumerate(weights, 1):
            add(f'branch {number}', weight)
        return weights

    stack.enter_context(replaced(unit, 'transform', transform))


def _context(unit: GC, add: _Add, stack: ExitStack) -> None:
    own = unit.transform

    def transform(F: Any, *contexts: Any) -> Any:
        term = own(F, *contexts)
        add('term', term, False)
        return term

    def positions(_: Any, logits: mx.sym.Symbol) -> None:
        weights = mx.sym.softmax(mx.sym.reshape(logits, (0, 1, -1)), axis=-1)
        add('positions', mx.sym.reshape_like(weights, logits))

    stack.enter_context(replaced(unit, 'transform', transform))
    stack.enter_context(hooked(unit.mask, positions))


def _iterative(unit: IAFF, add: _Add, stack: ExitStack) -> None:
    stack.enter_context(hooked(unit.first, lambda _, gate: add('first gate', gate)))
    _attention(unit, add, stack)


def _recurrent(unit: DIA, add: _Add, stack: ExitStack) -> None:
    def states(_: Any, outputs: Any) -> None:
        for layer in range(1, unit.cell.layers + 1):
            number = '' if layer == unit.cell.layers else f' {layer}'
            add(f'hidden{number}', outputs[2 * layer - 1], unit.cell.output == 'sigmoid')
            add(f'cell{number}', outputs[2 * layer], False)

    stack.enter_context(hooked(unit, states))


def _activation(unit: ActivationGate, add: _Add, stack: ExitStack) -> None:
    def gate(_: Any, logits: mx.sym.Symbol) -> None:
        add('gate', mx.sym.Activation(logits, act_type='sigmoid'))

    stack.enter_context(hooked(unit.module, gate))


def _masks(module: AttentionModule, add: _Add, stack: ExitStack) -> None:
    def listen(block: gluon.Block, name: str, bounded: bool) -> None:
        stack.enter_context(hooked(block, lambda _, out: add(name, out, bounded)))

    listen(module.mask.bottom, f'level {module.levels}', False)
    for level, block in enumerate(module.mask.up, 1):
        listen(block, f'level {level}', False)
    listen(module.mask, 'mask', module.mask.activation.bounded)


# The first that fits is used.
_LISTENERS: Dict[Type[gluon.Block], Callable[[Any, _Add, ExitStack], None]] = {
    SK: _selective,
    GC: _context,
    IAFF: _iterative,
    AttentionUnit: _attention,
    DIA: _recurrent,
    ActivationGate: _activation,
    AttentionModule: _masks,
}


class _Heard(NamedTuple):
    block: gluon.Block
    listen: Callable[[Any, _Add, ExitStack], None]
    paths: List[str]  # its place; several if blocks share it


class GateReader:
    """A reader of the gates of all units in a network, which is left unchanged: its graph gets no further outputs.

    Args:
        net: a network with values, hybridized or not; it is traced once, here.

    Raises:
        ValueError: the network has no units.
    """

    def __init__(self, net: gluon.HybridBlock) -> None:
        units: Dict[int, _Heard] = {}
        for path, block in blocks_of(net):
            listen = next((function for kind, function in _LISTENERS.items() if isinstance(block, kind)), None)
            if listen is not None:
                units.setdefault(id(block), _Heard(block, listen, [])).paths.append(path)
        if not units:
            raise ValueError(
                f'{type(net).__name__} has no attention; take a network with one, such as cifar_se_resnet20bn_v1'
            )

        place = places_in(net)

        def attach(stack: ExitStack, taps: Taps) -> None:
            def add(heard: _Heard, name: str, symbol: mx.sym.Symbol, bounded: bool = True) -> None:
                # A shared unit is recorded once at each of its places, in order of depth.
                path = heard.paths[sum(tap.path in heard.paths and tap.name == name for tap, _ in taps)]
                taps.append((_Tap(path, place(path), type(heard.block).__name__, name, bounded), symbol))

            for heard in units.values():
                heard.listen(heard.block, partial(add, heard), stack)

        self._hooks = ActivationHooks(net, attach)

    def __call__(self, images: np.ndarray) -> List[Gate]:
        """Return the gates for ``images`` (N, 3, H, W) float32, preprocessed for the network."""
        batches = [self._hooks.read(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return [Gate(*tap, np.concatenate(values)) for tap, values in zip(self._hooks.names, zip(*batches))]
