"""Decide where in memory each tensor of a plan lies, so that tensors that live at the same time never overlap."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from inference.engine.in_place import in_place
from inference.engine.lower import Lowered
from inference.engine.operators import Operator, Tensor
from inference.engine.places import ALIGNMENT

__all__ = ['arenas']


def arenas(
    operators: Sequence[Operator], lowered: Lowered, head: int
) -> Tuple[Dict[int, Tuple[int, int]], Tuple[int, int]]:
    """Return the arena and offset of each tensor, and the sizes of both arenas.

    Arena 0 belongs to a thread: it holds the tensors that only the operators before ``head`` use. Arena 1 belongs to
    the batch and holds all others. Tensors passed from the former operators to the latter live from the beginning,
    since images cross that boundary at any time.
    """
    begin: Dict[int, int] = {id(lowered.input.tensor): -1}
    end: Dict[int, int] = {}
    tensors: Dict[int, Tensor] = {id(lowered.input.tensor): lowered.input.tensor}
    for k, operator in enumerate(operators):
        for tensor in [*operator.tensors_read(), *operator.writes]:
            tensors[id(tensor)] = tensor
            begin.setdefault(id(tensor), k)
            end[id(tensor)] = k
    end[id(lowered.output.tensor)] = len(operators) - (head == len(operators))
    end.setdefault(id(lowered.input.tensor), 0)
    arena = {key: int(end[key] >= head) for key in tensors}
    for key in tensors:
        if arena[key] and begin[key] < head:
            begin[key] = -1
    shared = {
        new: old
        for new, old in in_place(operators, [lowered.input.tensor, lowered.output.tensor]).items()
        if arena[new] == arena[old]
    }
    owner: Dict[int, int] = {}
    for key in sorted(tensors, key=begin.__getitem__):
        old = owner[key] = owner[shared[key]] if key in shared else key
        end[old] = max(end[old], end[key])
    places: Dict[int, Tuple[int, int]] = {}
    placed: Tuple[List[Tuple[int, int, int, int]], ...] = ([], [])  # offset, size, begin, end
    sizes = [0, 0]
    for key in sorted(filter(lambda key: owner[key] == key, tensors), key=lambda key: -tensors[key].size):
        size = -(-tensors[key].size // ALIGNMENT) * ALIGNMENT
        which = arena[key]
        busy = sorted((o, s) for o, s, b, e in placed[which] if b <= end[key] and begin[key] <= e)
        at = 0
        for offset, length in busy:
            if at + size <= offset:
                break
            at = max(at, offset + length)
        places[key] = which, at
        placed[which].append((at, size, begin[key], end[key]))
        sizes[which] = max(sizes[which], at + size)
    return {key: places[owner[key]] for key in tensors}, (sizes[0], sizes[1])
