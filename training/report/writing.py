"""The report as a file: written once, at the end of a run, and never at the run's cost."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Callable, List, Sequence

from common.files import atomic_write
from common.html import escape, page, section
from common.text import printable
from environment import UserError
from training.report import chart, sections
from training.report.sections import Section

__all__ = ['write_report']

SUMMARY = 'Summary'  # what the part without a title is called


def write_report(path: Path, title: str, parts: Sequence[Section], log: Callable[..., None], style: str = '') -> bool:
    """Write the page; whether all of it could be drawn and written.

    A part that fails is replaced by a sentence that says so, which goes to the log too, with the traceback in the
    file: a page without a part is better than none, and the run is worth more than its page. `log(line, console)` is a
    `training.logging.text_log.RunLog`.
    """
    body: List[str] = []
    whole = True
    for part in parts:
        try:
            drawn = part.draw()
        except Exception as error:
            whole = False
            sentence = (
                f'the part {part.title or SUMMARY!r} of {path} could not be drawn ({type(error).__name__}: {error})'
            )
            _tell(log, f'{sentence}; the run itself is not affected')
            for line in traceback.format_exc().splitlines():
                _tell(log, line, console=False)
            drawn = f'<p>{escape(sentence)}</p>'
        if drawn:
            body.append(section(part.title, drawn) if part.title else drawn)
    content = page(title, '\n'.join(body), chart.STYLE + sections.STYLE + style)
    try:
        atomic_write(path, lambda file: file.write(content))
    except UserError as error:
        _tell(log, f'{error}; the run itself is complete')
        return False
    return whole


def _tell(log: Callable[..., None], line: str, console: bool = True) -> None:
    try:
        log(line, console)
    except UserError as error:  # the disk of the log is full too
        if console:
            print(printable(f'{line} ({error})'))
