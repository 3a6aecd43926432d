"""Several runs on one page: their figures, their curves together, and the settings in which they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from common.files import atomic_write
from common.html import Markup, escape, page, section, table
from environment import UserError
from training.config.run_folder import RunFolder
from training.config.saved import is_harmless
from training.config.settings import read_settings
from training.logging.history import images_per_second, read_history
from training.logging.metrics import Curve, Scoring, scoring_of
from training.logging.progress import clock
from training.report import chart as charts
from training.report.chart import Series, chart, key

__all__ = ['ComparedRun', 'common_scoring', 'read_run', 'write_comparison']

SHOWN = 10  # of more runs the names stand in the table alone, and not below each drawing too
STYLE = 'td svg.key { margin: 0; } td code { white-space: nowrap; }'


class ComparedRun(NamedTuple):
    """A run: its history, and its settings if its folder has them."""

    name: str
    rows: List[Dict[str, Any]]
    settings: Optional[Mapping[str, Any]] = None


def read_run(path: str) -> ComparedRun:
    """Return a run from its folder or its history. Raises `UserError` if it has no epoch yet, or is not a run."""
    given = Path(path)
    file = RunFolder(given).history if given.is_dir() else given
    rows = read_history(file)
    if not rows:
        raise UserError(f'{file} has no epoch yet; wait for the first one to end')
    folder = RunFolder(file.parent)
    if file != folder.history:  # one of several in a folder
        return ComparedRun(f'{file.resolve().parent.name}/{file.stem}', rows, _settings(file.with_suffix('.yaml')))
    return ComparedRun(file.resolve().parent.name, rows, _settings(folder.settings))


def _settings(path: Path) -> Optional[Mapping[str, Any]]:
    return read_settings(str(path), 'restore it, or remove it: the curves need none') if path.exists() else None


def common_scoring(runs: Sequence[ComparedRun]) -> Scoring:
    """Return the scoring that all runs share. Raises `UserError` if there is none."""
    first, *others = (scoring_of(run.rows[0]) for run in runs)
    if any(other is not first for other in others):
        raise UserError('some of these runs are of classifiers and some of detectors; compare them apart')
    return first


def figures_table(runs: Sequence[ComparedRun], scoring: Scoring) -> Markup:
    """Return a line for each run."""
    lines = []
    for number, run in enumerate(runs):
        best = max(run.rows, key=lambda row: row[scoring.column])
        last = run.rows[-1]
        seconds = sum(row['seconds'] for row in run.rows)
        lines.append(
            (
                key(number),
                run.name,
                last['epoch'],
                f'{100 * last[scoring.column]:.2f} %',
                f'{100 * best[scoring.column]:.2f} %',
                best['epoch'],
                f'{last["train_loss"]:.4f}',
                f'{images_per_second(run.rows):.0f}',
                clock(seconds + sum(row['val_seconds'] for row in run.rows)),
            )
        )
    metric = scoring.title
    head = ('', 'run', 'epochs', metric, f'best {metric}', 'in epoch', 'training loss', 'images/s', 'time')
    return table(lines, head, numbers=range(2, 9))


def curves(runs: Sequence[ComparedRun], scoring: Scoring) -> Markup:
    """Return each quantity of all runs in one drawing."""
    every = [
        *scoring.compared,
        Curve('training loss', '', lambda row: row['train_loss']),
        Curve('learning rate', '', lambda row: row['lr']),
        Curve('training speed', 'images/s', lambda row: row['images_per_second']),
    ]
    drawn = []
    for name, unit, value in every:
        lines = [
            Series(run.name, [row['epoch'] for row in run.rows], [value(row) for row in run.rows], number)
            for number, run in enumerate(runs)
        ]
        drawn.append(chart(name[0].upper() + name[1:], lines, unit, keys=len(runs) <= SHOWN))
    return Markup(f'<div class="charts grid">{"".join(drawn)}</div>')


def differences(runs: Sequence[ComparedRun]) -> Markup:
    """Return the settings that affect the result and differ between the runs whose settings are known."""
    known = [(number, run) for number, run in enumerate(runs) if run.settings is not None]
    flags = dict.fromkeys(flag for _, run in known for flag in run.settings)
    lines = []
    for flag in flags:
        values = [run.settings.get(flag) for _, run in known]
        # Not set, or not there when the run was older than the flag.
        same = not any(values) or all(value == values[0] for value in values)
        if not is_harmless(flag) and not same:
            shown = ['–' if value is None or value == '' else str(value) for value in values]
            lines.append((Markup(f'<code>--{escape(flag)}</code>'), *shown))
    if not lines:
        return Markup('<p>None that is known.</p>')
    return table(lines, ('', *(Markup(f'{key(number)} {escape(run.name)}') for number, run in known)))


def write_comparison(
    path: str, runs: Sequence[ComparedRun], title: Optional[str] = None, write: Callable[..., None] = atomic_write
) -> None:
    """Write the page, as `write` does. `UserError` of `common_scoring`, or if it cannot be written."""
    scoring = common_scoring(runs)
    parts = [
        figures_table(runs, scoring),
        section('Curves', curves(runs, scoring)),
        section('Settings that differ', differences(runs)),
    ]
    content = page(title or f'{len(runs)} runs', '\n'.join(parts), charts.STYLE + STYLE)
    write(path, lambda file: file.write(content))
