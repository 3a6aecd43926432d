"""Read recipes as rows of their papers' tables: what their headers say, and the sizes of their networks."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from common.schema import read_json
from environment import UserError
from model import count, get_model, input_size
from training.tasks.cifar import CifarTask
from training.tasks.imagenet import ImagenetTask

__all__ = [
    'Row',
    'budget_of',
    'folders',
    'header_of',
    'printed_sizes',
    'rows_of',
    'summary_of',
    'table_of',
    'trial_file',
    'trial_of',
]

STUDY = 'study.yaml'  # the study in a folder of recipes
TASKS = {'train_cifar': CifarTask, 'train_imagenet': ImagenetTask}
CLASSES = {'cifar10': 10, 'cifar100': 100, 'imagenet': 1000}
TRIALS = Path('results/trials')
COLUMNS = ('row', 'published', 'command', 'parameters', 'multiply-adds', 'trial')
NOTHING = '–'  # where there is no figure


@dataclass(frozen=True)
class Row:
    """One recipe.

    Attributes:
        path: relative to the project's folder.
        header: the lines of its leading comment by their first word; the first line is ``title``.
        params, macs: those of its network; None for detectors, for which the papers print none.
    """

    path: Path
    header: Mapping[str, str]
    params: Optional[int]
    macs: Optional[int]

    @property
    def command(self) -> str:
        return re.sub(r'\s*\\\s*', ' ', self.header['Command']).split(' --rec-')[0].split(' --data-dir')[0]


def header_of(file: Path) -> Dict[str, str]:
    """Return the parts of a recipe's leading comment by the word before their colon."""
    text = file.read_text(encoding='utf-8')
    # A part may continue on lines that are indented like its first.
    said = re.findall(r'^# (\w+(?: run)?): +(.+(?:\n#           .+)*)$', text, re.MULTILINE)
    title = re.match(r'# (.+?)\.?\n', text)
    return {'title': title.group(1) if title else '', **{word: re.sub(r'\n# +', ' ', line) for word, line in said}}


def folders(root: Path) -> Dict[str, Path]:
    """Return the folders of recipes that stand for tables, by names such as ``dianet-reduction``."""
    found = sorted(file.parent for file in (root / 'recipes').glob(f'*/*/{STUDY}'))
    return {f'{folder.parent.name}-{folder.name}'.replace('_', '-'): folder for folder in found}


def _cost(script: str, file: Path) -> Any:
    if script not in TASKS:
        return None, None
    settings = importlib.import_module(script).make_parser().parse(['--config', str(file)])
    classes = CLASSES[settings.values().get('dataset', 'imagenet')]
    name, options = TASKS[script](settings).choose(classes)
    side = input_size(name)
    return count(get_model(name, **options), (1, 3, side, side))


@lru_cache(maxsize=None)  # a page asks for each folder twice: for its own table, and for the summary of its paper
def rows_of(root: Path, folder: Path) -> List[Row]:
    """Return the recipes of a folder, the smallest networks first."""
    rows = []
    for file in sorted(file for file in folder.glob('*.yaml') if file.name != STUDY):
        header = header_of(file)
        script = re.match(r'python (\w+)\.py', header['Command']).group(1)
        rows.append(Row(file.relative_to(root), header, *_cost(script, file)))
    return sorted(rows, key=lambda row: (row.params or 0, row.path.name))


def trial_file(root: Path, name: str) -> Path:
    return root / TRIALS / f'{name}.json'


#: A file of a trial: how the networks were trained, and their figures in per cent; `values` are those of each seed.
TRIAL = {
    'flags': str,
    'swap': {...: str},
    'seeds': [int],
    'rows': {...: {'mean': float, 'spread': (float, None), 'values?': {...: float}}},
}


def trial_of(root: Path, name: str) -> Optional[Dict[str, Any]]:
    """Return a trial's file, as :data:`TRIAL` describes it; None if there was no trial."""
    file = trial_file(root, name)
    if not file.exists():
        return None
    try:
        return read_json(file, TRIAL)
    except ValueError as error:
        raise UserError(f'{file} is damaged: {error}; run tools/paper_table.py --take again') from error


def budget_of(root: Path, name: str) -> str:
    """Return the flags of a trial that was run, as code."""
    found = trial_of(root, name)
    seeds, swaps = found['seeds'], ','.join(f'{old}={new}' for old, new in found['swap'].items())
    return f"`--seeds {','.join(map(str, seeds))} {f'--swap {swaps} ' if swaps else ''}--flags '{found['flags']}'`"


def _trial(root: Path, name: str) -> Tuple[Dict[str, str], str]:
    """Return the results of a small trial by the recipe's name, and a sentence that states its budget.

    Both are empty if there was no trial.
    """
    found = trial_of(root, name)
    if found is None:
        return {}, ''
    spread = '; mean ± standard deviation' if len(found['seeds']) > 1 else ''
    figures = {
        row: f'{each["mean"]:.1f} %' + (f' ± {each["spread"]:.1f}' if each['spread'] is not None else '')
        for row, each in found['rows'].items()
    }
    return figures, f'Trial: {budget_of(root, name)}{spread}.'


#: The units in which papers print sizes, and the factor that each stands for.
UNITS = {
    'params': {'M parameters': 1e6, 'parameters': 1},
    'macs': {'G operations': 1e9, 'multiply-adds': 1},
}


def _printed(row: Row, kind: str) -> Optional[Tuple[str, str, bool]]:
    """Return the size that the paper prints, its unit, and whether ours rounds to it; None if it prints none."""
    for unit, scale in UNITS[kind].items():
        found = re.search(rf'([\d.,]+) {unit}', row.header.get('Printed', ''))
        if found:
            digits = found.group(1).replace(',', '')
            decimals = len(digits.partition('.')[2])
            return found.group(1), unit, round(getattr(row, kind) / scale, decimals) == float(digits)
    return None


def printed_sizes(row: Row) -> Dict[str, Tuple[str, bool]]:
    """Return what the paper prints of a row's `params` and `macs`, with its unit, and whether ours rounds to it."""
    found = {kind: _printed(row, kind) for kind in UNITS if getattr(row, kind) is not None}
    return {kind: (f'{one[0]} {one[1]}', one[2]) for kind, one in found.items() if one is not None}


def _size(row: Row, kind: str) -> str:
    value = getattr(row, kind)
    if value is None:
        return NOTHING
    shown = f'{value:,}' if kind == 'params' else f'{value / 1e6:,.1f} M'
    printed = _printed(row, kind)
    if printed is None:
        return shown
    prefix = printed[1].split(' ')[0] if ' ' in printed[1] else ''
    return f'{shown} =' if printed[2] else f'{shown} (printed: {f"{printed[0]} {prefix}".strip()})'


def _figure(row: Row) -> Optional[str]:
    """Return the published figure of the row, or None if it is unknown."""
    found = re.match(r'(?:AP )?\d[\d.]*(?: %)?(?= top-1|,)', row.header['Expected'])
    return found and found.group(0)


def table_of(root: Path, name: str, folder: Path) -> str:
    """Return the Markdown table of a folder of recipes; the columns are :data:`COLUMNS`."""
    trials, budget = _trial(root, name)
    lines = [f'| {" | ".join(COLUMNS)} |', '| --- | --- | --- | ---: | ---: | ---: |']
    for row in rows_of(root, folder):
        cells = (
            row.header['title'],
            _figure(row) or NOTHING,
            f'`{row.command}`',
            _size(row, 'params'),
            _size(row, 'macs'),
            trials.get(row.path.stem, ''),
        )
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*lines, '', budget] if budget else lines)


def summary_of(root: Path, paper: str) -> str:
    """Return a Markdown table of a paper's tables: how many rows each has, and what is known of them."""
    lines = [
        '| table | rows | with published figure | size as printed | with small trial |',
        '| --- | ---: | ---: | ---: | ---: |',
    ]
    total = [0] * 4
    for name, folder in folders(root).items():
        if folder.parent.name == paper:
            rows, (trials, _) = rows_of(root, folder), _trial(root, name)
            equal = sum(bool((_printed(row, 'params') or (0, 0, False))[2]) for row in rows if row.params is not None)
            counts = [len(rows), sum(_figure(row) is not None for row in rows), equal, len(trials)]
            total = [one + other for one, other in zip(total, counts)]
            lines.append(
                f'| [{folder.name}](../{folder.relative_to(root).as_posix()}) | {" | ".join(map(str, counts))} |'
            )
    return '\n'.join([*lines, f'| all | {" | ".join(map(str, total))} |'])
