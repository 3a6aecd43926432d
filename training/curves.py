"""The curves of a run: loss and error over the epochs, with the learning rate behind them."""

from pathlib import Path
from typing import Any, Dict, List, Union

from environment.files import atomic_write

__all__ = ['draw_curves']

TRAIN, VALIDATION, RATE = '#3b6ea8', '#c8553d', '#b9b9b9'


def _panel(axes: Any, rows: List[Dict[str, Any]], train: List[float], validation: List[float], label: str) -> None:
    epochs = [row['epoch'] for row in rows]
    marker = 'o' if len(rows) < 15 else None
    style = {'linewidth': 1.8, 'marker': marker, 'markersize': 4}
    axes.plot(epochs, train, color=TRAIN, label='training', **style)
    axes.plot(epochs, validation, color=VALIDATION, label='validation', **style)
    axes.set(xlabel='epoch', ylabel=label)
    axes.grid(True, color='#e6e6e6', linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.02)


def draw_curves(path: Union[str, Path], rows: List[Dict[str, Any]], title: str = '') -> None:
    """Write the rows of a history (see `training.history`) as a PNG. No rows, no file."""
    if not rows:
        return
    # Not pyplot: that keeps figures alive and may want a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    _panel(loss, rows, [row['train_loss'] for row in rows], [row['val_loss'] for row in rows], 'loss')
    loss.set_ylim(bottom=0)
    train_error = [100 * (1 - row['train_accuracy']) for row in rows]
    val_error = [100 * (1 - row['val_top1']) for row in rows]
    _panel(error, rows, train_error, val_error, 'error (%)')
    error.set_ylim(0, min(100, 1.05 * max(train_error + val_error) + 0.5))
    best = min(range(len(rows)), key=lambda i: val_error[i])
    error.plot(rows[best]['epoch'], val_error[best], 'o', color=VALIDATION, markersize=8, fillstyle='none')
    error.plot(
        [],
        [],
        'o',
        color=VALIDATION,
        fillstyle='none',
        label=f'best: {val_error[best]:.2f} %, epoch {rows[best]["epoch"]}',
    )
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
    atomic_write(path, lambda file: figure.savefig(file, format='png'))
