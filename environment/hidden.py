"""Detect files that hide one of our packages: a `model.py` or a `training/` beside the user's own script."""

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
    """Return the file that Python imports in place of our package `name`; None if it finds ours, or nothing."""
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
    """Raise `ImportError` if another file hides one of these packages, which the caller is about to import."""
    for name in names:
        place = hides(name)
        if place is not None:
            raise ImportError(_sentence(name, place), name=name, path=place)


def explained(error: ImportError) -> Optional[str]:
    """Return an import error's message with its reason, a hidden package or a missing MXNet; None for other errors."""
    name = (error.name or '').partition('.')[0]
    if name in NODEPS:
        return str(missing(name)) if error.name == name and name not in sys.modules else None
    place = hides(name) if name in PACKAGES else None
    if place is None or 'hides the package' in str(error):
        return None
    return f'{error}; {_sentence(name, place)}'
