"""Operators that take turns band by band, for maps that are too large for the cache.

A 1x1 convolution, a depthwise one and another 1x1, as in inverted residuals, or two 1x1 convolutions, as in ATAC, pass
on maps that no other operator reads. As a whole such a map may have to go through memory; a band of its rows at a time
stays in the second-level cache.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from inference.engine.operators import KINDS, Map, Operator, Producer

__all__ = ['Together', 'banded', 'candidates']

BAND = 512 << 10  # bytes that a band of the maps between the operators may have
LONGEST = 4  # operators


class Together(Operator):
    """Operators in a row that take turns; see `kernels/engine/together.h`."""

    def __init__(self, parts: Sequence[Producer], ordered: bool) -> None:
        reads = [tensor for part in parts for tensor in part.tensors_read()]
        super().__init__('together', reads, [tensor for part in parts for tensor in part.writes])
        self.parts, self.ordered = list(parts), ordered

    def row(self, plan: Any, numbers_of: Any) -> List[int]:
        """Return the row of numbers, where ``numbers_of(plan, operator)`` returns that of a part."""
        row = [int(self.ordered), len(self.parts)]
        for part in self.parts:
            numbers = numbers_of(plan, part)
            row += [KINDS.index(part.kind), len(numbers), *numbers]
        return row


def candidates(operators: Sequence[Operator], lanes: int) -> List[Tuple[int, int, int]]:
    """Return the operators that may take turns: their range in ``operators``, and the number of bands."""
    found: List[Tuple[int, int, int]] = []
    k = 0
    while k < len(operators):
        end = _end(operators, k)
        bands = _bands(operators[k:end], lanes) if end - k > 1 else 0
        if bands > 1:
            found.append((k, end, bands))
            k = end
        else:
            k += 1
    return found


def _is_dense(operator: Operator) -> bool:
    if operator.kind != 'convolution':
        return False
    detail = operator.detail
    return detail['weight'].shape[2:] == (1, 1) and detail['stride'] == detail['groups'] == 1 and not any(detail['pad'])


def _end(operators: Sequence[Operator], begin: int) -> int:
    """Return the end of the group of operators that takes turns with the one at ``begin``.

    A group is a depthwise convolution with the 1x1 ones before and behind it, or several 1x1 convolutions.
    """
    length = 1
    while length < LONGEST and begin + length < len(operators) and _passes(operators, begin + length - 1):
        length += 1
    row = operators[begin : begin + length]
    kinds = [operator.kind == 'depthwise' if _fits(operator) else None for operator in row]
    for pattern in ((False, True, False), (True, False)):
        if tuple(kinds[: len(pattern)]) == pattern:
            return begin + len(pattern)
    dense = next((k for k, kind in enumerate(kinds) if kind is not False), length)
    if dense < length and kinds[dense]:  # the last of them belongs to the depthwise one behind it
        dense -= 1
    return begin + max(dense, 1)


def _fits(operator: Operator) -> bool:
    """Return whether an operator can take turns: 1x1 or depthwise, with weights that fit into the cache with a band."""
    if operator.kind != 'depthwise' and not _is_dense(operator):
        return False
    whole = isinstance(operator.detail['x'], Map) and isinstance(operator.out, Map)
    return whole and 4 * operator.detail['weight'].size <= BAND


def _passes(operators: Sequence[Operator], at: int) -> bool:
    """Return whether the next operator reads what this one writes, as its map."""
    here, behind = operators[at : at + 2]
    return _fits(here) and _fits(behind) and behind.detail['x'].tensor is here.out.tensor


def _bands(operators: Sequence[Producer], lanes: int) -> int:
    """Return how many bands keep the maps in between in the cache."""
    between = sum(4 * operator.out.tensor.size for operator in operators[:-1])
    last = operators[-1].out
    least = 4 * lanes  # positions of a band, below which tiles are small
    most = min(last.height, last.positions // least) if _depthwise(operators) else last.positions // least
    return min(-(-between // BAND), most)


def _depthwise(operators: Sequence[Producer]) -> Optional[Producer]:
    return next((operator for operator in operators if operator.kind == 'depthwise'), None)


def banded(operators: Sequence[Operator], chosen: Sequence[bool], lanes: int, ordered: bool) -> List[Operator]:
    """Let the ``chosen`` ones of `candidates` take turns; with a depthwise convolution among them only if ``ordered``.

    Ordered operators are a single unit of work, so that threads cannot share an image.
    """
    result: List[Operator] = []
    at = 0
    for (begin, end, bands), yes in zip(candidates(operators, lanes), chosen):
        parts = operators[begin:end]
        depthwise = _depthwise(parts)
        if not yes or (depthwise is not None and not ordered):
            continue
        for part in parts:
            part.parts, part.panel_parts = bands, 1
        if depthwise is not None:
            _pace(parts, depthwise)
        result += [*operators[at:begin], Together(parts, depthwise is not None)]
        at = end
    return [*result, *operators[at:]]


def _pace(parts: Sequence[Producer], depthwise: Producer) -> None:
    """Let each part proceed as far as the next one reads."""
    detail: Dict[str, Any] = depthwise.detail
    x, out = detail['x'], depthwise.out
    assert isinstance(x, Map)
    reach = (detail['weight'].shape[2] - 1) * detail['dilation'] + 1 - detail['pad'][0]
    detail['whole'] = True
    before = True
    for part in parts:
        if part is depthwise:
            before = False
        else:
            part.detail['pace'] = (out.height, detail['stride'], reach) if before else (out.height, 1, 1)
