"""The table of other projects' networks in docs/weights.md: ours for each, the licence of its weights, their accuracy.

    python tools/weights_table.py                            # print it
    python tools/weights_table.py --update docs/weights.md   # write it between its markers in a Markdown file
    python tools/weights_table.py --check docs/weights.md    # status 1 when it is out of date

Rows come from the public weights that are known (model/parameters/weights.csv) and from the tests' golden vectors.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import gzip
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from _readme import settle, wanted_tables
from common.usage import described
from training.config.settings import Parser

TABLE = 'weights'
GOLDEN = _bootstrap.ROOT / 'tests' / 'model' / 'golden'
NOT_STATED = '–'


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='weights_table.py', **described(__doc__))
    parser.add_argument('--update', type=Path, metavar='FILE', help='write the table into this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='status 1 when the table in FILE is out of date')
    args = parser.parse_args(argv)
    if args.update and args.check:
        raise UsageError('--update and --check are both given; give one of them')
    return args


answer_flags(__name__, parse)
require_mxnet()

from model.convert import counterpart
from model.convert.tables import SOURCES, table
from model.parameters.weights import Weights, public_weights


class Network(NamedTuple):
    """A network of another project, as far as its own name says which."""

    source: str
    model: str


def golden_networks() -> Iterator[Network]:
    """Yield the networks whose numbers the tests have, by the names that `counterpart` takes."""
    for source in SOURCES:
        if hasattr(table(source), 'counterpart'):
            for path in sorted((GOLDEN / source).glob('*.json.gz')):
                with gzip.open(path, 'rt', encoding='utf-8') as file:
                    golden = json.load(file)
                unit = golden['config'].get('block_args', {}).get('attn_layer')
                yield Network(source, golden['model'] + (f'[{unit}]' if unit else ''))


def ours_of(network: Network, weights: Sequence[Weights]) -> Tuple[str, Mapping[str, Any]]:
    """Our name and the arguments of `get_model`, without the number of classes."""
    if weights:
        name, options = weights[0].network, weights[0].options
    else:
        name, options = counterpart(*network)
    return name, {key: value for key, value in options.items() if key != 'classes'}


def _call(name: str, options: Mapping[str, Any]) -> str:
    return ', '.join([f'`{name}`', *(f'`{key}={value!r}`' for key, value in options.items())])


def _accuracies(weights: Sequence[Weights]) -> str:
    told = [
        f'{row.accuracy:.4g} %' + (f' ({row.tag})' if len(weights) > 1 else '')
        for row in weights
        if row.accuracy is not None
    ]
    return ', '.join(told) or NOT_STATED


def weights_table() -> str:
    """Return the table, a row for each network of each project."""
    rows: Dict[Network, List[Weights]] = {}
    for weights in public_weights():
        rows.setdefault(Network(weights.source, weights.model), []).append(weights)
    checked = set(golden_networks())
    for network in sorted(checked - set(rows)):
        rows[network] = []
    order = list(SOURCES)
    lines = [
        '| source | its network | here | tested | licence of the weights | reported top-1 |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    for network in sorted(rows, key=lambda network: (order.index(network.source), network.model)):
        weights = rows[network]
        licences = list(dict.fromkeys(row.licence or 'not stated' for row in weights))
        lines.append(
            f'| {network.source} | `{network.model}` | {_call(*ours_of(network, weights))} '
            f'| {"logits" if network in checked else "names"} '
            f'| {", ".join(licences) or NOT_STATED} | {_accuracies(weights)} |'
        )
    return '\n'.join(lines)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    target = args.update or args.check
    if target is not None:
        wanted_tables(target, [TABLE])  # told before anything is read
    if not GOLDEN.is_dir():
        raise UserError(f'{GOLDEN}: there is no such folder; run this in a checkout of the project')
    content = weights_table()
    if target is None:
        print(content)
        return 0
    settle(target, {TABLE: content}, bool(args.check), f'python tools/weights_table.py --update {target}')
    return 0


if __name__ == '__main__':
    run_main(main)
