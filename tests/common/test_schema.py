"""Schemas of trees: what matches, and what the error says of what does not."""

import pytest

from common.schema import BELOW, NAME, TABLE, check_schema, is_below, read_json

FORM = {
    'name': str,
    'size?': int,
    'scores?': {...: float},
    'rows?': ([{'n': int}], None),
    'mode?': frozenset(['a', 'b']),
}


@pytest.mark.parametrize(
    'value',
    [
        {'name': 'a'},
        {'name': 'a', 'size': 3, 'scores': {'x': 1, 'y': 0.5}, 'rows': None},
        {'name': '', 'mode': 'b', 'scores': {}, 'rows': [{'n': 1}]},
    ],
)
def test_what_fits_is_allowed(value):
    check_schema(value, FORM)


@pytest.mark.parametrize(
    ('value', 'sentence'),
    [
        ([], r'it is \[\]; allowed: a table'),
        (None, 'it is None; allowed: a table'),
        ({}, 'it lacks name'),
        ({'name': 3}, 'name is 3; allowed: a text'),
        ({'name': 'a', 'size': True}, 'size is True; allowed: a whole number'),
        ({'name': 'a', 'size': 1.0}, 'size is 1.0; allowed: a whole number'),
        ({'name': 'a', 'scores': {'x': False}}, 'scores.x is False; allowed: a number'),
        ({'name': 'a', 'scores': [1]}, r'scores is \[1\]; allowed: a table'),
        ({'name': 'a', 'rows': [{'n': 1}, {}]}, r'rows\[1\] lacks n'),
        ({'name': 'a', 'rows': [1]}, r'rows\[0\] is 1; allowed: a table'),
        ({'name': 'a', 'rows': 1}, 'rows is 1; allowed: a list, each of a table or null'),
        ({'name': 'a', 'mode': ['a']}, r"mode is \['a'\]; allowed: a, b"),
        ({'name': 'a', 'more': 1}, 'it has the unknown entry more'),
        ({'name': ['long' * 100] * 3}, 'name is .{,80}; allowed: a text'),
    ],
)
def test_what_does_not_fit_is_named(value, sentence):
    with pytest.raises(ValueError, match=f'^{sentence}$'):
        check_schema(value, FORM)


def test_a_table_of_anything_is_a_table():
    check_schema({'a': [1], 2: None}, TABLE)
    with pytest.raises(ValueError, match='table'):
        check_schema('a', TABLE, 'settings')


@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (b'', 'it is not JSON: Expecting value'),
        (b'{"a":', 'it is not JSON'),
        (b'\xff', 'it is not JSON'),
        (b'[' * 100_000, 'it is nested too deeply'),
        (b'5', 'it is 5; allowed: a table'),
    ],
)
def test_a_file_that_is_no_table_in_json(tmp_path, content, sentence):
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_json(tmp_path / 'a.json', TABLE)


def test_a_file_in_json(tmp_path):
    (tmp_path / 'a.json').write_text('{"a": [1, "é"]}', encoding='utf-8')
    assert read_json(tmp_path / 'a.json', {'a': list}) == {'a': [1, 'é']}
    with pytest.raises(OSError, match='No such file'):
        read_json(tmp_path / 'absent.json')


@pytest.mark.parametrize(
    ('name', 'plain', 'below'),
    [
        *((name, True, True) for name in ('a', 'a.json', '..a', 'a..', '...', 'ä b', 'a\n', '\udcff', 'a\\..')),
        *((name, False, True) for name in ('a/b', 'a/..b/c', 'a//b', 'a/', '.', './a', 'a/...')),
        *((name, False, False) for name in ('', '..', '../a', 'a/..', 'a/../b', 'a\n/../b', '\n/..')),
        *((name, False, False) for name in ('/', '/a', '//a', 'a\0')),
    ],
)
def test_names_that_lead_out_of_their_folder(name, plain, below):
    assert (NAME.fullmatch(name) is not None, is_below(name)) == (plain, below)


def test_a_name_of_another_form_is_told():
    schema = {'file': NAME, 'more?': [BELOW]}
    check_schema({'file': 'a', 'more': ['a/b']}, schema)
    for value, sentence in (
        ({'file': '../a'}, "file is '../a'; allowed: the name of a file beside it"),
        ({'file': 5}, 'file is 5; allowed: the name of a file'),
        ({'file': 'a', 'more': ['/a']}, r"more\[0\] is '/a'; allowed: the path of a file below its folder"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_schema(value, schema)
