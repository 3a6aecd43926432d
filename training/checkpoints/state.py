"""The state of a Gluon network and its trainer as plain arrays and numbers, bit for bit and without pickle.

`Trainer.save_states` pickles the optimizer, names parameters by their number, and loses how often each has been
updated. Here everything is keyed by the structural names of the network (`stage1.0.conv.weight`), as in
`Block.save_parameters`, so it fits every object built by the same code.
"""

from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from common.schema import TABLE
from environment import UserError
from training.checkpoints.checkpoint import require_schema
from training.optim.layout import restore_plain_layout

__all__ = ['ARRAYS', 'LEARNER', 'OPTIMIZERS', 'capture', 'restore']

# Optimizers whose whole memory is the state of each parameter and the number of its updates. The others keep
# more in attributes of their own (the schedule of Nadam, the gradients LBSGD has collected).
OPTIMIZERS = (
    'SGD',
    'NAG',
    'Signum',
    'Adam',
    'Adamax',
    'AdaGrad',
    'AdaDelta',
    'RMSProp',
    'Ftrl',
    'FTML',
    'LAMB',
    'Muon',
    'AdamW',
    'TimmLamb',
)

# What `capture` returns, as a schema.
ARRAYS = {...: np.ndarray}
LEARNER = {
    'parameters': ARRAYS,
    'device_copies': {...: [np.ndarray]},
    'optimizer': {
        'name': str,
        'num_update': int,
        'begin_num_update': int,
        'update_counts': {...: int},
        'states': TABLE,
    },
    ...: object,
}

_ADVICE = 'start with the flags of the run that wrote it (its settings.yaml)'


def _names(net: gluon.Block) -> Dict[gluon.Parameter, str]:
    """Return every parameter with its structural name; a shared one has its first name."""
    names: Dict[gluon.Parameter, str] = {}
    for name, parameter in net._collect_params_with_prefix().items():
        names.setdefault(parameter, name)
    return names


def _trained(net: gluon.Block, trainer: gluon.Trainer) -> List[str]:
    """Return the name of each of the trainer's parameters, in the trainer's order."""
    names = _names(net)
    trained = []
    for parameter in trainer._params:
        if parameter not in names:
            raise ValueError(f'the trainer updates {parameter.name}, which is not a parameter of the network')
        if names[parameter] in trained:
            raise ValueError(f'the trainer has {names[parameter]} twice, and would update it twice in each step')
        trained.append(names[parameter])
    return trained


def _check_trainer(trainer: gluon.Trainer) -> None:
    kind = type(trainer.optimizer).__name__
    if kind not in OPTIMIZERS:
        raise ValueError(f'the state of the optimizer {kind} cannot be saved; allowed: {", ".join(OPTIMIZERS)}')
    if hasattr(trainer, '_amp_loss_scaler'):
        raise ValueError('the state of a dynamic loss scale cannot be saved')
    store = trainer._kvstore_params['kvstore']
    on_store = trainer._kvstore_params['update_on_kvstore'] is not False
    if on_store and 'dist' in str(getattr(store, 'type', store)):
        raise ValueError('the optimizer runs on parameter servers; give the trainer update_on_kvstore=False')


def _updaters(trainer: gluon.Trainer) -> List[Any]:
    """Return the updaters that hold the optimizer's states: the key-value store's, or one for each device."""
    return [trainer._kvstore._updater] if trainer._update_on_kvstore else trainer._updaters


def _to_arrays(state: Any) -> Any:
    """Return an optimizer's state of one parameter: None, an array, or a sequence of such, with NumPy's arrays."""
    if isinstance(state, (tuple, list)):
        return [_to_arrays(part) for part in state]
    return None if state is None else state.asnumpy()


def capture(net: gluon.Block, trainer: gluon.Trainer) -> Dict[str, Any]:
    """Return parameters with running statistics, and the optimizer's state, as a tree for `write_checkpoint`.

    If the devices differ in a parameter (running statistics do), all copies are kept. Learning rate, weight decay and
    other settings are not included. Raises `ValueError` for a trainer whose state cannot be read, and for a network
    that has not seen its first batch and does not know its shapes.
    """
    _check_trainer(trainer)
    trained = _trained(net, trainer)
    mx.nd.waitall()  # a forward pass may still change the layout of weights: see `model.parameters.load.value_of`
    parameters, copies = {}, {}
    for parameter, name in _names(net).items():
        if parameter._data is None:
            raise ValueError(f'parameter {name} has no values yet; run the network once before its state is saved')
        first, *others = [array.asnumpy() for array in parameter.list_data()]
        parameters[name] = first
        if any(other.tobytes() != first.tobytes() for other in others):
            copies[name] = others
    optimizer = trainer.optimizer
    counts: Dict[str, int] = {}
    for device in optimizer._all_index_update_counts.values():
        for index, count in device.items():
            counts[trained[index]] = max(count, counts.get(trained[index], 0))
    return {
        'parameters': parameters,
        'device_copies': copies,
        'optimizer': {
            'name': type(optimizer).__name__,
            'num_update': optimizer.num_update,
            'begin_num_update': optimizer.begin_num_update,
            'update_counts': counts,
            # Every device does the same updates, so one speaks for all.
            'states': {trained[i]: _to_arrays(state) for i, state in _updaters(trainer)[0].states.items()},
        },
    }


def _fits(shape: Optional[Tuple[int, ...]], array: np.ndarray) -> bool:
    """Return whether `array` fits a parameter's shape; 0 and -1 are lengths unknown before the first batch."""
    if shape is None:
        return True
    return len(shape) == array.ndim and all(want in (-1, 0, have) for want, have in zip(shape, array.shape))


def _check_parameters(names: Dict[gluon.Parameter, str], saved: Dict[str, np.ndarray], source: str) -> None:
    for parameter, name in names.items():
        shape = parameter.shape
        if name not in saved:
            raise UserError(
                f'{source} belongs to another network: it lacks parameter {name} of shape {shape}; {_ADVICE}'
            )
        array = saved[name]
        if not _fits(shape, array):
            raise UserError(
                f'{source} belongs to another network: parameter {name} has shape {array.shape} in it '
                f'and {shape} here; {_ADVICE}'
            )
        if np.dtype(parameter.dtype) != array.dtype:
            raise UserError(
                f'{source} was trained in another precision: parameter {name} is {array.dtype} in it and '
                f'{np.dtype(parameter.dtype)} here; {_ADVICE}'
            )
    extra = [name for name in saved if name not in names.values()]
    if extra:
        parameter = f'parameter {extra[0]} of shape {saved[extra[0]].shape}'
        raise UserError(f'{source} belongs to another network: there is no {parameter} here; {_ADVICE}')


def _filled(template: Any, saved: Any, where: str) -> Any:
    """Return `template`, a new state of an optimizer, with the values of `saved`.

    Raises `UserError` if their forms differ.
    """
    if isinstance(template, (tuple, list)) and isinstance(saved, list) and len(template) == len(saved):
        return type(template)(_filled(part, value, where) for part, value in zip(template, saved))
    if template is None and saved is None:
        return None
    if isinstance(template, mx.nd.NDArray) and isinstance(saved, np.ndarray):
        if template.shape == saved.shape and np.dtype(template.dtype) == saved.dtype:
            template[:] = saved
            return template
    raise UserError(f'{where} has another structure than here; {_ADVICE}')


def _optimizer_states(
    trainer: gluon.Trainer,
    indices: Dict[str, int],
    saved: Dict[str, np.ndarray],
    section: Dict[str, Any],
    source: str,
) -> Dict[int, Any]:
    """Return the optimizer's states by the trainer's numbers, in new arrays on the CPU."""
    optimizer = trainer.optimizer
    kind = type(optimizer).__name__
    if section['name'] != kind:
        raise UserError(
            f'{source} was trained with the optimizer {section["name"]} and this run uses {kind}; {_ADVICE}'
        )
    states = {}
    for name, state in section['states'].items():
        if name not in indices:
            raise UserError(f'{source} trained parameter {name}, and this run does not; {_ADVICE}')
        weight = mx.nd.array(saved[name], dtype=saved[name].dtype)
        template = optimizer.create_state_multi_precision(indices[name], weight)
        where = f'the {kind} state of parameter {name} in {source}'
        states[indices[name]] = _filled(template, state, where)
    return states


def _copy(state: Any) -> Any:
    if isinstance(state, (tuple, list)):
        return type(state)(_copy(part) for part in state)
    return None if state is None else state.copy()


def _set_parameter(parameter: gluon.Parameter, first: np.ndarray, others: List[np.ndarray]) -> None:
    parameter._load_init(mx.nd.array(first, dtype=first.dtype), None)  # also where initialisation is deferred
    arrays = parameter.list_data()
    if len(arrays) == 1 + len(others):
        for array, values in zip(arrays[1:], others):
            array[:] = mx.nd.array(values, dtype=values.dtype)


def _set_optimizer(trainer: gluon.Trainer, trained: List[str], states: Dict[int, Any], section: Dict[str, Any]) -> None:
    if not trainer._kv_initialized:  # never, or no more since its parameters have been set
        trainer._init_kvstore()
    for updater in _updaters(trainer):
        # Not shared, as updates are made in place; the updater moves them to its device.
        updater.states = {index: _copy(state) for index, state in states.items()}
        updater.states_synced = dict.fromkeys(states, False)
    optimizer = trainer.optimizer
    counts = {i: section['update_counts'][name] for i, name in enumerate(trained) if name in section['update_counts']}
    devices = {0, *(context.device_id for context in trainer._contexts)}
    optimizer._all_index_update_counts = {device: dict(counts) for device in devices}
    optimizer._index_update_count = optimizer._all_index_update_counts[0]
    optimizer.num_update = section['num_update']
    optimizer.begin_num_update = section['begin_num_update']


def restore(net: gluon.Block, trainer: gluon.Trainer, tree: Dict[str, Any], source: str = 'the checkpoint') -> None:
    """Give `net` and `trainer` the state that `capture` returned: training continues with the same bits.

    Everything is checked before anything is changed. With another number of devices, each gets the parameters of the
    first. Raises `UserError` naming `source`, the first parameter that differs, and its shapes, if the state belongs to
    another network, optimizer or precision; `ValueError` as `capture` does.
    """
    _check_trainer(trainer)
    names, trained = _names(net), _trained(net, trainer)
    require_schema(tree, LEARNER, source)
    parameters, copies, section = tree['parameters'], tree['device_copies'], tree['optimizer']
    _check_parameters(names, parameters, source)
    for name, others in copies.items():
        if name not in parameters or any(other.shape != parameters[name].shape for other in others):
            raise UserError(f'{source} belongs to another network: its copies of {name} have another shape; {_ADVICE}')
    indices = {name: index for index, name in enumerate(trained)}
    states = _optimizer_states(trainer, indices, parameters, section, source)

    restore_plain_layout(net)  # it may have been used for inference, and copying keeps the layout
    for parameter, name in names.items():
        _set_parameter(parameter, parameters[name], copies.get(name, []))
    _set_optimizer(trainer, trained, states, section)
