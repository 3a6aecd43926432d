"""Make text from other people's files safe to show."""

import csv
import io
import unicodedata
from typing import Any, Iterable, Sequence

__all__ = ['UNDECODED', 'as_csv', 'brief', 'encoded', 'printable']

# Control characters, lone surrogates, and separators of lines and paragraphs.
_HIDDEN = frozenset(('Cc', 'Cs', 'Zl', 'Zp'))
LONG = 120  # characters of a text that shares its line with other text
# Characters that reverse the direction of the text after them.
_TURNING = frozenset('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')
# Stand-ins for bytes of file names that are not UTF-8.
UNDECODED = ''.join(map(chr, range(0xDC80, 0xDD00)))
# Characters with which a formula begins in a spreadsheet.
_FORMULA = ('=', '+', '-', '@', '\uff1d', '\uff0b', '\uff0d', '\uff20')


def printable(text: str, keep: str = '') -> str:
    """Return the text with escapes for characters that a terminal would obey or that cannot be encoded.

    Characters in `keep` stay.
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
    """Return the text as `printable` does, cut to `LONG` characters."""
    text = printable(text[: LONG + 1])
    return text if len(text) <= LONG else f'{text[: LONG - 3]}...'


def encoded(text: str) -> bytes:
    """Return the text in UTF-8.

    Bytes of file names that are not UTF-8 are restored; anything else that cannot be encoded is escaped.
    """
    try:
        return text.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:
        shown = (ascii(each)[1:-1] if '\ud800' <= each <= '\udfff' and each not in UNDECODED else each for each in text)
        return ''.join(shown).encode('utf-8', 'surrogateescape')


def as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows of numbers and strings as CSV that is safe for spreadsheets.

    Strings that a spreadsheet would take for formulas get a leading apostrophe; control characters are escaped.
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
