"""The README's tables: networks with parameters, multiply-adds and published accuracy; and what params/ holds.

    python scripts/model_table.py                      # print the table of networks
    python scripts/model_table.py 'cifar_*'            # of those whose names match
    python scripts/model_table.py --update README.md   # write both tables between the markers of a Markdown file
    python scripts/model_table.py --check README.md    # status 1 when they are out of date

Everything is counted on the networks or read from the manifests in params/; nothing is typed by hand.
"""

from __future__ import annotations

import _bootstrap
from environment import UserError, require_mxnet, run_main

require_mxnet()

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from environment.files import atomic_write
from model import count, get_model, input_size, list_models, read_manifest

MARKERS = ('<!-- table: {} -->', '<!-- end of table -->')


def network_rows(pattern: str) -> List[Dict[str, Any]]:
    """One dictionary per listed network."""
    rows = []
    for name in list_models(pattern):
        side = input_size(name)
        options = name.published.options if name.published else {}  # such as CIFAR-100's classes
        cost = count(get_model(name, **options), (1, 3, side, side))
        rows.append(
            {
                'model': str(name),
                'input': side,
                'params': cost.params,
                'macs': cost.macs,
                'published_top1': name.accuracy,
                'paper': name.paper,
            }
        )
    return rows


def network_table(rows: Sequence[Dict[str, Any]]) -> str:
    lines = ['| network | input | parameters | multiply-adds | published top-1 |', '| --- | --- | ---: | ---: | --- |']
    for row in rows:
        published = ', '.join(f'{top1:g} % ({dataset})' for dataset, top1 in (row['published_top1'] or {}).items())
        lines.append(
            f'| `{row["model"]}` | {row["input"]} | {row["params"]:,} | {row["macs"] / 1e6:,.1f} M | {published} |'
        )
    return '\n'.join(lines)


def trained_rows(folder: Path) -> List[Dict[str, Any]]:
    """One dictionary per parameter file in ``folder``, from its manifest."""
    rows = []
    for path in sorted(folder.rglob('*.params')):
        manifest = read_manifest(path)
        if manifest is None:
            raise UserError(f'{path}: has no manifest beside it; training writes one, restore it or remove the file')
        rows.append({'file': path.relative_to(folder.parent).as_posix(), **manifest})
    return rows


def trained_table(rows: Sequence[Dict[str, Any]]) -> str:
    lines = [
        '| file | network | data | epochs | seed | top-1 | top-5 |',
        '| --- | --- | --- | ---: | ---: | ---: | ---: |',
    ]
    for row in rows:
        top1, top5 = (100 * row['accuracy'][key] for key in ('top1', 'top5'))
        data = row.get('data', row['dataset'])
        lines.append(
            f'| [{Path(row["file"]).name}]({row["file"]}) | `{row["model"]}` | {data} | {row["epoch"] + 1} '
            f'| {row["seed"]} | {top1:.2f} % | {top5:.2f} % |'
        )
    return '\n'.join(lines)


def replace_tables(text: str, tables: Dict[str, str], path: Path) -> str:
    """Return ``text`` with each table put between its markers."""
    for name, table in tables.items():
        begin, end = MARKERS[0].format(name), MARKERS[1]
        start = text.find(begin)
        stop = text.find(end, start)
        if start < 0 or stop < 0:
            raise UserError(f'{path}: has no table {name!r}; put it where you want it: {begin} {end}')
        text = f'{text[: start + len(begin)]}\n\n{table}\n\n{text[stop:]}'
    return text


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('pattern', nargs='?', default='*', help='which networks to print (default: all)')
    parser.add_argument('--params-dir', type=Path, default=_bootstrap.ROOT / 'params', help='folder of parameter files')
    parser.add_argument('--update', type=Path, metavar='FILE', help='write the tables into this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='status 1 when the tables in FILE are out of date')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the rows there')
    args = parser.parse_args(argv)

    rows = network_rows(args.pattern)
    if not rows:
        raise UserError(f'{args.pattern}: no network is called so; list_models() has the names')
    trained = trained_rows(args.params_dir)
    if args.json:
        text = json.dumps({'networks': rows, 'trained': trained}, indent=2) + '\n'
        atomic_write(args.json, lambda file: file.write(text.encode()))
    target = args.update or args.check
    if target is None:
        print(network_table(rows))
        return 0
    if not target.is_file():
        raise UserError(f'{target}: there is no such file; give a Markdown file with the markers of the tables')
    old = target.read_text(encoding='utf-8')
    new = replace_tables(old, {'networks': network_table(rows), 'trained': trained_table(trained)}, target)
    if args.update and new != old:
        atomic_write(target, lambda file: file.write(new.encode()))
    if args.check and new != old:
        raise UserError(f'{target}: its tables are out of date; run python scripts/model_table.py --update {target}')
    return 0


if __name__ == '__main__':
    run_main(main)
