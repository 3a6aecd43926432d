"""Count epochs and batches from 1 in all files of a run. Older files count from 0, and state no version."""

from typing import Any, Dict, Mapping

__all__ = ['VERSION', 'from_one']

VERSION = 2  # stored in each row of a history, in each event, and in the record of a checkpoint
_COUNTED = ('epoch', 'batch')


def from_one(row: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a row of a history, or an event, with epoch and batch counted from 1, and without its version."""
    if 'version' in row:
        return {name: value for name, value in row.items() if name != 'version'}
    return {name: value + 1 if name in _COUNTED else value for name, value in row.items()}
