"""Packages of ours that a file of the same name hides: a `model.py` or a `training/` beside the user's own script."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

from environment.health import missing
from environment.import_hook import NODEPS, PACKAGES

__all__ = ['explained', 'hides', 'need']

ROOT = Path(__file__).resolve().parent.parent


def hides(name: str) -> Optional[str]:
    """The file that Python takes for our package `name`; None if it takes ours, or finds nothing of the name."""
    module = sys.modules.get(name)
    origin = getattr(module, '__file__', None)
    if module is None:
        spec = find_spec(name)
        origin = None if spec is None else spec.origin
    if origin is None or os.path.dirname(os.path.realpath(origin)) == str(ROOT / name):
        return None
    place = os.path.realpath(origin)
    return os.path.dirname(place) if os.path.basename(place) == '__init__.py' else place


def _sentence(name: str, place: str) -> str:
    return f'{place} hides the package {name} of attention-networks ({ROOT / name}); rename that file or folder'


def need(*names: str) -> None:
    """`ImportError` if another file hides one of these packages of ours, which whoever asks is about to import."""
    for name in names:
        place = hides(name)
        if place is not None:
            raise ImportError(_sentence(name, place), name=name, path=place)


def explained(error: ImportError) -> Optional[str]:
    """What an import error says, with the reason if a file hides a package of ours or MXNet is missing; else None."""
    name = (error.name or '').partition('.')[0]
    if name in NODEPS:
        return str(missing(name)) if error.name == name and name not in sys.modules else None
    place = hides(name) if name in PACKAGES else None
    if place is None or 'hides the package' in str(error):
        return None
    return f'{error}; {_sentence(name, place)}'
