"""What a file must hold, said as data: the one check of trees that were read from JSON, YAML or a checkpoint.

A form is

| form | what it allows |
| --- | --- |
| `str`, `bool`, `np.ndarray`, ... | objects of that type; no bool for `int` and `float`, whole numbers for `float` |
| `None`, `object` | nothing but null; anything |
| `frozenset` | one of its members |
| `re.Pattern` | texts that fit it as a whole |
| `(form, form)` | what one of them allows |
| `[form]` | a list of such values |
| `{'key': form}` | a table with these keys; a key that ends with '?' may be missing, `...` is for all keys not named |
"""

import json
import os
import re
import reprlib
from pathlib import Path
from typing import Any, Union

__all__ = ['BELOW', 'NAME', 'TABLE', 'check_form', 'is_below', 'parse_json', 'read_json', 'shown']

TABLE = {...: object}
# Names that a file may give to others, which are then opened, written or deleted: none leads out of its folder.
NAME = re.compile(r'(?!\.\.?$)[^/\0]+', re.DOTALL)
BELOW = re.compile(r'(?!/)(?!(.*/)?\.\.(/|$))[^\0]+', re.DOTALL)
_PATTERNS = {NAME: 'the name of a file beside it', BELOW: 'a path of a file below its folder'}
_WORDS = {str: 'a text', int: 'a whole number', float: 'a number', bool: 'true or false', object: 'anything'}


def read_json(path: Union[str, 'os.PathLike[str]'], form: Any = object, name: str = 'it') -> Any:
    """The value that a file in JSON holds; `ValueError` if it is none, or not of this form, `OSError` where it cannot
    be read.
    """
    return parse_json(Path(path).read_bytes(), form, name)


def parse_json(content: Union[str, bytes], form: Any = object, name: str = 'it') -> Any:
    """The value that JSON says; `ValueError` if it is none, or not of this form."""
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'it is no JSON: {" ".join(str(error).split())}') from error
    except ValueError as error:  # a number longer than Python converts
        raise ValueError('it has a number of thousands of digits') from error
    check_form(value, form, name)
    return value


def is_below(name: str) -> bool:
    """Whether a path that a file names stays below the folder that it counts from."""
    return BELOW.fullmatch(name) is not None


def check_form(value: Any, form: Any, name: str = 'it') -> None:
    """`ValueError` with the first place of `value`, called `name`, that is not as `form` says, and what is allowed."""
    if isinstance(form, tuple):  # a table is told what is wrong with it as a table, if one is allowed
        form = next((each for each in form if _is_tree(each) and isinstance(value, type(each))), form)
    if isinstance(form, dict) and isinstance(value, dict):
        _check_table(value, form, name)
    elif isinstance(form, list) and isinstance(value, list):
        for place, each in enumerate(value):
            check_form(each, form[0], f'{name}[{place}]')
    elif not _is(value, form):
        raise ValueError(f'{name} is {shown(value)}; allowed: {_words(form)}')


def _is_tree(form: Any) -> bool:
    return isinstance(form, (dict, list))


def _check_table(table: Any, form: Any, name: str) -> None:
    lead = '' if name == 'it' else f'{name}.'
    known = {key.rstrip('?'): key for key in form if key is not ...}
    for plain, key in known.items():
        if plain in table:
            check_form(table[plain], form[key], lead + plain)
        elif plain == key:
            raise ValueError(f'{name} lacks {key}')
    for key in table:
        if key in known:
            continue
        if ... not in form:
            raise ValueError(f'{name} has the unknown entry {key}')
        check_form(table[key], form[...], f'{lead}{key}')


def _is(value: Any, form: Any) -> bool:
    # What is a tree as its form is has been checked part by part before.
    if isinstance(form, tuple):
        return any(_is(value, each) for each in form)
    if form is None or _is_tree(form):
        return form is None and value is None
    if isinstance(form, frozenset):
        return value in tuple(form)
    if isinstance(form, re.Pattern):
        return isinstance(value, str) and form.fullmatch(value) is not None
    if form in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if form is float else form)


def _words(form: Any) -> str:
    if isinstance(form, tuple):
        return ' or '.join(map(_words, form))
    if isinstance(form, list):
        return 'a list' if form[0] is object else f'a list, each of {_words(form[0])}'
    if isinstance(form, dict):
        return 'a table'
    if isinstance(form, frozenset):
        return ', '.join(map(str, sorted(form)))
    if isinstance(form, re.Pattern):
        return _PATTERNS.get(form, f'a text such as {form.pattern}')
    return 'null' if form is None else _WORDS.get(form, f'a {getattr(form, "__name__", form)}')


def shown(value: Any) -> str:
    """A value for a message: on one line, of 80 characters at most."""
    text = ' '.join(reprlib.repr(value).split())
    return text if len(text) <= 80 else f'{text[:77]}...'
