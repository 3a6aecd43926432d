"""Draw the curves of finished or running trainings: one run in detail, or several in comparison.

python scripts/plot_history.py RUN [RUN ...] --output curves.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import _bootstrap  # noqa: F401
from environment import UserError, run_main
from environment.files import atomic_write
from training.curves import draw_curves
from training.history import read_history
from training.settings import Parser

Run = Tuple[str, List[Dict[str, Any]]]


def read_run(path: str) -> Run:
    """A run's folder or its history.csv: (name, rows)."""
    file = Path(path)
    if file.is_dir():
        file = file / 'history.csv'
    rows = read_history(file)
    if not rows:
        raise UserError(f'{file} has no epoch yet; wait for the first one to end')
    return (file.parent.resolve().name if file.name == 'history.csv' else file.stem), rows


def draw_comparison(path: str, runs: Sequence[Run]) -> None:
    """Training loss and validation error of several runs in one PNG, a colour for each run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2 + 0.2 * len(runs)), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    for name, rows in runs:
        epochs = [row['epoch'] + 1 for row in rows]
        errors = [100 * (1 - row['val_top1']) for row in rows]
        style = {'linewidth': 1.6, 'marker': 'o' if len(rows) < 15 else None, 'markersize': 3}
        loss.plot(epochs, [row['train_loss'] for row in rows], **style)
        error.plot(epochs, errors, label=f'{name} (best: {min(errors):.2f} %)', **style)
    for axes, label in ((loss, 'training loss'), (error, 'validation error (%)')):
        axes.set(xlabel='epoch', ylabel=label)
        axes.set_ylim(bottom=0)
        axes.grid(True, color='#e6e6e6', linewidth=0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc='outside lower center', frameon=False)
    atomic_write(path, lambda file: figure.savefig(file, format='png'))


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='plot_history.py', description=__doc__.partition('\n\n')[0])
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folder of a run, or a history.csv')
    parser.add_argument('-o', '--output', default='history.png', metavar='PNG', help='the picture')
    parser.add_argument('--title', help='above the curves of a single run, in place of its name')
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    runs = [read_run(path) for path in args.runs]
    if len(runs) == 1:
        draw_curves(args.output, runs[0][1], args.title or runs[0][0])
    else:
        draw_comparison(args.output, runs)
    for name, rows in runs:
        best = max(rows, key=lambda row: row['val_top1'])
        print(f'{name}: {len(rows)} epochs, best top-1 {100 * best["val_top1"]:.2f} % in epoch {best["epoch"] + 1}')
    print(f'curves: {args.output}')
    return 0


if __name__ == '__main__':
    run_main(main)
