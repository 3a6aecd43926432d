"""The machine-readable log: one JSON object per line, with the kind of event and the number of steps before it."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

from common.files import atomic_write, explained
from common.schema import parse_json
from environment import UserError
from training.checkpoints.epochs import VERSION, from_one
from training.logging.text_log import append_line

__all__ = ['EventLog', 'read_events']


_EVENT = {'event': str, 'step': int, 'epoch?': int, 'batch?': int, ...: object}


def read_events(path: Path) -> List[Dict[str, Any]]:
    """Return the events of a file, with epochs counted from 1; a last line that a kill cut off is ignored.

    Raises `UserError` if the file is damaged.
    """
    events, damaged = _read(path)
    if damaged:
        raise UserError(f'{path} is damaged: {damaged} lines of it are not events; remove it, it is not needed')
    return [from_one(event) for event, _ in events]


def _read(path: Path) -> Tuple[List[Tuple[Dict[str, Any], bytes]], int]:
    """Return the events of a file, each with its line, and the number of invalid lines."""
    if not path.exists():
        return [], 0
    with explained('read', path):
        lines = path.read_bytes().split(b'\n')[:-1]
    events = []
    for line in lines:
        try:
            events.append((parse_json(line, _EVENT), line))
        except ValueError:  # counted
            continue
    return events, len(lines) - len(events)


def _of_today(event: Dict[str, Any], line: bytes) -> bytes:
    """Return the line of an event in the current version."""
    return line if 'version' in event else json.dumps({**from_one(event), 'version': VERSION}).encode()


class EventLog:
    """`add('epoch', step, ...)` appends a line; `rewind(step)` drops what a killed run wrote beyond its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, event: str, step: int, **figures: Any) -> None:
        # JSON has no notation for non-finite numbers.
        figures = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
        append_line(self.path, json.dumps({'event': event, 'version': VERSION, 'step': step, **figures}))

    def rewind(self, step: int) -> int:
        """Keep the events of the first `step` steps; returns how many damaged lines were dropped."""
        events, damaged = _read(self.path)
        if self.path.exists():
            kept = b''.join(_of_today(event, line) + b'\n' for event, line in events if event['step'] <= step)
            atomic_write(self.path, lambda file: file.write(kept))
        return damaged
