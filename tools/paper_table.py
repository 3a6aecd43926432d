"""Make the papers' tables in docs/ from recipes/: what was published, our command, sizes, and small trials.

    python tools/paper_table.py dianet-reduction                    # print the table of recipes/dianet/reduction
    python tools/paper_table.py --update docs/dianet.md             # update the tables that a page has markers for
    python tools/paper_table.py --check docs/dianet.md              # fail with status 1 if they are out of date
    python tools/paper_table.py dianet-reduction --take runs/study  # store a study's results in results/trials/

A folder of recipes with a study.yaml stands for a table. Sizes are counted on the networks; none is typed by hand.
"""

import _bootstrap
from environment import UsageError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import csv
import json
import shlex
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from _readme import settle, wanted_tables
from common.files import make_folder, write_text
from common.schema import read_json
from common.usage import described
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='paper_table.py', **described(__doc__))
    parser.add_argument(
        'table', nargs='?', help='the table to print, PAPER-FOLDER in recipes/ (default: print the names of all)'
    )
    parser.add_argument('--update', type=Path, metavar='FILE', help='update the tables in this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='fail if the tables in this file are out of date')
    parser.add_argument('--take', type=Path, metavar='FOLDER', help='store the results of this finished study')
    args = parser.parse_args(argv)
    asked = [flag for flag in ('update', 'check', 'take') if getattr(args, flag) is not None]
    if len(asked) > 1:
        raise UsageError(f'--{asked[0]} and --{asked[1]} are both given; give one of them')
    if asked and (args.table is None) != (asked[0] != 'take'):
        raise UsageError(
            '--take concerns one table; name it, such as dianet-reduction'
            if asked[0] == 'take'
            else f'--{asked[0]} concerns the tables of a page; leave out {args.table!r}'
        )
    return args


answer_flags(__name__, parse)
require_mxnet()

from _recipes import folders, summary_of, table_of, trial_file


def trial(study: Path) -> Dict[str, Any]:
    """Return the results in a study's folder, with its flags. Raises `UsageError` if it is not a finished study."""
    try:
        made = read_json(study / 'study.json', {'script': str, 'flags': [str], ...: object})
        with open(study / 'summary.csv', encoding='utf-8', newline='') as file:
            rows: List[Dict[str, str]] = list(csv.DictReader(file))
        with open(study / 'results.csv', encoding='utf-8', newline='') as file:
            results = list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise UsageError(f'--take {study} is not a finished study ({error}); give the -o of tools/study.py') from error
    values: Dict[str, Dict[str, float]] = {}
    for result in results:
        figure = next(value for column, value in result.items() if column.endswith('_percent'))
        values.setdefault(result['network'], {})[result['seed']] = float(figure)
    return {
        'flags': shlex.join(made['flags']),
        'swap': made.get('swap', {}),
        'seeds': sorted({int(result['seed']) for result in results}),
        'rows': {
            row['network']: {
                'mean': float(row['mean']),
                'spread': float(row['spread']) if row['spread'] else None,
                'values': values[row['network']],
            }
            for row in rows
        },
    }


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    known = folders(_bootstrap.ROOT)
    page = args.update or args.check
    if page is not None:
        papers = {f'{folder.parent.name}-rows'.replace('_', '-'): folder.parent.name for folder in known.values()}
        names = wanted_tables(page, [*known, *papers])
        tables = {name: table_of(_bootstrap.ROOT, name, known[name]) for name in names if name in known}
        tables.update({name: summary_of(_bootstrap.ROOT, papers[name]) for name in names if name in papers})
        settle(page, tables, args.check is not None, f'python tools/paper_table.py --update {page}')
        return
    if args.table is None:
        print('\n'.join(known))
        return
    if args.table not in known:
        raise UsageError(f'there is no table {args.table!r}; allowed: {", ".join(known)}')
    if args.take is None:
        print(table_of(_bootstrap.ROOT, args.table, known[args.table]))
        return
    file = trial_file(_bootstrap.ROOT, args.table)
    make_folder(file.parent)
    write_text(file, json.dumps(trial(args.take), indent=2) + '\n')


if __name__ == '__main__':
    run_main(main)
