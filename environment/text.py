"""Texts from files of other people, as they may be shown."""

import unicodedata

__all__ = ['brief', 'printable']

# Control characters, lone surrogates, and separators of lines and paragraphs.
_HIDDEN = frozenset(('Cc', 'Cs', 'Zl', 'Zp'))
LONG = 120  # letters of a text that is one of several on a line
# What turns the order of the letters after it around.
_TURNING = frozenset('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')


def printable(text: str) -> str:
    """The text with an escape in place of each character that a terminal would obey, or that no encoding has."""
    if text.isascii() and text.isprintable():
        return text
    return ''.join(
        ascii(letter)[1:-1] if letter in _TURNING or unicodedata.category(letter) in _HIDDEN else letter
        for letter in text
    )


def brief(text: str) -> str:
    """`printable`, and cut where it is longer than anybody reads."""
    text = printable(text[: LONG + 1])
    return text if len(text) <= LONG else f'{text[: LONG - 3]}...'
