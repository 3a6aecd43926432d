"""Make the table and the weights that `kernels/engine` runs from operators and the places of their tensors."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from inference.engine.arenas import arenas
from inference.engine.fuse import fuse
from inference.engine.lower import Lowered
from inference.engine.methods import Settings, arranged
from inference.engine.operators import KINDS, Operator
from inference.engine.places import Places, aligned
from inference.engine.rows import row

__all__ = ['Outline', 'Plan', 'make_outline', 'make_plan']

VERSION = 3


class Plan(Places):
    """``table`` (int64) and ``weights`` (float32) for `engine_open`."""

    def __init__(self, operators: List[Operator], lowered: Lowered, settings: Settings, packed: Dict[Any, Any]) -> None:
        super().__init__(lowered.lanes, packed)
        self.settings, self.operators = settings, operators
        for operator in operators:
            for tensor in [*operator.tensors_read(), *operator.writes]:
                self.enter(tensor)
        self.enter(lowered.input.tensor)
        self.enter(lowered.output.tensor)
        head = len(operators) if settings.by_image else min(settings.head, len(operators))
        places, sizes = arenas(operators, lowered, head)
        rows: List[int] = []
        for operator in operators:
            numbers = row(self, operator)
            rows += [KINDS.index(operator.kind), len(numbers), *numbers]
        output = lowered.output
        header = [
            VERSION, self.lanes, len(self._tensors), len(operators), *sizes, head, settings.batch,
            self.tensor(lowered.input.tensor), lowered.input.size,
            self.tensor(output.tensor), output.size,
        ]  # fmt: skip
        tensors = [n for tensor in self._tensors for n in (*places[id(tensor)], tensor.size)]
        self.table = np.array([*header, *tensors, *rows], np.int64)
        self.weights_array = aligned(self._weights, self._count)
        self.memory = sum(sizes) * 4


class Outline(Plan):
    """A plan without its weights, which take most of the time to make: what it computes, but not with which numbers."""

    def packed(self, function: Any, weight: np.ndarray, *arguments: Any) -> int:
        return 0

    def weights(self, array: np.ndarray) -> int:
        return 0


def make_plan(lowered: Lowered, settings: Settings, packed: Optional[Dict[Any, Any]] = None) -> Plan:
    """Fuse and place; ``lowered`` is used up. ``packed`` keeps weights in the kernels' order for the next plan."""
    return Plan(_ready(lowered, settings), lowered, settings, {} if packed is None else packed)


def make_outline(lowered: Lowered, settings: Settings) -> Outline:
    """Return what `make_plan` would, without weights; ``lowered`` is used up."""
    return Outline(_ready(lowered, settings), lowered, settings, {})


def _ready(lowered: Lowered, settings: Settings) -> List[Operator]:
    fuse(lowered)
    for rewrite in lowered.rewrites:
        rewrite(lowered)
    return arranged(lowered, settings)
