"""The weights of classes in the loss, from their numbers of images or from a file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from common.files import expanded
from common.text import printable
from environment import UsageError, UserError
from training.config.settings import read_settings

__all__ = ['class_weights', 'weights_line']

_MEND = 'give a line NAME,WEIGHT (in YAML NAME: WEIGHT) for each class, or --class-weights auto'


def class_weights(asked: str, labels: np.ndarray, class_names: Sequence[str]) -> List[float]:
    """Return the weights of the classes that `--class-weights` asks for.

    Args:
        asked: 'auto' or a file.
        labels: of the training images, (N,) indices of `class_names`, or (N, K) 0 and 1 if there may be several.
        class_names: the names of the K classes.

    Raises:
        UserError, UsageError: the file is missing, or does not give one weight for each class.
    """
    if asked != 'auto':
        return _read(asked, class_names)
    if labels.ndim == 2:
        there = labels.sum(axis=0)
        return np.where(there > 0, (len(labels) - there) / np.maximum(there, 1), 1.0).tolist()
    counts = np.bincount(labels, minlength=len(class_names))
    met = np.count_nonzero(counts)
    return np.where(counts > 0, len(labels) / (met * np.maximum(counts, 1)), 1.0).tolist()


def weights_line(weights: Sequence[float], class_names: Sequence[str], most: int = 20) -> str:
    """Return the line for the log."""
    shown = [f'{name} {weight:.3g}' for name, weight in zip(class_names, weights)]
    more = [f'{len(shown) - most} more'] if len(shown) > most else []
    return printable(f'weights of the classes: {", ".join(shown[:most] + more)}')


def _read(path: str, class_names: Sequence[str]) -> List[float]:
    where = f'--class-weights {path}'
    found = _by_name(path)
    for name in found:
        if name not in class_names:
            raise UsageError(f'{where} has the class {name!r}, which is not in the data; {_MEND}')
    for name in class_names:
        if name not in found:
            raise UsageError(f'{where} has no weight for the class {name!r}; {_MEND}')
    weights = [_weight(found[name], f'{where}: the weight of {name!r}') for name in class_names]
    if not any(weights):
        raise UsageError(f'{where}: all weights are 0, so there would be nothing to learn; {_MEND}')
    return weights


def _weight(value: Any, what: str) -> float:
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise UsageError(f'{what} is {value!r}; allowed: numbers from 0')
    return weight


def _by_name(path: str) -> Dict[str, Any]:
    """Return the weights in a file, by class name."""
    file = expanded(path)
    if file.suffix.lower() in ('.yaml', '.yml'):
        return {str(name): value for name, value in read_settings(str(file), 'fix it or leave it out').items()}
    rows = _rows(file, path)
    if rows and [cell.strip().lower() for cell in rows[0]] == ['class', 'weight']:
        rows = rows[1:]
    found: Dict[str, Any] = {}
    for row in rows:
        if len(row) != 2:
            raise UsageError(f'--class-weights {path}: the line {",".join(row)!r} is no NAME,WEIGHT; {_MEND}')
        if row[0] in found:
            raise UsageError(f'--class-weights {path} has the class {row[0]!r} twice; {_MEND}')
        found[row[0]] = row[1]
    return found


def _rows(file: Path, path: str) -> List[List[str]]:
    try:
        with open(file, newline='', encoding='utf-8-sig') as lines:
            return [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UserError(
            f'cannot read --class-weights {path}: {error.strerror}; give a file of weights, or auto'
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f'--class-weights {path} is no CSV file in UTF-8: {error}; {_MEND}') from error
