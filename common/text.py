"""Texts from files of other people, as they may be shown."""

import csv
import io
import unicodedata
from typing import Any, Iterable, Sequence

__all__ = ['UNDECODED', 'as_csv', 'brief', 'encoded', 'printable']

# Control characters, lone surrogates, and separators of lines and paragraphs.
_HIDDEN = frozenset(('Cc', 'Cs', 'Zl', 'Zp'))
LONG = 120  # letters of a text that is one of several on a line
# What turns the order of the letters after it around.
_TURNING = frozenset('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')
# What stands for bytes of file names that are no UTF-8.
UNDECODED = ''.join(map(chr, range(0xDC80, 0xDD00)))
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ('=', '+', '-', '@', '\uff1d', '\uff0b', '\uff0d', '\uff20')


def printable(text: str, keep: str = '') -> str:
    """The text with an escape in place of each character that a terminal would obey, or that no encoding has, but for
    those to `keep`.
    """
    if text.isascii() and text.isprintable():
        return text
    return ''.join(
        ascii(letter)[1:-1]
        if letter not in keep and (letter in _TURNING or unicodedata.category(letter) in _HIDDEN)
        else letter
        for letter in text
    )


def brief(text: str) -> str:
    """`printable`, and cut where it is longer than anybody reads."""
    text = printable(text[: LONG + 1])
    return text if len(text) <= LONG else f'{text[: LONG - 3]}...'


def encoded(text: str) -> bytes:
    """The text in UTF-8. Bytes of file names that are no UTF-8 are what they were, what else no encoding has becomes an
    escape.
    """
    try:
        return text.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:
        shown = (ascii(each)[1:-1] if '\ud800' <= each <= '\udfff' and each not in UNDECODED else each for each in text)
        return ''.join(shown).encode('utf-8', 'surrogateescape')


def as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of numbers and texts as CSV, also for spreadsheets: texts that they would take for formulas get a ' before
    them, and control characters become escapes.
    """
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerows([[_cell(value) for value in row] for row in (head, *rows)])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = printable(value, keep=UNDECODED)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
