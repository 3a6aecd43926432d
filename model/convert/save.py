"""Convert our network's parameters to a state dictionary for PyTorch."""

from __future__ import annotations

from typing import Dict

import numpy as np
from mxnet import gluon

from model.convert.tables import SOURCES, names_in, table
from model.parameters.load import value_of

__all__ = ['to_state_dict']


def to_state_dict(net: gluon.HybridBlock, target: str = 'torch') -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of all parameters and running statistics of ``net``, which must be initialised.

    If ``target`` is one of :data:`SOURCES`, names and shapes are those of that original; parameters that it declares
    but never uses are zeros, so that its strict loading succeeds. ``'torch'`` gives our structural names with PyTorch's
    parameter names (``bn1.weight`` for ``bn1.gamma``), for networks without an original. :func:`load_state_dict` reads
    both. A PyTorch module loads it after ``torch.from_numpy``; shared parameters appear once.

    Raises ``ValueError`` for an unknown target, or one that has no names for this network.
    """
    if target not in SOURCES:
        raise ValueError(f'target is {target!r}: allowed are {", ".join(map(repr, SOURCES))}')
    parameters = net._collect_params_with_prefix()
    original = table(target)
    names = names_in(target, net)
    shapes = original.shapes(net) if hasattr(original, 'shapes') else {}
    unused = original.unused(net) if hasattr(original, 'unused') else {}
    flipped = original.flipped(net) if hasattr(original, 'flipped') else ()
    copies = getattr(original, 'COPIES', False)
    state, seen = {}, set()
    for name, own in names.items():
        parameter = parameters[own]
        if id(parameter) in seen and not copies:
            continue
        seen.add(id(parameter))
        array = value_of(parameter)
        array = array[:, ::-1] if name in flipped else array
        state[name] = np.ascontiguousarray(array.reshape(shapes.get(name, array.shape)))
    state.update({name: np.zeros(shape, np.float32) for name, shape in unused.items()})
    return state
