"""The curves of a run: loss and error over the epochs, with the learning rate behind them."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Union

from common.files import atomic_write
from training.logging.metrics import DETECTION

__all__ = ['draw_curves']

TRAIN, VALIDATION, RATE = '#3b6ea8', '#c8553d', '#b9b9b9'


def _panel(axes: Any, rows: List[Dict[str, Any]], lines: Dict[str, Sequence[float]], label: str) -> None:
    epochs = [row['epoch'] for row in rows]
    marker = 'o' if len(rows) < 15 else None
    style = {'linewidth': 1.8, 'marker': marker, 'markersize': 4}
    for (name, values), colour in zip(lines.items(), (TRAIN, VALIDATION)):
        axes.plot(epochs, values, color=colour, label=name, **style)
    axes.set(xlabel='epoch', ylabel=label)
    axes.grid(True, color='#e6e6e6', linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.02)


def _classification(loss: Any, error: Any, rows: List[Dict[str, Any]]) -> None:
    """Losses on the left, errors on the right."""
    _panel(
        loss,
        rows,
        {'training': [row['train_loss'] for row in rows], 'validation': [row['val_loss'] for row in rows]},
        'loss',
    )
    train_error = [100 * (1 - row['train_accuracy']) for row in rows]
    val_error = [100 * (1 - row['val_top1']) for row in rows]
    _panel(error, rows, {'training': train_error, 'validation': val_error}, 'error (%)')
    error.set_ylim(0, min(100, 1.05 * max(train_error + val_error) + 0.5))
    _mark_best(error, rows, val_error, min(range(len(rows)), key=lambda i: val_error[i]))


def _detection(loss: Any, precision: Any, rows: List[Dict[str, Any]]) -> None:
    """The loss on the left, average precision on the right."""
    _panel(loss, rows, {'training': [row['train_loss'] for row in rows]}, 'loss')
    ap50, ap = ([100 * row[name] for row in rows] for name in ('val_ap50', 'val_ap'))
    _panel(precision, rows, {'AP50': ap50, 'AP': ap}, 'average precision (%)')
    precision.set_ylim(0, 100)
    _mark_best(precision, rows, ap, max(range(len(rows)), key=lambda i: ap[i]))


def _mark_best(axes: Any, rows: List[Dict[str, Any]], values: Sequence[float], best: int) -> None:
    axes.plot(rows[best]['epoch'], values[best], 'o', color=VALIDATION, markersize=8, fillstyle='none')
    label = f'best: {values[best]:.2f} %, epoch {rows[best]["epoch"]}'
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

    figure = Figure(figsize=(10, 4.2), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    (_detection if DETECTION.column in rows[0] else _classification)(loss, error, rows)
    loss.set_ylim(bottom=0)
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
    for axes in (loss, error):
        axes.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    write(path, lambda file: figure.savefig(file, format='png'))
