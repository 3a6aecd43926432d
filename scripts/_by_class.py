"""Report the figures of each class for validate.py: a table to print, and the content of a CSV file."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from common.text import as_csv, printable
from training.class_scores import ClassScores

__all__ = ['classes_csv', 'classes_lines']

PRINTED = 25  # classes; if there are more, only the means
WIDEST = 40  # characters of a name


def classes_lines(scores: ClassScores, names: Sequence[str]) -> List[str]:
    """Return the table: precision, recall, F1, images of each class, and their means."""
    heads = ['precision', 'recall', 'F1', *(['AP'] if scores.ap is not None else [])]
    rows = [
        [row['class'], *(row[key] for key in ('precision', 'recall', 'f1', 'ap') if key in row), row['support']]
        for row in scores.rows(names)
    ]
    more = [] if scores.ap is None else [scores.mean_ap]
    images = int(scores.support.sum())
    what = 'images' if scores.ap is None else 'labels'  # of which an image may have several
    means = [['mean over classes', *scores.macro(), *more, images], [f'mean over {what}', *scores.weighted(), images]]
    if scores.ap is not None:
        means = [means[0], [*means[1][:4], None, means[1][4]]]
    shown = [*(rows if len(rows) <= PRINTED else []), *means]
    width = max(len(_name(row[0])) for row in shown)
    lines = [' '.join([' ' * width, *(f'{head:>9}' for head in heads), f'{"images":>8}'])]
    lines += [
        ' '.join([f'{_name(name):<{width}}', *map(_percent, figures), f'{count:>8}']) for name, *figures, count in shown
    ]
    return lines if len(rows) <= PRINTED else [*lines, f'each of the {len(rows)} classes: --csv FILE']


def classes_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of each class, a row for each; those that do not exist are empty."""
    heads = list(rows[0]) if rows else []
    return as_csv(heads, [['' if row[head] is None else row[head] for head in heads] for row in rows])


def _name(name: str) -> str:
    name = printable(name)
    return name if len(name) <= WIDEST else f'{name[: WIDEST - 3]}...'


def _percent(value: Any) -> str:
    known = value is not None and value == value
    return f'{100 * value:>7.2f} %' if known else f'{"–":>9}'
