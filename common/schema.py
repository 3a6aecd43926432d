"""Validate trees read from JSON, YAML or checkpoints against a schema that is plain data.

A schema is one of

| schema | allows |
| --- | --- |
| `str`, `bool`, `np.ndarray`, ... | objects of that type; no bool for `int` and `float`, any number for `float` |
| `None`, `object` | null only; anything |
| `frozenset` | one of its members |
| `re.Pattern` | strings that it matches completely |
| `(schema, schema)` | what either allows |
| `[schema]` | a list of such values |
| `{'key': schema}` | a table with these keys; a key ending in '?' is optional, `...` stands for all other keys |
"""

import json
import os
import re
import reprlib
from pathlib import Path
from typing import Any, Union

__all__ = ['BELOW', 'NAME', 'TABLE', 'check_schema', 'is_below', 'parse_json', 'read_json', 'shown']

TABLE = {...: object}
# Patterns for file names that are read from a file and then opened, written or deleted: none leads out of its folder.
NAME = re.compile(r'(?!\.\.?$)[^/\0]+', re.DOTALL)
BELOW = re.compile(r'(?!/)(?!(.*/)?\.\.(/|$))[^\0]+', re.DOTALL)
_PATTERNS = {NAME: 'the name of a file beside it', BELOW: 'the path of a file below its folder'}
_WORDS = {str: 'a text', int: 'a whole number', float: 'a number', bool: 'true or false', object: 'anything'}


def read_json(path: Union[str, 'os.PathLike[str]'], schema: Any = object, name: str = 'it') -> Any:
    """Return the value in a JSON file.

    Raises:
        ValueError: the file is not JSON or does not match the schema.
        OSError: the file cannot be read.
    """
    return parse_json(Path(path).read_bytes(), schema, name)


def parse_json(content: Union[str, bytes], schema: Any = object, name: str = 'it') -> Any:
    """Return the value of a JSON text; raise `ValueError` if it is not JSON or does not match the schema."""
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'it is not JSON: {" ".join(str(error).split())}') from error
    except ValueError as error:  # a number longer than Python converts
        raise ValueError('it has a number with thousands of digits') from error
    check_schema(value, schema, name)
    return value


def is_below(name: str) -> bool:
    """Return whether a path named in a file stays below the folder that it is relative to."""
    return BELOW.fullmatch(name) is not None


def check_schema(value: Any, schema: Any, name: str = 'it') -> None:
    """Raise `ValueError` naming the first part of `value`, called `name`, that does not match, and what is allowed."""
    if isinstance(schema, tuple):  # if a table is allowed, say what is wrong inside a table
        schema = next((each for each in schema if _is_tree(each) and isinstance(value, type(each))), schema)
    if isinstance(schema, dict) and isinstance(value, dict):
        _check_table(value, schema, name)
    elif isinstance(schema, list) and isinstance(value, list):
        for place, each in enumerate(value):
            check_schema(each, schema[0], f'{name}[{place}]')
    elif not _is(value, schema):
        raise ValueError(f'{name} is {shown(value)}; allowed: {_words(schema)}')


def _is_tree(schema: Any) -> bool:
    return isinstance(schema, (dict, list))


def _check_table(table: Any, schema: Any, name: str) -> None:
    lead = '' if name == 'it' else f'{name}.'
    known = {key.rstrip('?'): key for key in schema if key is not ...}
    for plain, key in known.items():
        if plain in table:
            check_schema(table[plain], schema[key], lead + plain)
        elif plain == key:
            raise ValueError(f'{name} lacks {key}')
    for key in table:
        if key in known:
            continue
        if ... not in schema:
            raise ValueError(f'{name} has the unknown entry {key}')
        check_schema(table[key], schema[...], f'{lead}{key}')


def _is(value: Any, schema: Any) -> bool:
    # `check_schema` checks trees part by part, so one that comes here is not of the kind that its schema is.
    if isinstance(schema, tuple):
        return any(_is(value, each) for each in schema)
    if schema is None or _is_tree(schema):
        return schema is None and value is None
    if isinstance(schema, frozenset):
        return value in tuple(schema)
    if isinstance(schema, re.Pattern):
        return isinstance(value, str) and schema.fullmatch(value) is not None
    if schema in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if schema is float else schema)


def _words(schema: Any) -> str:
    if isinstance(schema, tuple):
        return ' or '.join(map(_words, schema))
    if isinstance(schema, list):
        return 'a list' if schema[0] is object else f'a list, each of {_words(schema[0])}'
    if isinstance(schema, dict):
        return 'a table'
    if isinstance(schema, frozenset):
        return ', '.join(map(str, sorted(schema)))
    if isinstance(schema, re.Pattern):
        return _PATTERNS.get(schema, f'a text such as {schema.pattern}')
    return 'null' if schema is None else _WORDS.get(schema, f'a {getattr(schema, "__name__", schema)}')


def shown(value: Any) -> str:
    """Return a value for a message: on one line, at most 80 characters."""
    text = ' '.join(reprlib.repr(value).split())
    return text if len(text) <= 80 else f'{text[:77]}...'
