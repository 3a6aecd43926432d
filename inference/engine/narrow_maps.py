"""Which other maps than those of convolutions are in bfloat16 too, so that none between two convolutions is in float32.

A map is if what writes it can store bfloat16, and everything that reads it can read that: besides convolutions these
are depthwise convolutions, chains of elementwise steps, maxima over windows and bilinear scaling. A map that a
convolution reads is so in any case, and those of its other readers that can then read it in bfloat16 too.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from inference.engine.fuse import Uses
from inference.engine.operators import Map, Narrow, Operator, Producer, Step, Tensor
from inference.engine.values import Lowered

__all__ = ['FORGETFUL', 'chains_joined', 'map_of', 'maps_in_bfloat16', 'scaled_map', 'steps_of']

#: The operators that need not store their map in float32.
FORGETFUL = ('narrow_convolution', 'narrow_depthwise', 'elementwise')
_JOINED = {'add_map': 'add_stored', 'mul_map': 'mul_stored'}


def map_of(operator: Operator) -> Tuple[Optional[Map], Optional[Map]]:
    """Return the map that an operator reads and the one it writes; None where it has none, or not as a whole."""
    if operator.kind == 'pool':
        how, x, out, _ = operator.window
        return (x, out) if how == 0 else (None, None)
    if operator.kind == 'resize':
        return operator.maps
    if not isinstance(operator, Producer) or not isinstance(operator.out, Map):
        return None, None
    x = operator.detail if operator.kind == 'elementwise' else operator.detail['x']
    return (x if isinstance(x, Map) else None), operator.out


def maps_in_bfloat16(lowered: Lowered, is_narrow: Callable[[Operator], bool]) -> Dict[int, Map]:
    """Return these maps, by the `id` of their tensors; ``is_narrow`` says which convolutions read bfloat16."""
    writers: Dict[int, List[Operator]] = {}
    readers: Dict[int, List[Operator]] = {}
    for operator in lowered.operators:
        for tensor in operator.writes:
            writers.setdefault(id(tensor), []).append(operator)
        for tensor in operator.tensors_read():
            readers.setdefault(id(tensor), []).append(operator)
    found = {id(made.tensor): made for made in (map_of(one)[1] for one in lowered.operators) if made is not None}
    found.pop(id(lowered.output.tensor), None)

    def reads(operator: Operator, tensor: Tensor) -> bool:
        x, out = map_of(operator)
        if x is not None and x.tensor is tensor:
            if _scales(operator):
                return id(out.tensor) in found
            return operator.kind in ('depthwise', 'elementwise') or is_narrow(operator)
        return any(step.operand.tensor is tensor for step in _joins(operator))

    def stays(one: Map) -> bool:
        users, makers = (uses.get(id(one.tensor), []) for uses in (readers, writers))
        if not users or len(makers) != 1:
            return False
        x, out = map_of(makers[0])
        if out is None or out.tensor is not one.tensor or (_scales(makers[0]) and id(x.tensor) not in found):
            return False
        needed = any(is_narrow(user) and user.detail['x'].tensor is one.tensor for user in users)
        return needed or all(reads(user, one.tensor) for user in users)

    while True:
        kept = {key: one for key, one in found.items() if stays(one)}
        if len(kept) == len(found):
            return kept
        found = kept


def _scales(operator: Operator) -> bool:
    return operator.kind in ('pool', 'resize')


def _joins(operator: Operator) -> Iterator[Step]:
    return (step for step in getattr(operator, 'chain', ()) if step.kind in _JOINED)


def steps_of(chain: List[Step], made: Dict[int, Narrow]) -> List[Step]:
    """Return a chain that adds narrow forms of maps, where there are such, and multiplies with those in bfloat16."""

    def narrow(step: Step) -> Step:
        one = made.get(id(step.operand.tensor)) if step.kind in _JOINED else None
        exact = step.kind == 'add_map' or (one is not None and one.precision == 'bfloat16')
        return step if one is None or not exact else Step(_JOINED[step.kind], one)

    return [narrow(step) for step in chain]


def scaled_map(operator: Operator, x: Narrow, out: Narrow, numbers_of: Callable[[Any, Narrow], List[int]]) -> Operator:
    """Return a maximum over windows, or a bilinear scaling, of narrow maps."""
    window = list(operator.window[3]) if operator.kind == 'pool' else []

    def numbers(plan: Any) -> List[int]:
        return [*window, *numbers_of(plan, x), *numbers_of(plan, out)]

    kind = 'narrow_pool' if operator.kind == 'pool' else 'narrow_resize'
    return Operator(kind, [x.tensor], [out.tensor], numbers)


def chains_joined(lowered: Lowered, made: Dict[int, Narrow]) -> None:
    """Append each chain that begins with a narrow map to what writes that map, while its numbers are in registers.

    In float32 that is only possible for maps without other readers; here the narrow form has been stored on the way.
    """
    for one in [operator for operator in lowered.operators if operator.kind == 'elementwise']:
        first = one.chain[0] if one.chain else None
        if first is None or first.kind != 'add_stored' or one.reads:
            continue
        uses = Uses(lowered.operators)
        maker = uses.writer(first.operand.tensor, but='edge')
        if not isinstance(maker, Producer) or maker.kind not in FORGETFUL or maker.sums or maker.maxima:
            continue
        # Its last numbers are those of the narrow map, and nothing reads them in float32.
        if made.get(id(maker.out.tensor)) is not first.operand or id(maker.out.tensor) in uses.readers:
            continue
        operands = [step.operand for step in one.chain[1:] if step.kind != 'store']
        others = [operand.tensor for operand in operands if hasattr(operand, 'tensor')]
        if any(uses.depends(writer, maker) for tensor in others for writer in uses.writers.get(id(tensor), [])):
            continue
        lowered.operators.remove(one)
        maker.chain = [*maker.chain, *one.chain[1:]]
        maker.writes = [tensor for tensor in maker.writes if tensor is not maker.out.tensor] + one.writes
        maker.out, maker.stores, maker.sums, maker.maxima = one.out, one.stores, one.sums, one.maxima
        for operator in lowered.operators:
            pool = getattr(operator, 'pool', None)
            if pool is not None and pool[3] is one:
                operator.pool = (*pool[:3], maker)
