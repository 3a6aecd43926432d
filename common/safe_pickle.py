"""Read pickles of plain data without unpickling: no code that a pickle names is ever looked up.

A pickle is a program that may name and call any importable function. This reader executes its opcodes one by one on
plain containers, numbers and strings. The caller's table lists the permitted names and harmless stand-ins for them;
every other name is refused. The size of the result is bounded by the size of the input.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

__all__ = ['NUMPY', 'Names', 'PickleError', 'StoredArray', 'read_pickle']

Names = Mapping[Tuple[str, str], Any]

_MOST_STEPS = 2_000_000
_LARGEST_INTEGER = 128  # bits
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple, 'EMPTY_DICT': dict, 'EMPTY_SET': list}
# Opcodes whose argument is the value. Strings of Python 2 are decoded as latin1.
_LITERALS = frozenset(
    'BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 '
    'BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8'.split()
)
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_SIMPLE = (str, bytes, int, float, bool, type(None))


class PickleError(ValueError):
    """A pickle that is damaged or needs more than plain data. The message refers to it as 'it'."""


class _Machine:
    """The stack and the memo of the pickle machine."""

    def __init__(self, names: Names, persistent: Optional[Callable[[Any], Any]]) -> None:
        self.names, self.persistent = names, persistent
        self.callable = {id(value) for value in names.values() if callable(value)}
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError('it is damaged (it uses something that it has not made)')
        return self.stack.pop()

    def since_mark(self) -> List[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def named(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in self.names:
            raise PickleError(f'it asks for {module}.{name}, which plain data do not need')
        return self.names[module, name]

    def call(self, function: Any, arguments: Any) -> Any:
        if id(function) not in self.callable or not isinstance(arguments, tuple):
            raise PickleError('it is damaged (it calls what cannot be called)')
        return function(*arguments)

    def set_items(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise PickleError('it is damaged (it fills something other than a table)')
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, _SIMPLE):  # nested ones could exhaust the interpreter's own stack
                raise PickleError(f'a table has a {type(key).__name__} as a key')
            target[key] = value

    def append(self, items: List[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise PickleError('it is damaged (it fills something other than a list)')
        self.stack[-1].extend(items)

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if hasattr(target, '__setstate__') and not isinstance(target, (dict, list, *_SIMPLE)):
            target.__setstate__(state)  # a stand-in's; the attributes of containers are of no use here

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode of those that plain data need; raise `PickleError` for any other."""
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > _LARGEST_INTEGER:
                raise PickleError(f'it holds a number of {argument.bit_length()} bits')
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name in ('BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            self.memo[len(self.memo) if name == 'MEMOIZE' else argument] = self.stack[-1]
        elif name in ('BINGET', 'LONG_BINGET'):
            self.stack.append(self.memo[argument])
        elif name not in _STEPS:
            raise PickleError(f'it uses {name}')
        else:
            _STEPS[name](self, argument)


def _mark(machine: _Machine, _: Any) -> None:
    machine.marks.append(len(machine.stack))


def _persistent(machine: _Machine, _: Any) -> None:
    if machine.persistent is None:
        raise PickleError('it refers to objects outside of it')
    machine.stack.append(machine.persistent(machine.pop()))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.stack.append(machine.call(function, arguments))


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    machine.set_items(items)


def _global(machine: _Machine, argument: Any) -> None:
    machine.stack.append(machine.named(*argument.split(' ', 1)))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(machine.named(module, name))


_STEPS: Dict[str, Callable[[_Machine, Any], Any]] = {
    'PROTO': lambda machine, _: None,
    'FRAME': lambda machine, _: None,
    'MARK': _mark,
    'POP': lambda machine, _: machine.pop(),
    'POP_MARK': lambda machine, _: machine.since_mark(),
    'DUP': lambda machine, _: machine.stack.append(machine.stack[-1]),
    'TUPLE': lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    'LIST': lambda machine, _: machine.stack.append(machine.since_mark()),
    'FROZENSET': lambda machine, _: machine.stack.append(machine.since_mark()),
    'DICT': _dict,
    'APPEND': lambda machine, _: machine.append([machine.pop()]),
    'APPENDS': lambda machine, _: machine.append(machine.since_mark()),
    'ADDITEMS': lambda machine, _: machine.append(machine.since_mark()),
    'SETITEM': lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    'SETITEMS': lambda machine, _: machine.set_items(machine.since_mark()),
    'GLOBAL': _global,
    'STACK_GLOBAL': _stack_global,
    'REDUCE': _reduce,
    'NEWOBJ': _reduce,
    'BUILD': lambda machine, _: machine.build(),
    'BINPERSID': _persistent,
}


def read_pickle(file: io.BytesIO, names: Names, persistent: Optional[Callable[[Any], Any]] = None) -> Any:
    """Return the value of the pickle at the file's position, and move the position past it. Sets become lists.

    Args:
        file: the file to read from.
        names: ``{(module, name): stand-in}``. Callable stand-ins are called where the pickle asks for it, and their
            ``__setstate__`` is called with the object's state.
        persistent: turns a persistent reference, to an object outside of the pickle, into a value.

    Raises:
        PickleError: the pickle is damaged or holds anything but plain data.
    """
    machine = _Machine(names, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == 'STOP':
                return machine.pop()
            if count > _MOST_STEPS:
                raise PickleError(f'it takes more than {_MOST_STEPS} steps')
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are steps, MemoryError too
        reason = ' '.join(str(error).split())[:80]
        raise PickleError(f'it is damaged ({reason or type(error).__name__})') from error
    raise PickleError('it is damaged (it has no end)')


class _Dtype:
    """Stand in for numpy.dtype(name, align, copy)."""

    order = '|'

    def __init__(self, name: Any = '', *flags: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]
        if any(part is not None for part in state[2:5]):
            raise PickleError('it holds an array with fields')


class StoredArray:
    """Stand in for numpy.ndarray, filled from the state (version, shape, dtype, is_fortran, data)."""

    state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def asnumpy(self) -> np.ndarray:
        """Return the numeric array that the state describes; raise `PickleError` for any other."""
        try:
            _, shape, dtype, fortran, data = self.state
            data = data.encode('latin1') if isinstance(data, str) else data
            kind = np.dtype(dtype.name) if isinstance(dtype, _Dtype) and isinstance(dtype.name, str) else np.dtype('O')
            if kind.kind not in 'fiub':
                raise PickleError('an array holds something other than numbers')
            kind = kind.newbyteorder(dtype.order if dtype.order in ('<', '>') else '|')
            return np.frombuffer(data, kind).reshape(shape, order='F' if fortran else 'C')
        except PickleError:
            raise
        except (TypeError, ValueError, MemoryError) as error:
            raise PickleError(f'an array is damaged ({" ".join(str(error).split())[:80]})') from error


def _of_buffer(data: Any, dtype: Any, shape: Any, order: Any, *unused: Any) -> StoredArray:
    """Stand in for the function that NumPy's arrays name in protocol 5."""
    array = StoredArray()
    array.__setstate__((1, shape, dtype, order == 'F', data))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for _codecs.encode, with which Python 3 writes bytes into pickles for Python 2."""
    if encoding != 'latin1':
        raise PickleError(f'it asks for the encoding {encoding!r}')
    return text.encode('latin1')


#: The names of NumPy's arrays of numbers.
NUMPY: Dict[Tuple[str, str], Any] = {
    ('numpy.core.multiarray', '_reconstruct'): lambda *unused: StoredArray(),
    ('numpy._core.multiarray', '_reconstruct'): lambda *unused: StoredArray(),
    ('numpy.core.numeric', '_frombuffer'): _of_buffer,
    ('numpy._core.numeric', '_frombuffer'): _of_buffer,
    ('numpy', 'ndarray'): StoredArray,
    ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _encode,
}
