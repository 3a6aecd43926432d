"""Make the tables of docs/claims.md: what the papers claim, and what came out in trainings of this project.

    python tools/claims_table.py                          # print the table of claims
    python tools/claims_table.py --update docs/claims.md  # update the tables that the page has markers for
    python tools/claims_table.py --check docs/claims.md   # fail with status 1 if they are out of date

Accuracies are read from the manifests in params/ and from results/trials/, which tools/paper_table.py --take writes. A
claim is supported if the whole confidence interval of the difference lies above 0, not supported if it lies below, and
undecided otherwise. Differences are taken seed by seed, so with a single seed a claim remains undecided.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import statistics
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from common.schema import read_json
from common.usage import described
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='claims_table.py', **described(__doc__))
    parser.add_argument('--update', type=Path, metavar='FILE', help='update the tables in this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='fail if the tables in this file are out of date')
    args = parser.parse_args(argv)
    if args.update and args.check:
        raise UsageError('--update and --check are both given; give one of them')
    return args


answer_flags(__name__, parse)
require_mxnet()

from _claims import CLAIMS, Case
from _recipes import budget_of, folders, printed_sizes, rows_of, trial_of

from _readme import settle, wanted_tables
from model.parameters.pretrained import trained_in
from training.report.study import Compared, paired

NOTHING = '–'  # where there is no figure
DELETION = Path('results/claims/deletion.json')
#: What is read from a file of tools/check_explanations.py: a row for each network and stage.
ROWS = [{'network': str, 'images': int, 'stage': str, 'covers': {...: {'lost': float, ...: object}}, ...: object}]


class Side(NamedTuple):
    """A network of a comparison: its accuracy in per cent by seed, and how it was trained."""

    values: Mapping[int, float]
    budget: str


def shipped(root: Path, study: str) -> Dict[str, Side]:
    """Return the runs in a folder of `params/` by the names of their folders."""
    found: Dict[str, Dict[int, float]] = {}
    budgets: Dict[str, str] = {}
    for run in trained_in(root / 'params'):
        if run.dataset == study:
            name, manifest = run.path.parent.name, run.manifest
            found.setdefault(name, {})[manifest['seed']] = 100 * manifest['accuracy']['top1']
            budgets[name] = f'[{manifest["epochs"]} epochs](reproducing.md)'
    return {name: Side(values, budgets[name]) for name, values in found.items()}


def tried(root: Path, study: str) -> Dict[str, Side]:
    """Return the rows of a trial; none if it was not run, or has several seeds without the figures of each."""
    content = trial_of(root, study)
    if content is None:
        return {}
    told = f'trial `{study}`'
    sides = {}
    for name, row in content['rows'].items():
        single = {content['seeds'][0]: row['mean']} if len(content['seeds']) == 1 else {}
        values = {int(seed): value for seed, value in row.get('values', single).items()}
        if values:
            sides[name] = Side(values, told)
    return sides


def verdict(found: Optional[Compared]) -> str:
    """Return the verdict on a claim that the contender is better, from its difference in pairs."""
    if found is None:
        return 'not tried'
    if found.low is None:
        return 'undecided: one seed'
    return 'supported' if found.low > 0 else 'not supported' if found.high < 0 else 'undecided'


def told(values: Mapping[int, float]) -> str:
    """Return the mean and the sample's standard deviation."""
    if not values:
        return NOTHING
    mean = f'{statistics.mean(values.values()):.2f}'
    return f'{mean} ± {statistics.stdev(values.values()):.2f}' if len(values) > 1 else mean


def case_cells(case: Case, sides: Mapping[str, Side]) -> List[str]:
    """Return the cells of a comparison: what, published, budget, seeds, baseline, contender, difference, verdict."""
    nobody = Side({}, NOTHING)
    contender, baseline = (sides.get(name, nobody) for name in (case.contender, case.baseline))
    if contender.budget != baseline.budget:  # trained differently: no comparison
        contender = baseline = nobody
    found = paired(contender.values, baseline.values)
    seeds = sorted(contender.values.keys() & baseline.values.keys())
    difference = NOTHING if found is None else f'{found.difference:+.2f}'
    if found is not None and found.low is not None:
        difference += f' ({found.low:+.2f} to {found.high:+.2f})'
    return [
        f'`{case.contender}` against `{case.baseline}`',
        case.published or NOTHING,
        contender.budget if found is not None else NOTHING,
        ', '.join(map(str, seeds)) or NOTHING,
        told(baseline.values),
        told(contender.values),
        difference,
        verdict(found),
    ]


def claims_table(root: Path) -> str:
    """Return the table of claims, with the budget of each trial below it."""
    studies = dict.fromkeys(case.study for claim in CLAIMS for case in claim.cases)
    sides = {study: shipped(root, study) or tried(root, study) for study in studies}
    head = ('claim', 'source', 'networks', 'published', 'budget', 'seeds', 'baseline', 'contender', 'difference')
    lines = [f'| {" | ".join(head)} | verdict |', f'|{" --- |" * 5}{" ---: |" * 4} --- |']
    for claim in CLAIMS:
        lead = [f'{claim.paper}: {claim.says}', claim.source]
        for case in claim.cases:
            lines.append(f'| {" | ".join([*lead, *case_cells(case, sides[case.study])])} |')
            lead = ['', '']
    budgets = [f'- `{study}`: {budget_of(root, study)}' for study in studies if tried(root, study)]
    return '\n'.join([*lines, '', *budgets])


def sizes_table(root: Path) -> str:
    """Return every size that a paper or its code prints, beside ours."""
    lines = ['| table | network | quantity | printed | counted | |', '| --- | --- | --- | ---: | ---: | --- |']
    for name, folder in folders(root).items():
        for row in rows_of(root, folder):
            for kind, (printed, equal) in printed_sizes(row).items():
                counted = f'{getattr(row, kind):,}'
                said = {'params': 'parameters', 'macs': 'multiply-adds'}[kind]
                cells = (name, row.header['title'], said, printed, counted, 'equal' if equal else 'differs')
                lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def deletion_table(root: Path) -> str:
    """Return how much covering parts of images costs each network, by the stage whose heat map is used."""
    try:
        rows: List[Dict[str, Any]] = read_json(root / DELETION, ROWS)
    except (OSError, ValueError) as error:
        raise UserError(f'{DELETION} cannot be read: {error}; tools/check_explanations.py --json writes it') from error
    lines = [
        '| network | heat map of | images | score lost: hottest fifth covered | as large a part elsewhere |',
        '| --- | --- | ---: | ---: | ---: |',
    ]
    for row in rows:
        lost = {cover: row['covers'][cover]['lost'] for cover in ('hottest', 'shifted')}
        figures = ' | '.join(f'{value:.3f}' for value in lost.values())
        lines.append(f'| `{row["network"]}` | {row["stage"]} | {row["images"]} | {figures} |')
    return '\n'.join(lines)


TABLES = {'claims': claims_table, 'sizes': sizes_table, 'deletion': deletion_table}


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    page = args.update or args.check
    if page is None:
        print(claims_table(_bootstrap.ROOT))
        return
    tables = {name: TABLES[name](_bootstrap.ROOT) for name in wanted_tables(page, list(TABLES))}
    settle(page, tables, args.check is not None, f'python tools/claims_table.py --update {page}')


if __name__ == '__main__':
    run_main(main)
