"""A table of runs: results.csv in the folder `runs`, with a row for each run that has finished."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, List, Mapping, Optional

from common.files import explained, write_text
from common.lock import alone
from common.text import as_csv
from environment import UserError

__all__ = ['COLUMNS', 'enter_result', 'results_file']

COLUMNS = (
    'run',  # path of its folder, from that of the table
    'model',
    'dataset',
    'seed',
    'epochs',
    'metric',  # whose figures the next two are
    'best',
    'last',
    'best_epoch',  # from 1
    'train_loss',
    'seconds',  # of training and validation
    'images_per_second',
    'parameters',  # how many numbers are learned
    'params',  # file of the best
)
NAME = 'results.csv'


def results_file(asked: str, folder: Path) -> Optional[Path]:
    """Return the table in which a run is entered: what --results names, or that of the folder `runs` around it."""
    if asked:
        return Path(asked)
    place = folder.resolve().parent
    return place / NAME if place.name == 'runs' else None


def enter_result(path: Path, folder: Path, row: Mapping[str, Any]) -> None:
    """Enter a run, or update its row if it was resumed; several processes may do so at once.

    Args:
        path: of the table.
        folder: of the run.
        row: its columns except for the first.

    Raises:
        UserError: the table cannot be read or written, or the file is another table, which is left unchanged.
    """
    place = path.resolve().parent
    run = folder.resolve()
    name = run.relative_to(place) if place in run.parents else run
    line = as_csv([str(name), *(row[column] for column in COLUMNS[1:])], ())
    with alone(place, 'entering a run', path.name, wait=True):
        text = io.StringIO(newline='')
        writer = csv.writer(text, lineterminator='\n')
        (first,) = csv.reader([line])
        writer.writerows([COLUMNS, *(known for known in _rows(path) if known[0] != first[0])])
        write_text(path, text.getvalue() + line)


def _rows(path: Path) -> List[List[str]]:
    """Return the rows of the table; none where there is no file."""
    if not path.exists():
        return []
    with explained('read', path), open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        try:
            head, *rows = [row for row in csv.reader(file) if row] or [[]]
        except (csv.Error, UnicodeDecodeError):
            head = []
    if tuple(head) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise UserError(f'{path} is not a table of runs, so that this run is not entered; give another --results')
    return rows
