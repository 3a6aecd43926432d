"""Text from other people's files: shown as it is, except for what a terminal obeys or no encoding can express."""

import pytest

from common.text import brief, printable


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('dog', 'dog'),
        ('Füchse, 狐, \N{ZERO WIDTH JOINER}', 'Füchse, 狐, \N{ZERO WIDTH JOINER}'),
        ('\x1b[31mred\x07', r'\x1b[31mred\x07'),
        ('a\r\nb\tc\x7f\x9b', r'a\r\nb\tc\x7f\x9b'),
        ('\ud800\udc80', r'\ud800\udc80'),
        ('gnp\u202e.exe\u2028', r'gnp\u202e.exe\u2028'),
        ('', ''),
    ],
)
def test_what_is_shown(text, shown):
    assert printable(text) == shown
    printable(text).encode()


def test_long_texts_are_cut():
    assert brief('\x1b' + 'a' * 100) == r'\x1b' + 'a' * 100
    assert len(brief('a' * 5000)) == len(brief('\x1b' * 100)) == 120
    assert brief('a' * 5000).endswith('a...')
