"""Join operators, so that maps are passed over as rarely as possible.

Elementwise operators after a convolution become steps of its chain; pooling becomes sums that the convolution takes as
it writes; a sum of two branches moves into the convolution at the end of one of them. Finally `order` sorts the
operators.
"""

from __future__ import annotations

import heapq
from typing import Any, Dict, List, Optional, Set

import numpy as np

from inference.engine.lower import Lowered
from inference.engine.operators import Map, Operator, Producer, Step, Tensor, View

__all__ = ['Uses', 'fuse', 'order']

_MAPS = ('add_map', 'mul_map')


class Uses:
    """Which operators write and read which tensor."""

    def __init__(self, operators: List[Operator]) -> None:
        self.writers: Dict[int, List[Operator]] = {}
        self.readers: Dict[int, List[Operator]] = {}
        for operator in operators:
            self.enter(operator)

    def enter(self, operator: Operator) -> None:
        for tensor in operator.writes:
            self.writers.setdefault(id(tensor), []).append(operator)
        for tensor in {id(t): t for t in operator.tensors_read()}.values():
            self.readers.setdefault(id(tensor), []).append(operator)

    def leave(self, operator: Operator) -> None:
        for tensor in operator.writes:
            self.writers[id(tensor)].remove(operator)
        for tensor in {id(t): t for t in operator.tensors_read()}.values():
            self.readers[id(tensor)].remove(operator)

    def writer(self, tensor: Tensor, but: str = '') -> Optional[Operator]:
        """Return the only operator that writes a tensor, besides those of one kind; None if there are several."""
        found = [operator for operator in self.writers.get(id(tensor), []) if operator.kind != but]
        return found[0] if len(found) == 1 else None

    def depends(self, operator: Operator, on: Operator) -> bool:
        """Return whether ``operator`` needs, directly or not, what ``on`` writes."""
        done: Set[int] = set()
        waiting = [operator]
        while waiting:
            one = waiting.pop()
            if one is on:
                return True
            if id(one) in done:
                continue
            done.add(id(one))
            for tensor in one.tensors_read():
                waiting += self.writers.get(id(tensor), [])
        return False


def fuse(lowered: Lowered) -> None:
    """Rewrite the operators of ``lowered`` in place."""
    operators, uses = lowered.operators, Uses(lowered.operators)
    kept = {id(lowered.output.tensor)}

    def drop(operator: Operator) -> None:
        uses.leave(operator)
        operators.remove(operator)

    for operator in list(operators):
        if operator.kind == 'elementwise':
            _join_branches(operator, uses, drop)
            _into_producer(operator, uses, drop, kept)
        elif operator.kind == 'plain':
            _into_dense(operator, uses, drop, kept)
    _pools(lowered, uses)


def _join_branches(operator: Producer, uses: Uses, drop: Any) -> None:
    """Join ``x * f(x)`` and ``x + f(x)`` into one chain, and PReLU's ``relu(x) - a relu(-x)`` into one step."""
    first = operator.chain[0]
    if first.kind not in _MAPS:
        return
    one, two = operator.detail, first.operand
    for x, other in ((one, two), (two, one)):
        branch = uses.writer(other.tensor)
        if (
            isinstance(branch, Producer)
            and branch.kind == 'elementwise'
            and branch.detail.tensor is x.tensor
            and uses.readers.get(id(other.tensor)) == [operator]
            and not any(step.kind == 'save' for step in branch.chain)
            and not branch.sums
        ):
            joined = 'mul_saved' if first.kind == 'mul_map' else 'add_saved'
            uses.leave(operator)
            operator.chain = [Step('save'), *branch.chain, Step(joined), *operator.chain[1:]]
            operator.detail, operator.reads = x, [x.tensor]
            uses.enter(operator)
            drop(branch)
            return
    _prelu(operator, uses, drop)


def _prelu(operator: Producer, uses: Uses, drop: Any) -> None:
    first = operator.chain[0]
    if first.kind != 'add_map':
        return
    sides = [uses.writer(operator.detail.tensor), uses.writer(first.operand.tensor)]
    if not all(isinstance(side, Producer) and side.kind == 'elementwise' for side in sides):
        return
    plus, minus = sides
    if plus.detail.tensor is not minus.detail.tensor or any(
        uses.readers.get(id(side.out.tensor)) != [operator] for side in sides
    ):
        return
    kinds = [[step.kind for step in side.chain] for side in sides]
    if kinds[0] != ['relu'] or kinds[1][:2] != ['mul_number', 'relu'] or minus.chain[0].operand != -1:
        return
    if any(kind != 'mul_number' for kind in kinds[1][2:]):
        return
    slope = -float(np.prod([step.operand for step in minus.chain[2:]]))
    x = plus.detail
    uses.leave(operator)
    operator.chain = [Step('leaky', np.full(x.channels, slope, np.float32)), *operator.chain[1:]]
    operator.detail, operator.reads = x, [x.tensor]
    uses.enter(operator)
    drop(plus)
    drop(minus)


def _into_producer(operator: Producer, uses: Uses, drop: Any, kept: Set[int]) -> None:
    """Append the chain of an elementwise operator to the producer of its map, or of the other map that it joins."""
    candidates = [(operator.detail, operator.chain)]
    first = operator.chain[0] if operator.chain else None
    if first is not None and first.kind in _MAPS:
        swapped = Step(first.kind, operator.detail)
        candidates.append((first.operand, [swapped, *operator.chain[1:]]))
    found = []
    for source, chain in candidates:
        producer = uses.writer(source.tensor)
        if not isinstance(producer, Producer) or producer.kind == 'dense' or id(source.tensor) in kept:
            continue
        if uses.readers.get(id(source.tensor)) != [operator] or producer.sums or producer.maxima:
            continue
        if source.tensor is not producer.out.tensor:
            continue
        others = [s.operand.tensor for s in chain if isinstance(s.operand, (Map, View))]
        if any(t is source.tensor for t in others):
            continue
        if any(uses.depends(w, producer) for t in others for w in uses.writers.get(id(t), [])):
            continue
        if any(s.kind == 'save' for s in chain) and any(s.kind == 'save' for s in producer.chain):
            pass  # each saved value is used before the next is saved
        found.append((producer.kind != 'elementwise', producer, chain))
    if not found:
        return
    _, producer, chain = max(found, key=lambda each: each[0])
    drop(operator)
    uses.leave(producer)
    producer.chain = [*producer.chain, *chain]
    producer.out, producer.writes = operator.out, [operator.out.tensor]
    uses.enter(producer)


def _into_dense(operator: Operator, uses: Uses, drop: Any, kept: Set[int]) -> None:
    """Make a function of a dense layer's whole output a step of the layer."""
    name, one, two, _, _, out = operator.function
    if two is not None or name not in ('relu', 'sigmoid', 'tanh') or id(one.tensor) in kept:
        return
    producer = uses.writer(one.tensor)
    if not isinstance(producer, Producer) or producer.kind != 'dense' or producer.detail['rows'] != 1:
        return
    if uses.readers.get(id(one.tensor)) != [operator] or one.offset or not one.contiguous or not out.contiguous:
        return
    if one.size != len(producer.detail['weight']) or out.tensor.size < one.tensor.size:
        return
    drop(operator)
    uses.leave(producer)
    producer.chain = [*producer.chain, Step(name)]
    producer.out, producer.writes = out, [out.tensor]
    uses.enter(producer)


def _pools(lowered: Lowered, uses: Uses) -> None:
    """Let the producers of pooled maps take their sums; other maps are read once more for them."""
    for operator in list(lowered.operators):
        pool = getattr(operator, 'pool', None)
        if pool is None:
            continue
        x, maximum, _ = pool
        producer = uses.writer(x.tensor)
        if not isinstance(producer, Producer) or producer.kind == 'dense' or producer.out.tensor is not x.tensor:
            producer = next(
                (
                    reader
                    for reader in uses.readers[id(x.tensor)]
                    if isinstance(reader, Producer) and reader.kind == 'elementwise' and not reader.stores
                ),
                None,
            )
            if producer is None:
                producer = Producer('elementwise', [x.tensor], [], out=x, detail=x, stores=False)
                lowered.operators.insert(lowered.operators.index(operator), producer)
                uses.enter(producer)
        name = 'maxima' if maximum else 'sums'
        tensor = getattr(producer, name)
        if tensor is None:
            tensor = Tensor(0)  # its size follows from the parts
            setattr(producer, name, tensor)
            uses.leave(producer)
            producer.writes = [*producer.writes, tensor]
            uses.enter(producer)
        uses.leave(operator)
        operator.reads = [tensor]
        operator.pool = (x, maximum, pool[2], producer)
        uses.enter(operator)


def order(operators: List[Operator]) -> List[Operator]:
    """Sort operators so that each comes after those that write what it reads; otherwise their order is kept."""
    place = {id(operator): k for k, operator in enumerate(operators)}
    writers: Dict[int, List[Operator]] = {}
    for operator in operators:
        for tensor in operator.writes:
            writers.setdefault(id(tensor), []).append(operator)
    needs: Dict[int, Set[int]] = {}
    followers: Dict[int, List[int]] = {}
    for k, operator in enumerate(operators):
        before = {place[id(w)] for tensor in operator.tensors_read() for w in writers.get(id(tensor), [])}
        for tensor in operator.writes:  # several may write parts of one tensor, in their order
            before |= {place[id(w)] for w in writers[id(tensor)] if place[id(w)] < k}
        before.discard(k)
        needs[k] = before
        for one in before:
            followers.setdefault(one, []).append(k)
    ready = [k for k, before in needs.items() if not before]
    heapq.heapify(ready)
    result: List[Operator] = []
    while ready:
        k = heapq.heappop(ready)
        result.append(operators[k])
        for follower in followers.get(k, ()):
            needs[follower].discard(k)
            if not needs[follower]:
                heapq.heappush(ready, follower)
    if len(result) < len(operators):
        raise AssertionError('operators need each other')
    return result
