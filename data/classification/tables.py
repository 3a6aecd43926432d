"""Lists of images with their labels: a CSV file of paths and labels, or the `.lst` file of MXNet's im2rec.

    path,label                  one label an image
    path,label,split            and which part it belongs to: train, val, test
    path,label,label            several labels an image, or in one cell as 'cat;dog'; then some may have none
    path,cat,dog                and 1 or 0 below the name of each class

The first line may be a header. Paths are relative to the file's folder.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.files import explained
from common.text import brief, printable
from data.images import SUFFIXES, is_image
from data.recordio.index import class_count, read_class_names, read_list
from data.split_names import held_out, split_of
from environment import UserError

__all__ = ['TABLE_SUFFIXES', 'Table', 'read_table']

TABLE_SUFFIXES = ('.csv', '.tsv', '.lst')
PATHS = ('path', 'file', 'filename', 'file_name', 'filepath', 'image', 'image_path', 'image_name', 'img', 'id')
LABELS = ('label', 'labels', 'class', 'class_name', 'classes', 'category', 'categories', 'tag', 'tags', 'target')
SPLITS = ('split', 'part', 'set', 'subset')
WITHIN = ';|'  # what several labels in one cell may have between them
FLAGS = {'1': True, '1.0': True, 'true': True, '0': False, '0.0': False, 'false': False, '': False}


class Row(NamedTuple):
    """An image: its path as it is written, its labels by name, and its part, 'train', 'val' or 'test', if any."""

    path: str
    labels: Tuple[str, ...]
    part: Optional[str] = None


@dataclass(frozen=True)
class Table:
    """Images that a file lists.

    Attributes:
        name: of the file, for messages.
        paths: where each image is, and `written`, as the file says it.
        labels: (N,) int64, places in `class_names`; (N, K) int64 of 0 and 1 where an image may have several or none.
        parts: 'train', 'val' or 'test' of each; None where nothing says so.
        files: {part: name} where each part has a file of its own.
    """

    name: str
    paths: Tuple[str, ...]
    written: Tuple[str, ...]
    labels: np.ndarray
    class_names: Tuple[str, ...]
    parts: Optional[Tuple[str, ...]] = None
    files: Tuple[Tuple[str, str], ...] = ()

    def held_out(self, split: str = 'val') -> Optional[str]:
        """Return the part that stands for `split`, 'val' or 'test'; None where the file has no parts."""
        if self.parts is None:
            return None
        part = held_out(self.parts, split)
        if part is None or 'train' not in self.parts:
            met = ', '.join(sorted(set(self.parts)))
            raise UserError(f'{self.name} has images of {met} only; add some to train on and some to validate on')
        return part

    def sentence(self, otherwise: str) -> str:
        """Describe which images are which part; without parts `otherwise` says what happens to them."""
        if self.parts is None:
            return printable(f'{self.name}: {len(self.paths)} images, and no part of its own to validate on{otherwise}')
        purposes = {'train': 'for training', 'val': 'for validation', 'test': 'for testing'}
        files = dict(self.files)
        told = [f'{self.parts.count(part)} {purposes[part]}' for part in purposes if part in self.parts]
        beside = [f'{files[part]} is {purposes[part]}' for part in purposes if part in files]
        return printable(f'{self.name}: {", ".join(beside or told)}')


def read_table(path: Path) -> Table:
    """Return what a `.csv`, `.tsv` or `.lst` file lists, with the file of the other part beside it, if there is one.

    Raises:
        UserError: it cannot be read, or a line is malformed; the sentence names it.
    """
    files = _parts_beside(path)
    rows: List[Row] = []
    paths: List[str] = []
    marked = False  # whether each class has a column
    for part, file in files.items():
        read, columns = (_listed(file), False) if file.suffix == '.lst' else _rows(file)
        marked = marked or columns
        rows += [row._replace(part=part) if len(files) > 1 else row for row in read]
        paths += [_place(file.parent, row.path) for row in read]
    if not rows:
        raise UserError(f'{path} names no images; give a line "path,label" for each')
    listed = any(row.part for row in rows)
    if listed and not all(row.part for row in rows):
        row = next(row for row in rows if not row.part)
        raise UserError(f'{path} does not say which part {brief(row.path)} belongs to; write train, val or test')
    names, labels = _labels(path, rows, marked)
    parts = tuple(row.part for row in rows) if listed else None
    named = tuple((part, file.name) for part, file in files.items()) if len(files) > 1 else ()
    return Table(str(path), tuple(paths), tuple(row.path for row in rows), labels, names, parts, named)


def _parts_beside(path: Path) -> Dict[str, Path]:
    """Return {part: file} of train.csv and val.csv, set_train.lst and set_test.lst and the like; `path` is one."""
    found = split_of(path.stem)
    if found is None:
        return {'train': path}
    beside = {}
    for file in sorted(path.parent.glob(f'*{path.suffix}')):
        other = split_of(file.stem)
        if other is not None and other[1] == found[1] and file.is_file():
            beside.setdefault(other[0], file)
    beside[found[0]] = path
    return beside if len(beside) > 1 and 'train' in beside else {'train': path}


def _place(folder: Path, written: str) -> str:
    """Return where an image is; a name without an image's suffix gets the one with which there is a file."""
    place = os.path.join(folder, written)
    if not is_image(written.rpartition('/')[2]) and not os.path.exists(place):
        return next((place + suffix for suffix in sorted(SUFFIXES) if os.path.exists(place + suffix)), place)
    return place


def _listed(path: Path) -> List[Row]:
    return [Row(name, (str(int(label)),)) for _, label, name in read_list(path)]


def _rows(path: Path) -> Tuple[List[Row], bool]:
    """Return the rows of a CSV file, and whether each class has a column; what is between its cells is found out."""
    with explained('read', path):
        content = path.read_bytes()
    try:
        text = content.decode('utf-8-sig')
        first = text.partition('\n')[0]
        delimiter = max(',\t;', key=first.count)
        cells = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path} is not a table in UTF-8 ({error}); give lines "path,label"') from error
    numbered = [(number, row) for number, row in enumerate(cells, 1) if any(row)]
    if not numbered:
        return [], False
    columns = _Columns(path, numbered)
    return [columns.row(number, row) for number, row in numbered[columns.header :]], columns.classes is not None


class _Columns:
    """Which column of a table is what."""

    def __init__(self, path: Path, rows: Sequence[Tuple[int, List[str]]]) -> None:
        self.file, first = path, rows[0][1]
        names = [cell.lower() for cell in first]
        known = (*PATHS, *LABELS, *SPLITS)
        self.header = int(names[0] in known or (not is_image(first[0]) and any(name in known for name in names)))
        if not self.header and not os.path.exists(_place(path.parent, first[0])) and not is_image(first[0]):
            self.header = int(len(rows) > 1 and os.path.exists(_place(path.parent, rows[1][1][0])))
        self.width = len(first)
        self.path = next((names.index(name) for name in PATHS if name in names), 0) if self.header else 0
        self.split = next((names.index(name) for name in SPLITS if name in names), None) if self.header else None
        rest = [i for i in range(self.width) if i not in (self.path, self.split)]
        named = [i for i in rest if self.header and names[i] in LABELS]
        self.labels = named or rest
        body = [row for _, row in rows[self.header :]]
        cells = {cell.lower() for row in body for i, cell in enumerate(row) if i in self.labels}
        marked = self.header and not named and len(self.labels) > 1 and cells <= set(FLAGS)
        self.classes = first if marked else None

    def row(self, number: int, cells: List[str]) -> Row:
        """Return a line as an image. Raises `UserError`, which names it, if it is malformed."""
        where = f'line {number} of {self.file}'
        if len(cells) <= self.path or not cells[self.path] or '\0' in cells[self.path]:
            raise UserError(f'{where} names no image; give lines "path,label"')
        if self.header and (len(cells) < self.width or (self.classes and len(cells) > self.width)):
            raise UserError(f'{where} has {len(cells)} cells, and the first line {self.width}; give it as many')
        part = None
        if self.split is not None:
            found = split_of(cells[self.split])
            if found is None or any(found[1]):
                raise UserError(f'{where} has the part {brief(cells[self.split])!r}; allowed: train, val, test')
            part = found[0]
        if self.classes is not None:
            labels = [self.classes[i] for i in self.labels if FLAGS[cells[i].lower()]]
        else:
            chosen = [*(cells[i] for i in self.labels), *cells[self.width :]] if self.header else cells[1:]
            for mark in WITHIN:
                chosen = [piece.strip() for cell in chosen for piece in cell.split(mark)]
            labels = [label for label in chosen if label]
        return Row(cells[self.path], tuple(dict.fromkeys(labels)), part)


def _labels(path: Path, rows: Sequence[Row], marked: bool) -> Tuple[Tuple[str, ...], np.ndarray]:
    """Return the names of the classes, and what each image has of them: see `Table.labels`.

    Where each class has a column, `marked`, an image may also have none.
    """
    met = {label for row in rows for label in row.labels}
    numbers = all(label.isascii() and label.isdigit() for label in met)
    names = tuple(sorted(met, key=int) if numbers else sorted(met))
    if path.suffix == '.lst':
        told = read_class_names(path)
        names = told or tuple(map(str, range(class_count(np.array(list(map(int, names))), str(path)))))
        rows = [row._replace(labels=names[int(row.labels[0]) :][:1]) for row in rows]
    several = max(len(row.labels) for row in rows) > 1 or (marked and not all(row.labels for row in rows))
    if not names:
        raise UserError(f'{path} gives no image a label; give lines "path,label"')
    place = {name: i for i, name in enumerate(names)}
    if several:
        table = np.zeros((len(rows), len(names)), dtype=np.int64)
        for i, row in enumerate(rows):
            table[i, [place[label] for label in row.labels]] = 1
        return names, table
    bare = next((row for row in rows if not row.labels), None)
    if bare is not None:
        raise UserError(f'{path} gives {brief(bare.path)} no label that there is a name for; give it one, or remove it')
    return names, np.array([place[row.labels[0]] for row in rows], dtype=np.int64)
