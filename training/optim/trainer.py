"""A `gluon.Trainer` that updates all parameters in one operator, where it can."""

import operator
from typing import Any, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels
from kernels.multi_tensor import MuonUpdate, NAGUpdate
from training.optim.muon import Muon

__all__ = ['Trainer', 'states_of']


def _flat(state: Any) -> List[Any]:
    if isinstance(state, (tuple, list)):
        return [array for part in state for array in _flat(part)]
    return [] if state is None else [state]


def states_of(trainer: gluon.Trainer) -> List[Any]:
    """Return the arrays of the optimizer's state on all devices, creating them if the first step has not done so."""
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    arrays = []
    for device, updater in enumerate(trainer._updaters):
        for index, parameter in enumerate(trainer._params):
            weight = parameter.list_data()[device]
            if index not in updater.states:
                updater.states[index] = updater.optimizer.create_state_multi_precision(index, weight)
            elif not updater.states_synced[index]:
                updater.states[index] = updater.sync_state_context(updater.states[index], weight.context)
            updater.states_synced[index] = True
            arrays += _flat(updater.states[index])
    return arrays


class _Together(NamedTuple):
    """The update of the parameters of those indices, and the objects that held their arrays when it was made."""

    update: NAGUpdate
    indices: List[int]
    holders: List[Any]


class Trainer(gluon.Trainer):
    """A `gluon.Trainer` with a faster update.

    If the `kernels` are available, NAG with momentum on the CPU in float32 is one operator for all parameters, with the
    same bits, and so is Muon, but for last bits; MXNet's own take time for each of them.
    """

    #: The squared norm (1,) of the gradients of the last step, where that was one operator, which has it for nothing.
    squared_norm: Optional[Any] = None
    _together: Optional[_Together] = None

    def _update(self, ignore_stale_grad: bool = False) -> None:
        together = None if ignore_stale_grad else self._as_one()
        # MXNet's own raises the error for a gradient that is not new.
        if together is None or not together.update.take_gradients():
            self.squared_norm = None
            super()._update(ignore_stale_grad)
            return
        optimizer, indices = self._optimizer, together.indices
        optimizer._set_current_context(0)
        optimizer._update_count(indices)
        rates, decays = optimizer._get_lrs(indices), optimizer._get_wds(indices)
        more: Tuple[float, ...] = (optimizer.scale,) if type(optimizer) is Muon else ()
        self.squared_norm = together.update(rates, decays, optimizer.momentum, optimizer.rescale_grad, *more)

    def _as_one(self) -> Optional[_Together]:
        """Return the update of all parameters if one operator can do it."""
        optimizer = self._optimizer
        if (
            not kernels.loaded()
            or type(optimizer) not in (mx.optimizer.NAG, Muon)
            or optimizer.momentum <= 0
            or optimizer.clip_gradient
            or self._update_on_kvstore
            or self._contexts != [mx.cpu()]
            or hasattr(self, '_amp_loss_scaler')
        ):
            return None
        trained = [(i, parameter) for i, parameter in enumerate(self._params) if parameter.grad_req != 'null']
        states, synced = self._updaters[0].states, self._updaters[0].states_synced
        if not all(synced.get(i) for i, _ in trained):
            states_of(self)
        holders = [part for i, parameter in trained for part in (parameter._data, parameter._grad, states[i])]
        made = self._together
        if made is None or len(made.holders) != len(holders) or not all(map(operator.is_, made.holders, holders)):
            self._together = self._made([i for i, _ in trained], holders)
        return self._together

    def _made(self, indices: List[int], holders: List[Any]) -> Optional[_Together]:
        parameters = [self._params[i] for i in indices]
        weights, gradients = [p.list_data()[0] for p in parameters], [p.list_grad()[0] for p in parameters]
        dense = all(array.dtype == np.float32 and array.stype == 'default' for array in weights + gradients)
        distinct = len(set(map(id, parameters))) == len(parameters)  # else MXNet's own raises its error
        if not (parameters and dense and distinct):
            return None
        arrays = (weights, gradients, holders[2::3])
        if type(self._optimizer) is not Muon:
            return _Together(NAGUpdate(*arrays), indices, holders)
        matrices = [index in self._optimizer.matrices for index in indices]
        sides = [min(len(one), one.size // len(one)) for one, is_matrix in zip(weights, matrices) if is_matrix]
        if max(sides, default=0) > MuonUpdate.LARGEST:
            return None
        return _Together(MuonUpdate(*arrays, matrices), indices, holders)
