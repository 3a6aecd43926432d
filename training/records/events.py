"""The log for programs: one JSON object on each line, with the kind of event and the steps done before it."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List

from environment import UserError
from environment.files import write_text
from training.records.log import append_line

__all__ = ['EventLog', 'read_events']


def read_events(path: Path) -> List[Dict[str, Any]]:
    """The events of a file; a last line that a kill cut off is no event."""
    if not path.exists():
        return []
    events = []
    for line in path.read_bytes().split(b'\n')[:-1]:
        try:
            events.append(json.loads(line))
        except ValueError as error:
            raise UserError(f'{path} is damaged: a line of it is no JSON; remove it, it is not needed') from error
    return events


class EventLog:
    """`add('epoch', step, ...)` appends a line; `rewind(step)` drops what a killed run wrote beyond its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, event: str, step: int, **figures: Any) -> None:
        # JSON has no word for what is not finite.
        figures = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
        append_line(self.path, json.dumps({'event': event, 'step': step, **figures}))

    def rewind(self, step: int) -> None:
        """Keep the events of the first `step` steps."""
        if self.path.exists():
            kept = [json.dumps(event) + '\n' for event in read_events(self.path) if event['step'] <= step]
            write_text(self.path, ''.join(kept))
