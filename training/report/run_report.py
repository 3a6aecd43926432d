"""The report of any run: how far it came, its curves, its settings, and incidents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence, Tuple

from common.html import Markup, escape
from training.checkpoints.position import Position
from training.config.run_folder import RunFolder
from training.logging.events import read_events
from training.logging.history import images_per_second
from training.logging.progress import clock
from training.logging.text_log import RunLog
from training.report.sections import Chart, Section, curves, figure_tiles, incidents, settings_table
from training.report.writing import write_report

__all__ = ['Row', 'RunReport', 'percent']

Row = Mapping[str, Any]


def percent(share: float, digits: int = 2) -> str:
    return f'{100 * share:.{digits}f}\N{NO-BREAK SPACE}%'


@dataclass
class RunReport:
    """What is known of a run before it begins; `write` adds its results.

    A kind of training adds its own `charts`, `figures` and `results`.

    Attributes:
        settings, defaults: of all flags, by their names without dashes.
        facts: (what, value) that precede them: command, machine, versions.
    """

    folder: RunFolder
    title: str
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    log: RunLog
    facts: Sequence[Tuple[str, Any]] = ()

    style = ''  # of the parts that a kind of training adds

    def charts(self) -> List[Chart]:
        """Return what is drawn over the epochs."""
        return [
            Chart('Training loss', '', [('training loss', lambda row: row['train_loss'])]),
            Chart('Learning rate', '', [('learning rate', lambda row: row['lr'])]),
            Chart('Training speed', 'images/s', [('training speed', lambda row: row['images_per_second'])]),
        ]

    def figures(self, rows: Sequence[Row]) -> List[Tuple[str, str]]:
        """Return (value, what it is) of the figures that come first; there is a row at least."""
        return [(f'{rows[-1]["train_loss"]:.4f}', 'training loss')]

    def results(self, position: Position) -> List[Section]:
        """Return what is only known once the run has finished."""
        return []

    def write(self, position: Position, complete: bool) -> bool:
        """Write the page to the run's folder, after the last epoch or (not `complete`) when the run was stopped.

        Returns whether all of it could be drawn and written; it never raises if not.
        """
        parts = [
            Section('', lambda: self.lead(position, complete)),
            Section('Curves', lambda: curves(position.rows, self.charts())),
        ]
        if complete:
            parts += self.results(position)
        parts.append(Section('How it was run', lambda: settings_table(self.settings, self.defaults, self.facts)))
        parts.append(Section('Incidents', lambda: incidents(read_events(self.folder.events))))
        return write_report(self.folder.report, self.title, parts, self.log, self.style)

    def lead(self, position: Position, complete: bool) -> Markup:
        """Return the run's progress and its figures."""
        told = ''
        if not complete:
            totals = position.totals
            told = f'Stopped in epoch {position.epoch + 1}, at batch {position.batch}; --resume goes on from there.'
            if totals.images:
                told += (
                    f' In this epoch so far: training loss {totals.mean_loss:.4f}, '
                    f'{totals.images / max(totals.seconds, 1e-9):.0f} images/s.'
                )
            told = f'<p>{escape(told)}</p>'
        return Markup(
            told + (figure_tiles([*self.figures(position.rows), *costs(position.rows)]) if position.rows else '')
        )


def costs(rows: Sequence[Row]) -> List[Tuple[str, str]]:
    """Return epochs, time, speed."""
    seconds = sum(row['seconds'] for row in rows)
    return [
        (f'{rows[-1]["epoch"]}', 'epochs'),
        (clock(seconds + sum(row['val_seconds'] for row in rows)), 'training and validation'),
        (f'{images_per_second(rows):.0f}', 'images/s in training'),
    ]
