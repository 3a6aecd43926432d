"""The summary that a run prints at its end: its best figure, its files, and what to do with them."""

from __future__ import annotations

import shlex
from typing import Any, List, Mapping, Sequence

from training.config.run_folder import RunFolder
from training.logging.metrics import Scoring, best_words

__all__ = ['closing_lines']


def closing_lines(
    folder: RunFolder,
    figures: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    scoring: Scoring,
    data: Sequence[str],
    network: Sequence[str],
) -> List[str]:
    """Return the lines that a run prints at its end.

    Args:
        folder: the folder of the run.
        figures: the final figures, as in --json.
        rows: the rows of the history.
        scoring: how the task is scored.
        data: flags with which validate.py finds the images.
        network: flags with which all scripts find the network.
    """
    best = max(rows, key=lambda row: row[scoring.column])
    lines = [
        f'best {best_words(scoring, best)}, in epoch {best["epoch"]} of {rows[-1]["epoch"]}',
        f'  its parameters: {figures["best_params"]}',
        f'  of the last epoch: {figures["params"]}',
    ]
    if folder.report.exists():
        lines.append(f'  report: {folder.report}')
    known = ['--params', str(folder.path), *network]
    commands = (
        ['scripts/validate.py', *known, *data],
        ['scripts/predict.py', *known, 'photo.jpg'],
        ['scripts/export.py', *known, '-o', 'exported'],
    )
    return [*lines, 'what may come next:', *(f'  python {shlex.join(command)}' for command in commands)]
