"""What happens to an image between its file and the network's answer."""

from __future__ import annotations

from typing import Any

import environment

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')
environment.need('kernels', 'model', 'data')

__all__ = ['optimize']


def __getattr__(name: str) -> Any:
    # Preprocessing alone needs no MXNet, and is imported where there is none to wait for.
    if name == 'optimize':
        from inference.optimization.optimizer import optimize

        return optimize
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
