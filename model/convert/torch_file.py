"""Read PyTorch's files without PyTorch: an archive, or before version 1.6 a sequence of pickles.

Nothing is unpickled (:mod:`common.safe_pickle`): a table lists what a checkpoint may contain, and only the requested
tensors are read. Their places in their storages are checked against what the file contains.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

from common.safe_pickle import NUMPY, PickleError, read_pickle
from model.convert.stored import WIDTHS, Archive, numbers

__all__ = ['Tensor', 'is_row_of_pickles', 'read_archive', 'read_row_of_pickles']

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MOST_DIMENSIONS = 32

_STORAGES = {
    'FloatStorage': 'f32',
    'DoubleStorage': 'f64',
    'HalfStorage': 'f16',
    'BFloat16Storage': 'bf16',
    'LongStorage': 'i64',
    'IntStorage': 'i32',
    'ShortStorage': 'i16',
    'CharStorage': 'i8',
    'ByteStorage': 'u8',
    'BoolStorage': 'bool',
    'ComplexFloatStorage': 'c64',
    'ComplexDoubleStorage': 'c128',
    'UntypedStorage': 'u8',
}
_DTYPES = {
    'float32': 'f32',
    'float64': 'f64',
    'float16': 'f16',
    'bfloat16': 'bf16',
    'int64': 'i64',
    'int32': 'i32',
    'int16': 'i16',
    'int8': 'i8',
    'uint8': 'u8',
    'uint16': 'u16',
    'uint32': 'u32',
    'uint64': 'u64',
    'bool': 'bool',
    'complex64': 'c64',
    'complex128': 'c128',
    'float8_e5m2': 'f8_e5m2',
    'float8_e4m3fn': 'f8_e4m3fn',
    'float8_e5m2fnuz': 'f8_e5m2fnuz',
    'float8_e4m3fnuz': 'f8_e4m3fnuz',
}


class _Kind(NamedTuple):
    """A stand-in for a class of storages or a type of numbers, one of `WIDTHS`."""

    name: str


class _Storage:
    """``size`` numbers in a row, which ``fetch`` gets from the file when they are first asked for."""

    def __init__(self, kind: str, size: int, fetch: Callable[[], bytes]) -> None:
        self.kind, self.size, self._fetch = kind, size, fetch
        self._bytes: Optional[bytes] = None
        self._values: Dict[str, np.ndarray] = {}

    def values(self, kind: str) -> np.ndarray:
        """Return the storage as numbers of the type ``kind``."""
        if self._bytes is None:
            self._bytes = self._fetch()
            if len(self._bytes) != self.size * WIDTHS[self.kind]:
                raise ValueError(f'a storage of {self.size} numbers has {len(self._bytes)} bytes')
        if kind not in self._values:
            self._values[kind] = numbers(kind, self._bytes)
        return self._values[kind]


class Tensor:
    """A tensor's place in its storage: it begins at ``offset`` and continues by ``strides``, both in elements."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, kind: Optional[str] = None) -> None:
        if not isinstance(storage, _Storage):
            raise PickleError('it is damaged (a tensor has no storage)')
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        self.kind = kind or storage.kind

    def _check(self) -> None:
        of_extents = [part for part in (self.shape, self.strides) if isinstance(part, tuple)]
        plain = all(type(number) is int and number >= 0 for number in (self.offset, *sum(of_extents, ())))
        if len(of_extents) < 2 or not plain or not len(self.shape) == len(self.strides) <= _MOST_DIMENSIONS:
            raise ValueError('a tensor has no sound shape, strides and offset')
        size = self.storage.size * WIDTHS[self.storage.kind] // WIDTHS[self.kind]
        end = self.offset + sum((extent - 1) * stride for extent, stride in zip(self.shape, self.strides))
        if 0 not in self.shape and end >= size:
            raise ValueError(f'a tensor of shape {self.shape} reaches beyond its storage')

    def asnumpy(self) -> np.ndarray:
        """Return the tensor as an array, which shares memory with others of its storage.

        Raises ``ValueError`` if it is damaged.
        """
        self._check()
        if 0 in self.shape:
            return np.zeros(self.shape, numbers(self.kind, bytes(16)).dtype)
        values = self.storage.values(self.kind)
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


class _Unused:
    """Stand in for what a checkpoint may hold besides its tensors, and is not needed here."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _rebuilt(storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> Tensor:
    return Tensor(storage, offset, shape, strides)


def _rebuilt_as(
    storage: Any, offset: Any, shape: Any, strides: Any, gradient: Any, hooks: Any, kind: Any, *unused: Any
) -> Tensor:
    if not isinstance(kind, _Kind):
        raise PickleError('it is damaged (a tensor has no type)')
    return Tensor(storage, offset, shape, strides, kind.name)


def _first(first: Any, *unused: Any) -> Any:
    """Return a parameter is a tensor with some remarks."""
    return first


def _rebuilt_from(function: Any, kind: Any, arguments: Any, *unused: Any) -> Tensor:
    """Return a tensor with attributes of its own."""
    if function not in (_rebuilt, _rebuilt_as, _first) or not isinstance(arguments, tuple):
        raise PickleError('it holds a tensor of a class of its own')
    return function(*arguments)


def _table(items: Any = (), *unused: Any) -> Dict[Any, Any]:
    """Stand in for an ordered dictionary, or one with defaults or counts."""
    if isinstance(items, dict):
        return dict(items)
    if not isinstance(items, (list, tuple)):
        return {}  # a function for defaults
    if not all(isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str) for item in items):
        raise PickleError('it is damaged (a table is not a list of pairs)')
    return dict(items)


_NAMES: Dict[Tuple[str, str], Any] = {
    **NUMPY,
    ('torch._utils', '_rebuild_tensor'): _rebuilt,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuilt,
    ('torch._utils', '_rebuild_tensor_v3'): _rebuilt_as,
    ('torch._utils', '_rebuild_parameter'): _first,
    ('torch._utils', '_rebuild_parameter_with_state'): _first,
    ('torch._tensor', '_rebuild_from_type_v2'): _rebuilt_from,
    **{(module, name): _Kind(kind) for name, kind in _STORAGES.items() for module in ('torch', 'torch.storage')},
    **{('torch', name): _Kind(kind) for name, kind in _DTYPES.items()},
    **{('collections', name): _table for name in ('OrderedDict', 'defaultdict', 'Counter')},
    ('torch', 'Size'): lambda *extents: tuple(*extents),
    ('torch', 'Tensor'): _Unused,
    ('torch', 'device'): _Unused,
    ('torch.nn.parameter', 'Parameter'): _Unused,
    ('argparse', 'Namespace'): _Unused,
    ('pathlib', 'PosixPath'): _Unused,
    ('pathlib', 'WindowsPath'): _Unused,
    ('numpy.core.multiarray', 'scalar'): _Unused,
    ('numpy._core.multiarray', 'scalar'): _Unused,
    **{
        (module, name): _Unused
        for module in ('builtins', '__builtin__')
        for name in (
            'bool',
            'bytearray',
            'complex',
            'dict',
            'float',
            'frozenset',
            'int',
            'list',
            'range',
            'set',
            'slice',
        )
    },
}


def _reference(reference: Any) -> Tuple[str, str, int, Any]:
    """Type, key, size and further words of a storage that a pickle refers to."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != 'storage':
        raise PickleError('it holds more than tensors: a whole module')
    _, kind, key, _, size = reference[:5]
    if not isinstance(kind, _Kind) or not isinstance(key, str) or type(size) is not int or size < 0:
        raise PickleError('it is damaged (a storage is described otherwise)')
    return kind.name, key, size, reference[5] if len(reference) == 6 else None


def _check_byte_order(little: bool) -> None:
    if not little:
        raise ValueError('it was written on a machine with big-endian numbers; save it again on another one')


def read_archive(archive: Archive) -> Any:
    """Return what a file of PyTorch 1.6 or later holds, with :class:`Tensor` for tensors.

    Raises ``ValueError`` if it is damaged.
    """
    member = min((name for name in archive.names if name.endswith('data.pkl')), key=len, default='data.pkl')
    folder = member[: -len('data.pkl')]
    if f'{folder}constants.pkl' in archive.names:
        raise ValueError('it holds a program of TorchScript; save the state_dict() of the module instead')
    if f'{folder}byteorder' in archive.names:
        _check_byte_order(archive.read(f'{folder}byteorder') == b'little')
    storages: Dict[str, _Storage] = {}

    def storage(reference: Any) -> _Storage:
        kind, key, size, _ = _reference(reference)
        if key not in storages:
            storages[key] = _Storage(kind, size, lambda: archive.read(f'{folder}data/{key}'))
        return storages[key]

    return read_pickle(io.BytesIO(archive.read(member)), _NAMES, storage)


class _Row:
    """The storages of the format before PyTorch 1.6, which follow the pickles one after the other."""

    def __init__(self) -> None:
        self.storages: Dict[str, _Storage] = {}
        self.contents: Dict[str, bytes] = {}

    def refer(self, reference: Any) -> _Storage:
        kind, key, size, view = _reference(reference)
        if key not in self.storages:
            self.storages[key] = _Storage(kind, size, lambda: self._content(key))
        return self.storages[key] if view is None else self._view(key, kind, view)

    def _content(self, key: str) -> bytes:
        if key not in self.contents:
            raise ValueError(f'the storage {key[:40]} is not there')
        return self.contents[key]

    def _view(self, key: str, kind: str, view: Any) -> _Storage:
        """Return a part of a storage, as versions before 0.4 had them."""
        if not isinstance(view, tuple) or len(view) != 3 or not all(type(n) is int and n >= 0 for n in view[1:]):
            raise PickleError('it is damaged (a part of a storage is described otherwise)')
        start, size = (number * WIDTHS[kind] for number in view[1:])
        return _Storage(kind, view[2], lambda: self._content(key)[start : start + size])

    def fill(self, keys: Any, data: bytes, at: int) -> None:
        """Take from ``data``, from ``at`` on, for each key the number of its numbers and then these."""
        if not isinstance(keys, list) or not all(isinstance(key, str) and key in self.storages for key in keys):
            raise ValueError('its storages are not those of its tensors')
        for key in keys:
            storage = self.storages[key]
            end = at + 8 + storage.size * WIDTHS[storage.kind]
            if end > len(data) or struct.unpack_from('<q', data, at)[0] != storage.size:
                raise ValueError(f'the storage {key[:40]} is cut off or of another size')
            self.contents[key] = memoryview(data)[at + 8 : end]
            at = end
        if at != len(data):
            raise ValueError(f'{len(data) - at} bytes follow its end')


def is_row_of_pickles(data: bytes) -> bool:
    """Return whether the first bytes of a file are those of PyTorch's format before version 1.6."""
    return data[:1] == b'\x80' and _MAGIC.to_bytes(10, 'little') in data[:32]


def read_row_of_pickles(data: bytes) -> Any:
    """Return what a file of PyTorch before 1.6 holds, with :class:`Tensor` for tensors.

    Raises ``ValueError`` if it is damaged.
    """
    file, row = io.BytesIO(data), _Row()
    magic, protocol, system = (read_pickle(file, {}) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
        raise ValueError('its first words are other ones')
    _check_byte_order(system.get('little_endian') is True)
    content = read_pickle(file, _NAMES, row.refer)
    keys = read_pickle(file, {})
    row.fill(keys, data, file.tell())
    return content
