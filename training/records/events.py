"""The log for programs: one JSON object on each line, with the kind of event and the steps done before it."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

from environment import UserError
from environment.files import explained, write_text
from environment.form import check_form
from training.records.log import append_line

__all__ = ['EventLog', 'read_events']


def read_events(path: Path) -> List[Dict[str, Any]]:
    """The events of a file; a last line that a kill cut off is no event. `UserError` where it is damaged."""
    events, damaged = _read(path)
    if damaged:
        raise UserError(f'{path} is damaged: {damaged} lines of it are no events; remove it, it is not needed')
    return events


def _read(path: Path) -> Tuple[List[Dict[str, Any]], int]:
    """The events of a file, and how many of its lines are none."""
    if not path.exists():
        return [], 0
    with explained('read', path):
        lines = path.read_bytes().split(b'\n')[:-1]
    events = []
    for line in lines:
        try:
            event = json.loads(line)
            check_form(event, {'event': str, 'step': int, ...: object})
        except ValueError:  # counted
            continue
        events.append(event)
    return events, len(lines) - len(events)


class EventLog:
    """`add('epoch', step, ...)` appends a line; `rewind(step)` drops what a killed run wrote beyond its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, event: str, step: int, **figures: Any) -> None:
        # JSON has no word for what is not finite.
        figures = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
        append_line(self.path, json.dumps({'event': event, 'step': step, **figures}))

    def rewind(self, step: int) -> int:
        """Keep the events of the first `step` steps; returns how many lines were damaged, which are dropped too."""
        events, damaged = _read(self.path)
        if self.path.exists():
            write_text(self.path, ''.join(json.dumps(event) + '\n' for event in events if event['step'] <= step))
        return damaged
