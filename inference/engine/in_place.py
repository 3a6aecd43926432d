"""Find sums that may be stored in the place of what is added: the end of a residual block overwrites its shortcut.

Each number of the shortcut is read just before the result is stored at its place, so nothing is lost. The shortcut is
usually in the cache already, whereas a new place would first have to be fetched; and the plan needs less memory.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from inference.engine.operators import Map, Narrow, Operator, Producer, Tensor

__all__ = ['in_place', 'register_sum']


def in_place(operators: Sequence[Operator], kept: Sequence[Tensor]) -> Dict[int, int]:
    """Return the tensors that may take the place of others, by `id`; those of `kept` stay as they are."""
    last: Dict[int, int] = {}
    first: Dict[int, int] = {}
    for k, operator in enumerate(operators):
        for tensor in operator.tensors_read():
            last[id(tensor)] = k
        for tensor in operator.writes:
            first.setdefault(id(tensor), k)
            last[id(tensor)] = k
    untouched = {id(tensor) for tensor in kept}
    found: Dict[int, int] = {}
    for k, operator in enumerate(operators):
        pair = _pair(operator)
        if pair is None or {id(tensor) for tensor in pair} & untouched:
            continue
        old, new = map(id, pair)
        # The border of a narrow map is filled before its inside is computed.
        since = range(first[new], k)
        if last[old] == k and all(operators[j].kind == 'edge' for j in since if _touches(operators[j], pair)):
            found[new] = old
    return found


def _touches(operator: Operator, tensors: Sequence[Tensor]) -> bool:
    wanted = {id(tensor) for tensor in tensors}
    return any(id(tensor) in wanted for tensor in [*operator.tensors_read(), *operator.writes])


def register_sum(operator: Producer) -> Optional[int]:
    """Return the position of the step in a convolution's chain by which its registers add a map."""
    kinds = [step.kind for step in operator.chain[:2]]
    if kinds[:1] == ['mul_channel']:
        return 1 if kinds[1:] in (['add_map'], ['add_stored']) else None
    return 0 if kinds[:1] in (['add_map'], ['add_stored']) else None


def _pair(operator: Operator) -> Optional[Tuple[Tensor, Tensor]]:
    """Return the map that a convolution adds, and the one of the same form that it stores."""
    if operator.kind not in ('convolution', 'winograd', 'narrow_convolution'):
        return None
    assert isinstance(operator, Producer)
    place = register_sum(operator)
    if place is None:
        return None
    added = operator.chain[place].operand
    made = _stored(operator, added)
    used: List[Tensor] = [*operator.reads]
    used += [step.operand.tensor for step in operator.chain[place + 1 :] if hasattr(step.operand, 'tensor')]
    if made is None or made is added.tensor or [tensor for tensor in used if tensor is added.tensor]:
        return None
    return added.tensor, made


def _stored(operator: Producer, added: object) -> Optional[Tensor]:
    if isinstance(added, Map):
        same = isinstance(operator.out, Map) and operator.out.shape == added.shape
        return operator.out.tensor if same and operator.stores else None
    assert isinstance(added, Narrow)
    form = [added.precision, added.pitch, added.height, added.width, added.border]
    for step in operator.chain:
        one = step.operand
        if step.kind == 'store' and [one.precision, one.pitch, one.height, one.width, one.border] == form:
            return one.tensor
    return None
