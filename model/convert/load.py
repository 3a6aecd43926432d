"""Load a state dictionary of an original network into ours."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from mxnet import gluon

from common.text import printable
from environment import UserError
from model.convert.tables import names_in, table
from model.parameters.file_format import check_finite
from model.parameters.gluoncv_names import gluoncv_network
from model.parameters.load import set_params

__all__ = ['StateError', 'load_state_dict', 'plain_state']

SHOWN = 5  # names of a kind in a message

# What wrappers put before every name: data-parallel ones 'module.', DCANet's half precision one '1.'.
PREFIXES = ('', 'module.', 'module.1.', '1.', 'module.module.')

# Under which of a whole checkpoint's keys the state dictionary is, the likeliest first.
KEYS = ('state_dict', 'model_state_dict', 'model', 'net', 'network')
_DEEPEST = 3  # one within the other; in a damaged file a table may hold itself


class StateError(UserError):
    """The state is not that of the network.

    ``missing`` and ``extra`` are the original's names, ``wrong`` has ``(name, shape there, shape here)``.
    """

    def __init__(
        self,
        origin: str,
        advice: str,
        missing: Sequence[str] = (),
        extra: Sequence[str] = (),
        wrong: Sequence[Tuple[str, Tuple[int, ...], Tuple[int, ...]]] = (),
    ) -> None:
        self.missing, self.extra, self.wrong = list(missing), list(extra), list(wrong)
        shapes = [f'{name} {there} where {here} is due' for name, there, here in self.wrong]
        kinds = (('missing', self.missing), ('extra', self.extra), ('of another shape', shapes))
        parts = [f'{len(items)} {kind} ({_brief(items)})' for kind, items in kinds if items]
        super().__init__(f'{origin}: not the parameters of this network: {"; ".join(parts)}; {advice}')


def _brief(items: Sequence[str]) -> str:
    more = f' and {len(items) - SHOWN} more' if len(items) > SHOWN else ''
    return printable(', '.join(items[:SHOWN])) + more


def _array(name: str, value: Any, origin: str) -> np.ndarray:
    if hasattr(value, 'detach'):  # a tensor of PyTorch
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype).startswith(('torch.bfloat', 'torch.float8')) else value).numpy()
    elif hasattr(value, 'asnumpy'):
        value = value.asnumpy()
    if not isinstance(value, (np.ndarray, np.generic, int, float)) or np.asarray(value).dtype.kind not in 'fiub':
        kind = f'an array of {value.dtype}' if isinstance(value, np.ndarray) else f'a {type(value).__name__}'
        raise UserError(f'{origin}: {name} is not an array of numbers but {kind}; give a state dictionary')
    return np.asarray(value)


def plain_state(state: Mapping[str, Any], origin: str = 'the state') -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` from what a checkpoint holds.

    Takes the dictionary under ``state_dict`` (or another of :data:`KEYS`) out of a whole checkpoint, turns tensors into
    arrays, and leaves out ``num_batches_tracked``, which counts batches and changes nothing. Raises ``UserError`` if it
    is not a state.
    """
    for _ in range(_DEEPEST):
        keys = [key for key in KEYS if isinstance(state, Mapping) and isinstance(state.get(key), Mapping)]
        state = state[keys[0]] if keys else state
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UserError(f'{origin}: holds a {type(state).__name__} and no state dictionary; give a file with one')
    kept = {name: value for name, value in state.items() if not name.endswith('num_batches_tracked')}
    if not kept:
        raise UserError(f'{origin}: holds no parameters; give a file with a state dictionary')
    return {name: _array(name, value, origin) for name, value in kept.items()}


def _strip(state: Dict[str, np.ndarray], known: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """Take off the wrapper's prefix: the one behind which most names are known."""

    def hits(prefix: str) -> int:
        return sum(name.startswith(prefix) and name[len(prefix) :] in known for name in state)

    prefix = max(PREFIXES, key=hits)
    stripped = {name[len(prefix) :] if name.startswith(prefix) else name: array for name, array in state.items()}
    return stripped if len(stripped) == len(state) else state


def _fits(there: Tuple[int, ...], here: Tuple[int, ...]) -> bool:
    """Return whether shapes differ by extents of 1 at most, as a 1x1 convolution's and a dense layer's do."""
    return [extent for extent in there if extent != 1] == [extent for extent in here if extent != 1]


def load_state_dict(
    net: gluon.HybridBlock,
    state: Mapping[str, Any],
    source: str,
    ctx: Any = None,
    origin: Optional[str] = None,
) -> List[str]:
    """Give ``net`` the parameters of an original network, and return the names that were dropped.

    Arrays are converted to the network's precision. If this raises, the network is unchanged.

    Args:
        net: the network, initialised or not; its options must be the original's (``mask_additions``, ``adapter``, ...).
        state: ``{original name: array}``, with arrays or tensors, or a checkpoint with that under ``state_dict``. Names
            may carry a wrapper's ``module.`` or ``module.1.``. What the original declares but never uses is dropped.
        source: ``'open-atac'``, ``'dianet'``, ``'dcanet'`` or ``'residual-attention'``; ``'torch'`` for what
            :func:`to_state_dict` gives by default.
        ctx: device or devices (default: those of the network, else the current one).
        origin: what messages begin with, such as the file's name.

    Raises:
        ValueError: the source is unknown, or the original has no names for the network.
        StateError: arrays are missing, extra or of another shape; the message names them.
    """
    original = table(source)
    names = names_in(source, net)
    unused = original.unused(net) if hasattr(original, 'unused') else {}
    flipped = original.flipped(net) if hasattr(original, 'flipped') else ()
    origin = origin or f'the state from {source}'
    arrays = _strip(plain_state(state, origin), {**names, **unused})
    if hasattr(original, 'structural') and not any(name in names for name in arrays):
        arrays = original.structural(net, arrays, origin)

    parameters = net._collect_params_with_prefix()
    # Of copies of what blocks share the last one counts, as in PyTorch.
    first: Dict[int, str] = {}
    names = {name: first.setdefault(id(parameters[own]), own) for name, own in names.items()}
    missing: List[str] = [name for name in names if name not in arrays]
    extra = [name for name in arrays if name not in names and name not in unused]
    ours, wrong = {}, []
    for name, own in names.items():
        if name not in arrays:
            continue
        there, here = tuple(arrays[name].shape), tuple(parameters[own].shape)
        if _fits(there, here):
            array = arrays[name].reshape(here)
            ours[own] = array[:, ::-1] if name in flipped else array
        else:
            wrong.append((name, there, here))
    if missing or extra or wrong:
        advice = (
            'build the network with the options (classes, reduction, ...) that they were saved with'
            if not missing and not extra
            else 'build the network that they were saved from'
        )
        raise StateError(origin, gluoncv_network(arrays) or advice, missing, extra, wrong)
    check_finite({name: arrays[name] for name in names}, origin)  # as the original names it
    set_params(net, ours, origin, ctx)
    return [name for name in arrays if name in unused]
