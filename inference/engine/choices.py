"""Measured choices, kept in the user's cache, so that the fastest plan is only searched for once per machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Optional

from common.errors import UserError
from common.files import make_folder, write_json
from common.schema import read_json
from environment.cpu import processor

__all__ = ['keep', 'place_of', 'recalled']

_SWITCH = 'ATTENTION_ENGINE_CACHE'


def cache() -> Path:
    """Return the folder for this user's choices."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'attention-networks' / 'engine'


def place_of(*words: Any) -> Path:
    """Return where a choice that depends on ``words`` and on the processor is kept."""
    key = hashlib.sha256(repr((*processor(), *words)).encode()).hexdigest()[:24]
    return cache() / f'{key}.json'


def recalled(place: Path, form: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Return the choice that is kept there; None if there is none of this form."""
    if os.environ.get(_SWITCH) == '0' or not place.exists():
        return None
    try:
        return read_json(place, form)
    except (OSError, ValueError):  # measured and written again
        return None


def keep(place: Path, choice: Dict[str, Any]) -> None:
    """Keep a choice there, if possible."""
    if os.environ.get(_SWITCH) == '0':
        return
    try:
        make_folder(place.parent)
        write_json(place, choice)
    except UserError:
        pass  # only time is lost: it is measured again
