"""The names of --logger, and whether their packages are installed."""

import sys
from argparse import ArgumentTypeError
from importlib.util import find_spec
from typing import Sequence

from environment import SetupError

__all__ = ['LOGGERS', 'logger_names', 'require_loggers']

LOGGERS = ('tensorboard', 'wandb', 'mlflow')


def logger_names(text: str) -> str:
    """Return a type for argparse: names separated by commas, each once, kept as text."""
    names = list(dict.fromkeys(part.strip() for part in text.split(',') if part.strip()))
    for name in names:
        if name not in LOGGERS:
            raise ArgumentTypeError(f'{name!r} is not allowed; allowed: {", ".join(LOGGERS)}, separated by commas')
    return ','.join(names)


def require_loggers(names: Sequence[str]) -> None:
    """Raise `SetupError`, with the command that installs it, if a service's package is missing."""
    for name in names:
        if name != 'tensorboard' and find_spec(name) is None:  # event files need no package
            raise SetupError(
                f'--logger {name}: {sys.executable} has no package {name}; run: {sys.executable} -m pip install {name}'
            )
