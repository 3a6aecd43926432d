"""Everything between an image file and the network's answer."""

from __future__ import annotations

import importlib
from typing import Any, List

import environment

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')
environment.need('kernels', 'model', 'data')

__all__ = ['Predictor', 'optimize']

# Imported on demand, because preprocessing alone does not need MXNet.
_PLACES = {'Predictor': 'inference.predictor', 'optimize': 'inference.optimization.optimizer'}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
