"""Find, write and check the generated tables in README and docs/, each between its markers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Sequence

from common.files import write_text
from environment import UserError

__all__ = ['read_page', 'replace_table', 'settle', 'tables_in', 'wanted_tables']

MARKERS = ('<!-- table: {} -->', '<!-- end of table -->')


def read_page(path: Path) -> str:
    """Return a Markdown file's text. Raises `UserError` if there is no such file."""
    if not path.is_file():
        raise UserError(f'{path}: there is no such file; give a Markdown file that has markers for the tables')
    return path.read_text(encoding='utf-8')


def tables_in(text: str) -> List[str]:
    """Return the names of the tables that a page has markers for, in the page's order."""
    return re.findall(re.escape(MARKERS[0]).replace(r'\{\}', '([a-z0-9-]+)'), text)


def replace_table(text: str, name: str, table: str, path: Path) -> str:
    """Return ``text`` with ``table`` between the markers of ``name``."""
    begin, end = MARKERS[0].format(name), MARKERS[1]
    start = text.find(begin)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        raise UserError(f'{path}: has no table {name!r}; put it where you want it: {begin} {end}')
    return f'{text[: start + len(begin)]}\n\n{table}\n\n{text[stop:]}'


def wanted_tables(path: Path, known: Sequence[str]) -> List[str]:
    """Return which of the ``known`` tables a page has markers for. Raises `UserError` if it has none."""
    found = [name for name in tables_in(read_page(path)) if name in known]
    if not found:
        markers = f'{MARKERS[0].format(known[0])} {MARKERS[1]}'
        raise UserError(f'{path}: has none of the tables {", ".join(known)}; put one where you want it: {markers}')
    return found


def settle(path: Path, tables: Dict[str, str], check: bool, command: str) -> None:
    """Write the tables into the page or, with ``check``, raise a `UserError` that names ``command`` if they differ."""
    old = new = read_page(path)
    for name in wanted_tables(path, list(tables)):
        new = replace_table(new, name, tables[name], path)
    if new == old:
        return
    if check:
        raise UserError(f'{path}: its tables are out of date; run {command}')
    write_text(path, new)
