"""Read and write a run's CSV, which has one row per epoch, and from which its curves are drawn."""

import csv
import io
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

from common.files import write_text
from environment import UserError
from training.checkpoints.epochs import VERSION, from_one
from training.logging.metrics import CLASSIFICATION, Scoring, scoring_of

__all__ = ['COLUMNS', 'TIMES', 'images_per_second', 'read_history', 'write_history']

COLUMNS = CLASSIFICATION.columns
# The columns in which two runs with the same result may differ.
_WHOLE = ('epoch', 'step', 'version')
TIMES = ('images_per_second', 'seconds', 'val_seconds')


def images_per_second(rows: Sequence[Dict[str, Any]]) -> float:
    """Return the speed of training over all epochs."""
    images = sum(row['images_per_second'] * row['seconds'] for row in rows)
    return images / max(sum(row['seconds'] for row in rows), 1e-9)


def write_history(path: Union[str, Path], rows: List[Dict[str, Any]], scoring: Scoring = CLASSIFICATION) -> None:
    """Replace the file by all of `rows`, so that an epoch repeated after a kill appears once."""
    text = io.StringIO(newline='')
    more = [name for name in (rows[-1] if rows else ()) if name not in scoring.columns]
    writer = csv.DictWriter(text, (*scoring.columns, *more, 'version'), lineterminator='\n')
    writer.writeheader()
    writer.writerows({**row, 'version': VERSION} for row in rows)
    write_text(path, text.getvalue())


def read_history(path: Union[str, Path]) -> List[Dict[str, float]]:
    """Return the rows of a file that `write_history` wrote, as numbers, with epochs counted from 1, even in old files.

    Raises `UserError` if it is missing or something else.
    """
    try:
        with open(path, newline='') as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), scoring_of(reader.fieldnames or ()).columns
        if 'version' in (reader.fieldnames or ()):
            columns = (*columns, 'version')
        return [from_one({name: (int if name in _WHOLE else float)(row[name]) for name in columns}) for row in rows]
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}; give the history.csv of a run') from error
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path} is not the history of a run ({error}); give the history.csv of a run') from error
