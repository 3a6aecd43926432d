"""The code of MXNet's operators: compiled once, then taken from the file, never out of date or damaged."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from environment import operator_code

TEXT = 'def scaled(x, factor=2):\n    r"""doc"""\n    assert x, "return nothing"\n    return call({}, x, factor)'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'dont_write_bytecode', False)
    monkeypatch.setattr(sys, 'pycache_prefix', None)
    monkeypatch.setattr(operator_code, '_kept', None)
    return tmp_path


def start(place, address, text=TEXT):
    """Do what a process that imports MXNet does, and return the result of its operator."""
    module = ModuleType('mxnet.ndarray.register')
    module.__spec__ = ModuleSpec(module.__name__, None, origin=str(place / 'mxnet' / 'ndarray' / 'register.py'))
    module.call = lambda *arguments: arguments
    operator_code.keep_code(module)
    names = {}
    module.exec(text.format(address), None, names)
    operator_code.write_code()
    return names['scaled'](5)


def compiled(monkeypatch):
    """Return a list that collects the sources that are compiled from now on."""
    texts = []
    monkeypatch.setattr(operator_code, 'compile', lambda text, *rest: texts.append(text) or compile(text, *rest), False)
    return texts


def kept(place):
    return list((place / 'mxnet').glob('**/*.code'))


def test_it_is_compiled_once_and_calls_the_operator_of_this_process(place, monkeypatch):
    texts = compiled(monkeypatch)
    (place / 'mxnet').mkdir()
    assert [start(place, address) for address in (123, 456, 789)] == [(123, 5, 2), (456, 5, 2), (789, 5, 2)]
    assert len(texts) == 1
    assert start(place, 1, TEXT.replace('factor=2', 'factor=3')) == (1, 5, 3)
    assert start(place, 2) == (2, 5, 2)
    assert len(texts) == 2
    assert len(kept(place)) == 1


def test_damaged_and_foreign_files_are_written_anew(place, monkeypatch):
    (place / 'mxnet').mkdir()
    start(place, 1)
    (path,) = kept(place)
    sound = path.read_bytes()
    texts = compiled(monkeypatch)
    for position in (0, 5, len(sound) // 2, len(sound) - 1):
        damaged = bytearray(sound)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        assert start(place, 9) == (9, 5, 2)
        assert path.read_bytes() == sound
    for length in (0, 3, 20, len(sound) - 1):
        path.write_bytes(sound[:length])
        assert start(place, 9) == (9, 5, 2)
    assert len(texts) == 8


def test_nothing_is_written_where_bytecode_is_not(place, monkeypatch):
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    (place / 'mxnet').mkdir()
    assert start(place, 1) == (1, 5, 2)
    assert kept(place) == []


def test_a_folder_that_cannot_be_written_is_none_of_the_users_concern(place):
    assert start(place, 1) == (1, 5, 2)  # there is no folder mxnet
    (place / 'mxnet').mkdir()
    (place / 'mxnet' / '__pycache__').touch()
    assert start(place, 1) == (1, 5, 2)


def test_other_texts_are_run_as_they_are(place):
    assert start(place, 'place', TEXT.replace('call({}', 'call("{}"')) == ('place', 5, 2)
