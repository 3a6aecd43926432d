"""Make the tables of networks in README and docs/: parameters, multiply-adds, accuracy, and what params/ contains.

    python tools/model_table.py                      # print the backbones, and units x backbones x connections
    python tools/model_table.py 'dca_*resnet50*'     # print the networks whose names match
    python tools/model_table.py --update docs/networks.md   # update the tables that a Markdown file has markers for
    python tools/model_table.py --check README.md           # fail with status 1 if they are out of date

All numbers are counted on the networks or read from the manifests in params/; none is typed by hand.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import os
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from _readme import settle, wanted_tables
from common.files import write_json
from common.usage import described
from training.config.flags import output_file
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='model_table.py', **described(__doc__))
    parser.add_argument(
        'pattern', nargs='?', help="names of the networks to print, such as 'dca_*' (default: the tables)"
    )
    parser.add_argument('--params-dir', type=Path, default=_bootstrap.ROOT / 'params', help='folder of parameter files')
    parser.add_argument('--update', type=Path, metavar='FILE', help='update the tables in this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='fail if the tables in this file are out of date')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the rows to this file')
    args = parser.parse_args(argv)
    flag = '--update' if args.update else '--check'
    if args.update and args.check:
        raise UsageError('--update and --check are both given; give one of them')
    if args.pattern is not None and (args.update or args.check):
        raise UsageError(f'{flag} concerns whole tables; leave out {args.pattern!r}')
    return args


answer_flags(__name__, parse)
require_mxnet()

from _peers_table import peers_table
from _weights_table import weights_table

from _detector_table import detector_rows, detector_table
from model import count, get_model, input_size, list_models
from model.attention import ATTENTIONS, CONNECTIONS
from model.grammar import attention_names, split_name
from model.parameters.pretrained import same_network, trained_in
from model.published import PUBLISHED

# Rows of the table of compositions: members of every family that takes attention units.
COMPOSED = (
    'resnet18_v1b',
    'resnet50_v1b',
    'mobilenet_v2',
    'mnasnet1_0',
    'cifar_resnet20_v2',
    'cifar_resnet164bn_v1',
    'cifar_preresnet164',
    'cifar_wrn52_4',
    'cifar_resnext101_8x32d',
)
NO_PLACE = '–'
TABLES = (
    'networks',
    'compositions',
    'detectors',
    'trained',
    'results',  # the part of 'trained' whose parameters are included
    'weights',
    'peers',
)


Row = Dict[str, Any]


def backbone_of(name: str) -> str:
    """Return the name without activation, attention and connection.

    For ``cifar_atac_se_resnet20_v2`` this is ``cifar_resnet20_v2``.
    """
    parsed = split_name(name)
    lead = 'cifar_' if parsed.row.cifar else ''
    connection = next((word for word, kind in CONNECTIONS.items() if kind == parsed.connection), None)
    words = ('atac' if parsed.act_type == 'atac' else None, connection, parsed.unit)
    return lead + name[len(lead + ''.join(f'{word}_' for word in words if word)) :]


def composed(backbone: str, part: str) -> str:
    """Return the name of ``backbone`` with ``part``, such as ``'dca_se_'`` or ``'atac_'``."""
    lead = 'cifar_' if split_name(backbone).row.cifar else ''
    return lead + part + backbone[len(lead) :]


def row_of(name: str) -> Row:
    """Return the figures of a network, built with its own published options or else those of its backbone."""
    options: Dict[str, Any] = {}
    for published in (PUBLISHED.get(backbone_of(name)), PUBLISHED.get(name)):
        options.update(published.options if published else {})
    own, side = PUBLISHED.get(name), input_size(name)
    cost = count(get_model(name, **options), (1, 3, side, side))
    return {
        'model': str(name),
        'options': options,
        'input': side,
        'params': cost.params,
        'macs': cost.macs,
        'published_top1': own and own.accuracy,
        'paper': own and own.paper,
    }


def backbones() -> List[str]:
    """Return the listed networks without attention units and with their own activation."""
    return [str(name) for name in list_models() if name == backbone_of(name)]


def readme_names() -> List[str]:
    """Return every network in the tables of networks and compositions."""
    names = [composed(name, act) for name in backbones() for act in ('', 'atac_')]
    names += [composed(name, part) for name in COMPOSED for part in attention_names(split_name(name).row) if part]
    return names


def percent(top1: float) -> str:
    return f'{top1:g}' if top1 % 1 else f'{top1:.1f}'


def top1_of(row: Row, data: bool = True) -> str:
    """Return a network's published top-1 on each data set, '' if there is none."""
    results = (row['published_top1'] or {}).items()
    return ', '.join(f'{percent(top1)} %' + (f' ({dataset})' if data else '') for dataset, top1 in results)


def counts(row: Row) -> str:
    return f'{row["params"]:,} | {row["macs"] / 1e6:,.1f} M'


def flat_table(rows: Sequence[Row]) -> str:
    lines = ['| network | input | parameters | multiply-adds | published top-1 |', '| --- | --- | ---: | ---: | --- |']
    lines += [f'| `{row["model"]}` | {row["input"]} | {counts(row)} | {top1_of(row)} |' for row in rows]
    return '\n'.join(lines)


def network_table(rows: Mapping[str, Row]) -> str:
    """Return a table of the backbones, plain and with ATAC."""
    lines = [
        '| network | input | parameters | multiply-adds | published top-1 | with ATAC: parameters | multiply-adds '
        '| published top-1 |',
        '| --- | --- | ---: | ---: | --- | ---: | ---: | --- |',
    ]
    for name in backbones():
        plain, atac = rows[name], rows[composed(name, 'atac_')]
        cells = f'{plain["input"]} | {counts(plain)} | {top1_of(plain)} | {counts(atac)} | {top1_of(atac, data=False)}'
        lines.append(f'| `{name}` | {cells} |')
    return '\n'.join(lines)


def four_digits(value: float) -> str:
    return f'{value:#.4g}'.rstrip('.')


def composition_table(rows: Mapping[str, Row]) -> str:
    """Return units x backbones, a table for each quantity; a cell shows the unit alone / with DCA / shared."""

    def cell(backbone: str, parts: Sequence[str], show: Callable[[Row], str]) -> str:
        found = [rows.get(composed(backbone, part)) for part in parts]
        shown = [(show(row) if row else '') or NO_PLACE for row in found]
        return ' / '.join(shown) if any(text != NO_PLACE for text in shown) else NO_PLACE

    columns = {
        'none': [''],
        '`atac`': ['atac_'],
        **{f'`{u}`': [f'{u}_', f'dca_{u}_', f'share_{u}_'] for u in ATTENTIONS},
    }
    columns['`dia`'] = ['dia_']
    tables = []
    for title, kinds, show in (
        ('Parameters, M', 3, lambda row: four_digits(row['params'] / 1e6)),
        ('Multiply-adds, G', 3, lambda row: four_digits(row['macs'] / 1e9)),
        # No published figures of shared units are known.
        ('Published top-1, %', 2, lambda row: ', '.join(map(percent, (row['published_top1'] or {}).values()))),
    ):
        body = {name: [cell(name, parts[:kinds], show) for parts in columns.values()] for name in COMPOSED}
        # Most have no published figure: leave out rows and columns without any.
        body = {name: cells for name, cells in body.items() if any(text != NO_PLACE for text in cells)}
        kept = [i for i in range(len(columns)) if any(cells[i] != NO_PLACE for cells in body.values())]
        lines = [[title, *(list(columns)[i] for i in kept)], ['---', *('---:' for _ in kept)]]
        lines += [[f'`{name}`', *(cells[i] for i in kept)] for name, cells in body.items()]
        tables.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
    return '\n\n'.join(tables)


def trained_rows(folder: Path) -> List[Row]:
    """Return the manifest of each run that is shipped in ``folder``, with its file, folder and data set."""
    stray = [path for path in sorted(folder.rglob('*.params')) if not path.with_suffix('.json').exists()]
    if stray:
        raise UserError(f'{stray[0]}: has no manifest beside it; tools/ship_params.py writes one')
    return [
        {
            'file': run.path.relative_to(folder.parent).as_posix() if run.path.exists() else None,
            'folder': run.path.parent.relative_to(folder.parent).as_posix(),
            'name': run.dataset,
            **run.manifest,
        }
        for run in trained_in(folder)
    ]


def published_of(row: Row) -> Optional[float]:
    """Return the published accuracy of the row's network, options and data set in per cent, or None."""
    published = PUBLISHED.get(row['model'])
    if published is None or row['name'] not in published.accuracy:
        return None
    options = {'classes': row['classes'], **published.options}
    same = same_network(get_model, row['model'], row['model_kwargs'], options)
    return published.accuracy[row['name']] if same else None


def spread(values: Sequence[float]) -> str:
    """Return the mean and the sample's standard deviation of shares, as ``87.12 ± 0.15 %``; one value stands alone."""
    mean = f'{100 * statistics.mean(values):.2f}'
    return f'{mean} ± {100 * statistics.stdev(values):.2f} %' if len(values) > 1 else f'{mean} %'


def trained_line(runs: Sequence[Row], lead: str = '') -> str:
    """Return the line for the runs of one folder, which differ in their seeds; ``lead`` precedes links to files."""
    row, side = runs[0], runs[0]['preprocessing']['size']
    cost = count(get_model(row['model'], **row['model_kwargs']), (1, 3, side, side))
    options = ', '.join(f'{key}={value}' for key, value in row['model_kwargs'].items() if key != 'classes')
    shown = f'`{row["model"]}`' + (f' `{options}`' if options else '')
    file = next((run['file'] for run in runs if run['file']), None)
    published = published_of(row)
    return ' | '.join(
        [
            f'| [{shown}]({lead}{file})' if file else f'| {shown}',
            counts({'params': cost.params, 'macs': cost.macs}),
            ', '.join(str(run['seed']) for run in runs),
            spread([run['accuracy']['top1'] for run in runs]),
            f'{percent(published)} % |' if published is not None else '|',
        ]
    )


def order_of(runs: Sequence[Row]) -> Any:
    """Return the sort key of a line: by backbone, the plain network first, then units in the order of their table."""
    name = runs[0]['model']
    backbone = backbone_of(name)
    parts = [act + part for part in attention_names(split_name(name).row) for act in ('', 'atac_')]
    return backbone, [composed(backbone, part) for part in parts].index(name), runs[0]['folder']


def trained_table(rows: Sequence[Row], lead: str = '', included: bool = False) -> str:
    """Return a table for each data set and way of training: its networks, with their accuracy over the seeds.

    Args:
        rows: what `trained_rows` returned.
        lead: what precedes links to files.
        included: a network is left out unless there are parameters of it.
    """
    folders: Dict[str, List[Row]] = {}
    for row in rows:
        folders.setdefault(row['folder'], []).append(row)
    kinds: Dict[Any, List[List[Row]]] = {}
    for runs in folders.values():
        if included and not any(run['file'] for run in runs):
            continue
        optimizer = runs[0].get('settings', {}).get('optimizer', 'nag')
        way = '' if optimizer == 'nag' else f' with `--optimizer {optimizer}`'
        kinds.setdefault((runs[0]['data'], -runs[0]['epochs'], way), []).append(runs)
    tables = []
    for (data, epochs, way), groups in sorted(kinds.items()):
        lines = [
            f'{data}, {-epochs} epochs{way}:',
            '',
            '| network | parameters | multiply-adds | seeds | top-1 | published |',
            '| --- | ---: | ---: | --- | ---: | ---: |',
        ]
        lines += [trained_line(runs, lead) for runs in sorted(groups, key=order_of)]
        tables.append('\n'.join(lines))
    return '\n\n'.join(tables)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    trained, target = trained_rows(args.params_dir), args.update or args.check
    wanted = set(TABLES[:3] if target is None else wanted_tables(target, TABLES))  # raises before anything is counted
    names: Sequence[str] = []
    if args.pattern is not None:
        names = list_models(args.pattern)
        if not names:
            raise UserError(f'{args.pattern}: no network has such a name; list_models() returns the names')
    elif args.json or wanted & {'networks', 'compositions'}:
        names = readme_names()
    rows = {str(name): row_of(name) for name in dict.fromkeys(names)}
    detectors = detector_rows() if args.pattern is None and (args.json or 'detectors' in wanted) else []
    if args.json:
        found = {'networks': list(rows.values()), 'detectors': detectors, 'trained': trained}
        write_json(args.json, found)
    if args.pattern is not None:
        print(flat_table(list(rows.values())))
        return 0
    # Links are relative to the page.
    here = args.params_dir.resolve().parent
    way = '.' if target is None else os.path.relpath(str(here), str(target.resolve().parent)).replace(os.sep, '/')
    lead = '' if way == '.' else f'{way}/'
    makers = {
        'networks': lambda: network_table(rows),
        'compositions': lambda: composition_table(rows),
        'detectors': lambda: detector_table(detectors),
        'trained': lambda: trained_table(trained, lead),
        'results': lambda: trained_table(trained, lead, included=True),
        'weights': weights_table,
        'peers': peers_table,
    }
    tables = {name: makers[name]() for name in TABLES if name in wanted}
    if target is None:
        print('\n\n'.join(tables.values()))
        return 0
    settle(target, tables, bool(args.check), f'python tools/model_table.py --update {target}')
    return 0


if __name__ == '__main__':
    run_main(main)
