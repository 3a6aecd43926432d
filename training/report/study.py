"""Several networks, each trained from the same seeds: means, spreads, and whether they differ from a baseline.

Runs with one seed share their data order and what is held out, so they are compared in pairs: Student's t-test on the
differences, seed by seed, with Holm's correction for the number of networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from common.html import Markup, escape, page, section, table
from common.text import as_csv
from training.logging.metrics import scoring_of
from training.report import chart as charts
from training.report.comparison import ComparedRun, curves

__all__ = ['Compared', 'Row', 'as_latex', 'compare', 'holm', 'mean_history', 'paired', 'study_page', 'summary_csv']

History = Sequence[Mapping[str, Any]]
LEVEL = 0.95  # of confidence intervals
# Signs that mean something else to LaTeX.
LATEX = {'\\': '\\textbackslash{}', '±': '$\\pm$', '–': '--', **{sign: f'\\{sign}' for sign in '&%$#_{}'}}
STYLE = 'pre { overflow-x: auto; font-size: .8rem; }'


@dataclass(frozen=True)
class Compared:
    """The difference of a network from the baseline.

    Attributes:
        difference: mean over the seeds that both have.
        low, high: of its confidence interval; None with one seed.
        p: of the two-sided test; None with one seed, or where all differences are equal.
        corrected: `p` by Holm's method.
        seeds: that both have.
    """

    difference: float
    low: Optional[float]
    high: Optional[float]
    p: Optional[float]
    seeds: int
    corrected: Optional[float] = None


@dataclass(frozen=True)
class Row:
    """A network: its values by seed, their mean and sample standard deviation (None for one seed)."""

    name: str
    values: Mapping[int, float]
    mean: float
    spread: Optional[float]
    compared: Optional[Compared]


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Optional[Compared]:
    """Return how far `values` are from those of the baseline, seed by seed; None if they share no seed."""
    from scipy.stats import t

    differences = [value - baseline[seed] for seed, value in values.items() if seed in baseline]
    count = len(differences)
    if not count:
        return None
    mean = math.fsum(differences) / count
    if count == 1:
        return Compared(mean, None, None, None, 1)
    error = _spread(differences) / math.sqrt(count)
    reach = float(t.ppf((1 + LEVEL) / 2, count - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, count - 1)) if error > 0 else None
    return Compared(mean, mean - reach, mean + reach, p, count)


def _spread(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def holm(ps: Sequence[float]) -> List[float]:
    """Return the p values corrected for their number.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected, highest = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        corrected[i] = highest
    return corrected


def compare(values: Mapping[str, Mapping[int, float]], baseline: str) -> List[Row]:
    """Return a row for each network that has a value, {name: {seed: value}}, in their order."""
    against = values.get(baseline, {})
    found = {name: paired(own, against) for name, own in values.items() if own and name != baseline}
    tested = [name for name, one in found.items() if one is not None and one.p is not None]
    corrected = dict(zip(tested, holm([found[name].p for name in tested])))
    rows = []
    for name, own in values.items():
        if own:
            one = found.get(name)
            if one is not None:
                one = Compared(one.difference, one.low, one.high, one.p, one.seeds, corrected.get(name))
            spread = _spread(list(own.values())) if len(own) > 1 else None
            rows.append(Row(name, own, math.fsum(own.values()) / len(own), spread, one))
    return rows


def mean_history(runs: Sequence[History]) -> List[Dict[str, float]]:
    """Return one history in place of those of several seeds: their means, for the epochs that all have."""
    return [
        {
            name: math.fsum(row[name] for row in rows) / len(rows) if name != 'epoch' else rows[0][name]
            for name in rows[0]
        }
        for rows in zip(*runs)
    ]


def _told(value: Optional[float], form: str = '{:.2f}') -> str:
    return '–' if value is None else form.format(value)


def _cells(row: Row) -> Tuple[str, ...]:
    one = row.compared
    mean = f'{row.mean:.2f}' + ('' if row.spread is None else f' ± {row.spread:.2f}')
    if one is None:
        return row.name, str(len(row.values)), mean, '', '', '', ''
    interval = '–' if one.low is None else f'{one.low:+.2f} to {one.high:+.2f}'
    p, corrected = (_told(value, '{:.3g}') for value in (one.p, one.corrected))
    return row.name, str(len(row.values)), mean, f'{one.difference:+.2f}', interval, p, corrected


def head(metric: str) -> Tuple[str, ...]:
    """Return the headings of the columns of a study's tables."""
    return (
        'network',
        'seeds',
        f'{metric} (%)',
        'difference',
        f'{LEVEL:.0%} interval'.replace('%', ' %'),
        'p',
        'p (Holm)',
    )


def lines(rows: Sequence[Row], metric: str) -> List[str]:
    """Return the table as lines of text."""
    cells = [head(metric), *map(_cells, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ['  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths)).rstrip() for row in cells]


def summary_csv(rows: Sequence[Row]) -> str:
    """Return a line for each network, in full precision."""
    table = []
    for row in rows:
        one = row.compared
        figures = (None,) * 6 if one is None else (one.difference, one.low, one.high, one.p, one.corrected, one.seeds)
        table.append((row.name, len(row.values), row.mean, row.spread, *figures))
    names = 'network seeds mean spread difference low high p p_holm pairs'.split()
    return as_csv(names, [['' if value is None else value for value in row] for row in table])


def as_latex(rows: Sequence[Row], metric: str, baseline: str) -> str:
    """Return the table for a paper that loads booktabs."""

    def safe(text: str) -> str:
        return ''.join(LATEX.get(sign, sign) for sign in text)

    def line(cells: Sequence[str]) -> str:
        return ' & '.join(map(safe, cells)) + ' \\\\'

    body = [line(_cells(row)) for row in rows]
    note = f'% Mean and sample standard deviation over seeds; differences from {baseline}, paired by seed (t-test).'
    top = ['\\begin{tabular}{lrrrrrr}', '\\toprule', line(head(metric)), '\\midrule']
    return '\n'.join([note, *top, *body, '\\bottomrule', '\\end{tabular}', ''])


def study_page(
    title: str,
    rows: Sequence[Row],
    metric: str,
    baseline: str,
    histories: Mapping[str, Sequence[Sequence[Dict[str, Any]]]],
) -> bytes:
    """Return the page: the table, curves of the means over the seeds, each run's figure, the table for LaTeX."""
    runs = [ComparedRun(name, mean_history(own)) for name, own in histories.items() if own and all(own)]
    seeds = sorted({seed for row in rows for seed in row.values})
    each = [(row.name, *(_told(row.values.get(seed)) for seed in seeds)) for row in rows]
    said = (
        f'{escape(metric)} of the last epoch: mean ± sample standard deviation over the seeds. Differences from '
        f"{escape(baseline)}, paired by seed, with the interval and the two-sided p of Student's t-test; beside it p "
        'corrected for the number of networks (Holm).'
    )
    parts = [
        Markup(f'<p class="faint">{said}</p>'),
        table(map(_cells, rows), head(metric), numbers=range(1, 7)),
        section('Curves, means over the seeds', curves(runs, scoring_of(runs[0].rows[0]))) if runs else '',
        section('Each run', table(each, ('network', *(f'seed {seed}' for seed in seeds)), range(1, len(seeds) + 1))),
        section('For LaTeX', Markup(f'<pre>{escape(as_latex(rows, metric, baseline))}</pre>')),
    ]
    return page(title, '\n'.join(parts), charts.STYLE + STYLE)
