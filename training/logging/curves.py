"""The curves of a run: loss and error over the epochs, with the learning rate behind them."""

import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Union

from common.files import atomic_write
from training.logging.metrics import Curve, Scoring, best_words, scoring_of

__all__ = ['draw_curves', 'number_epochs']

TRAIN, VALIDATION, RATE = '#3b6ea8', '#c8553d', '#b9b9b9'


def _panel(axes: Any, rows: List[Dict[str, Any]], curves: Sequence[Curve], label: str) -> List[List[float]]:
    """Draw the curves; returns their values."""
    values = [[curve.value(row) for row in rows] for curve in curves]
    epochs = [row['epoch'] for row in rows]
    marker = 'o' if len(rows) < 15 else None
    style = {'linewidth': 1.8, 'marker': marker, 'markersize': 4}
    for curve, line, colour in zip(curves, values, (TRAIN, VALIDATION)):
        axes.plot(epochs, line, color=colour, label=curve.name, **style)
    axes.set(xlabel='epoch', ylabel=label)
    axes.grid(True, color='#e6e6e6', linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.margins(x=0.02)
    number_epochs(axes, len(rows))
    return values


def number_epochs(axes: Any, count: int) -> None:
    """Show whole numbers on the axis of epochs, even if there is only one."""
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if count == 1:
        axes.set_xlim(0.5, 1.5)


def _mark_best(axes: Any, rows: List[Dict[str, Any]], values: Sequence[float], best: int, scoring: Scoring) -> None:
    epoch = rows[best]['epoch']
    axes.plot(epoch, values[best], 'o', color=VALIDATION, markersize=8, fillstyle='none')
    label = f'best, epoch {epoch}:\n{best_words(scoring, rows[best])}'
    axes.plot([], [], 'o', color=VALIDATION, fillstyle='none', label=label)


def draw_curves(
    path: Union[str, Path], rows: List[Dict[str, Any]], title: str = '', write: Callable[..., None] = atomic_write
) -> None:
    """Write the rows of a history (see `training.logging.history`) as a PNG, as `write` does. No rows, no file."""
    if not rows:
        return
    # Not pyplot: that keeps figures alive and may want a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    scoring = scoring_of(rows[0])
    losses = _panel(loss, rows, scoring.losses, 'loss')
    values = _panel(error, rows, scoring.panel, scoring.panel_label)
    error.set_ylim(0, 100 if scoring.whole else min(100, 1.05 * max(sum(values, [])) + 0.5))
    _mark_best(error, rows, values[-1], max(range(len(rows)), key=lambda i: rows[i][scoring.column]), scoring)
    highest = max((value for line in losses for value in line if math.isfinite(value)), default=1)
    loss.set_ylim(0, 1.05 * highest or 1)
    rate = loss.twinx()
    rate.plot(
        [row['epoch'] for row in rows],
        [row['lr'] for row in rows],
        color=RATE,
        linewidth=1.2,
        linestyle='--',
    )
    rate.set_ylim(bottom=0)
    rate.set_ylabel('learning rate', color='#8a8a8a')
    rate.tick_params(axis='y', colors='#8a8a8a')
    rate.spines['top'].set_visible(False)
    loss.plot([], [], color=RATE, linestyle='--', label='learning rate')
    loss.set_zorder(rate.get_zorder() + 1)
    loss.patch.set_visible(False)
    for axes in (loss, error):  # below, where no line is
        axes.legend(frameon=False, loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    figure.suptitle(title, fontsize=11)
    write(path, lambda file: figure.savefig(file, format='png'))
