"""Draw the curves of finished or running trainings: one run in detail, or several in comparison.

python scripts/plot_history.py runs/photos
python scripts/plot_history.py runs/se runs/dca --output curves.png --title 'With and without connections'
python scripts/plot_history.py runs/* --html runs.html --json figures.json
"""

import _bootstrap  # noqa: F401
from environment import answer_flags, require_mxnet, run_main  # isort: split

import argparse
import math
from typing import Any, Dict, Optional, Sequence

from common.console import say
from common.together import Together, written_together
from common.usage import described
from training.config.console import add_console_flags, heed_flags
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='plot_history.py', **described(__doc__))
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folder of a run, or a history.csv')
    parser.add_argument(
        '-o', '--output', metavar='PNG', help='the picture (default: history.png, or none if only --html is given)'
    )
    parser.add_argument(
        '--html',
        metavar='FILE',
        help='a self-contained page with the curves, figures and settings of the runs',
    )
    parser.add_argument('--title', help='heading, instead of the name of a single run')
    parser.add_argument('--json', metavar='FILE', help='write the figures to this file')
    add_console_flags(parser)
    args = parser.parse_args(argv)
    heed_flags(vars(args))
    return args


answer_flags(__name__, parse)
require_mxnet()

from training.logging.curves import draw_curves, number_epochs
from training.logging.metrics import best_words, scoring_of
from training.report.comparison import ComparedRun, common_scoring, read_run, write_comparison

LONGEST = 60  # letters of a name in the picture


def draw_comparison(new: Together, path: str, runs: Sequence[ComparedRun], title: Optional[str] = None) -> None:
    """Draw training loss and validation error, or AP of detectors, of several runs in one PNG, a colour per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2 + 0.2 * len(runs)), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    scoring = common_scoring(runs)
    drawn, *_ = scoring.compared
    for name, rows, _ in runs:
        epochs, values = [row['epoch'] for row in rows], [drawn.value(row) for row in rows]
        best = best_words(scoring, max(rows, key=lambda row: row[scoring.column]))
        style = {'linewidth': 1.6, 'marker': 'o' if len(rows) < 15 else None, 'markersize': 3}
        loss.plot(epochs, [row['train_loss'] for row in rows], **style)
        error.plot(
            epochs,
            values,
            label=f'{name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"}, best: {best}',
            **style,
        )
    for axes, label in ((loss, 'training loss'), (error, f'{drawn.name} ({drawn.unit})')):
        axes.set(xlabel='epoch', ylabel=label)
        highest = max((value for line in axes.lines for value in line.get_ydata() if math.isfinite(value)), default=1)
        axes.set_ylim(0, 1.05 * highest or 1)
        axes.grid(True, color='#e6e6e6', linewidth=0.8)
        number_epochs(axes, max(len(run.rows) for run in runs))
    figure.legend(loc='outside lower center', frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    new.write(path, lambda file: figure.savefig(file, format='png'))


def figures_of(run: ComparedRun) -> Dict[str, Any]:
    """Return the figures of a run."""
    scoring = scoring_of(run.rows[0])
    best = max(run.rows, key=lambda row: row[scoring.column])
    return {
        'run': run.name,
        'epochs': run.rows[-1]['epoch'],
        scoring.best: run.rows[-1][scoring.column],
        scoring.best_column: best[scoring.column],
        'best_epoch': best['epoch'],
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    runs = [read_run(path) for path in args.runs]
    scoring = common_scoring(runs)
    picture = args.output or (None if args.html else 'history.png')
    figures = [figures_of(run) for run in runs]
    with written_together() as new:
        if picture and len(runs) == 1:
            draw_curves(picture, runs[0].rows, args.title or runs[0].name, new.write)
        elif picture:
            draw_comparison(new, picture, runs, args.title)
        if args.html:
            write_comparison(args.html, runs, args.title, new.write)
        if args.json:
            new.write_json(args.json, {'runs': figures})
    for run in figures:
        best = f'best {scoring.title} {100 * run[scoring.best_column]:.2f} % in epoch {run["best_epoch"]}'
        say(f'{run["run"]}: {run["epochs"]} epochs, {best}')
    for path in filter(None, (picture, args.html)):
        say(f'curves: {path}')
    return 0


if __name__ == '__main__':
    run_main(main)
