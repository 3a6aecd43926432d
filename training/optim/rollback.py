"""Keep the last few states of everything that a step changes on the devices, to undo steps that were not finite.

The device works ahead of Python, so that a loss or gradient that is not finite is only seen some steps later. Undoing
copies the state from before that step back: parameters, the optimizer's state, and running statistics, which MXNet
updates in the backward pass on a CPU and in the forward pass on a GPU.
"""

from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
from mxnet import gluon

from kernels.multi_tensor import copying
from training.optim.trainer import states_of

__all__ = ['Rollback', 'running_statistics', 'trained_arrays']

STATISTICS = ('running_mean', 'running_var')


def running_statistics(net: gluon.Block) -> List[gluon.Parameter]:
    """Return the parameters that change without a gradient."""
    return [parameter for name, parameter in net.collect_params().items() if name.endswith(STATISTICS)]


def trained_arrays(net: gluon.Block, trainer: gluon.Trainer) -> List[Any]:
    """Return all arrays that a step changes, on all devices."""
    parameters = {id(p): p for p in [*trainer._params, *running_statistics(net)]}
    return [array for p in parameters.values() for array in p.list_data()] + states_of(trainer)


class _Slots:
    """Copies of arrays of one device: `save[slot]()` takes them, `restore[slot]()` puts them back."""

    def __init__(self, arrays: Sequence[Any], slots: int) -> None:
        copies = [[mx.nd.empty(a.shape, ctx=a.context, dtype=a.dtype) for a in arrays] for _ in range(slots)]
        self.save = [copying(arrays, each) for each in copies]
        self.restore = [copying(each, arrays) for each in copies]


class Rollback:
    """`slot = save()` before a step; `restore(slot)` undoes it and all steps after it.

    The last `slots` states are kept.

    `more` are arrays that steps change besides those of network and trainer.
    """

    def __init__(self, net: gluon.Block, trainer: gluon.Trainer, slots: int, more: Sequence[Any] = ()) -> None:
        by_device: Dict[Any, List[Any]] = {}
        for array in [*trained_arrays(net, trainer), *more]:
            by_device.setdefault(array.context, []).append(array)
        self._slots = [_Slots(arrays, slots) for arrays in by_device.values()]
        self._optimizer = trainer.optimizer
        self._counts: List[Tuple[int, Dict[int, Dict[int, int]]]] = [(0, {})] * slots
        self._next = 0

    def save(self) -> int:
        """Record the state after everything that has been started; does not wait for it."""
        slot, self._next = self._next, (self._next + 1) % len(self._counts)
        for slots in self._slots:
            slots.save[slot]()
        optimizer = self._optimizer
        counts = {device: dict(each) for device, each in optimizer._all_index_update_counts.items()}
        self._counts[slot] = (optimizer.num_update, counts)
        return slot

    def restore(self, slot: int) -> None:
        for slots in self._slots:
            slots.restore[slot]()
        optimizer = self._optimizer
        optimizer.num_update, counts = self._counts[slot]
        for device, each in optimizer._all_index_update_counts.items():
            each.clear()
            each.update(counts.get(device, {}))
        self._next = slot
