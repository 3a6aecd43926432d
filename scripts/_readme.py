"""The tables of the README that scripts write, each between its markers."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from environment import UserError
from environment.files import write_text

__all__ = ['read_page', 'replace_table', 'settle']

MARKERS = ('<!-- table: {} -->', '<!-- end of table -->')


def read_page(path: Path) -> str:
    """A Markdown file's text; `UserError` if there is none."""
    if not path.is_file():
        raise UserError(f'{path}: there is no such file; give a Markdown file with the markers of the tables')
    return path.read_text(encoding='utf-8')


def replace_table(text: str, name: str, table: str, path: Path) -> str:
    """Return ``text`` with the table put between its markers."""
    begin, end = MARKERS[0].format(name), MARKERS[1]
    start = text.find(begin)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        raise UserError(f'{path}: has no table {name!r}; put it where you want it: {begin} {end}')
    return f'{text[: start + len(begin)]}\n\n{table}\n\n{text[stop:]}'


def settle(path: Path, tables: Dict[str, str], check: bool, command: str) -> None:
    """Put the tables into the file, or with ``check`` only see whether they are there: `UserError` with ``command``."""
    old = new = read_page(path)
    for name, table in tables.items():
        new = replace_table(new, name, table, path)
    if new == old:
        return
    if check:
        raise UserError(f'{path}: its tables are out of date; run {command}')
    write_text(path, new)
