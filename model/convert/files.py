"""Read and write state dictionaries: PyTorch's files, .safetensors and NumPy's .npz, without their frameworks.

The format is recognised from the first bytes, not from the name. Readers trust nothing: they detect damaged and hostile
files, and never allocate more memory than a file holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Mapping, Union

import numpy as np

from common.files import atomic_write, explained
from common.safe_pickle import PickleError
from common.text import printable
from environment import UserError
from model.convert.load import plain_state
from model.convert.npz import decode_npz
from model.convert.safetensors import decode_safetensors, is_safetensors, write_safetensors
from model.convert.stored import Archive
from model.convert.torch_file import is_row_of_pickles, read_archive, read_row_of_pickles
from model.convert.torch_writer import write_torch_file
from model.parameters.file_format import read_params_file, write_params_file

__all__ = ['check_written_suffix', 'read_state', 'write_state']

_LONGEST_REASON = 200  # characters
_FLOATS = ('float16', 'float32', 'float64')


def _savez(file: BinaryIO, state: Mapping[str, np.ndarray]) -> None:
    np.savez(file, **state)


WRITERS: Dict[str, Callable[[BinaryIO, Mapping[str, np.ndarray]], None]] = {
    '.pth': write_torch_file,
    '.pt': write_torch_file,
    '.safetensors': write_safetensors,
    '.npz': _savez,
    '.params': write_params_file,  # MXNet's, for originals in Gluon
}


def _decode(data: bytes) -> Any:
    """Return the content of a file in any of the formats.

    Raises ``ValueError`` for other files, and for damaged ones.
    """
    if data[:2] == b'PK':
        archive = Archive(data)
        is_torch = any(name == 'data.pkl' or name.endswith('/data.pkl') for name in archive.names)
        return read_archive(archive) if is_torch else decode_npz(archive)
    if is_row_of_pickles(data):
        return read_row_of_pickles(data)
    if is_safetensors(data):
        return decode_safetensors(data)
    if data[257:262] == b'ustar':
        raise ValueError('it is a tar archive, as PyTorch wrote before version 0.1.10; save it again with a later one')
    raise ValueError('it is neither a PyTorch file nor .safetensors or .npz')


def _reason(error: Exception) -> str:
    """Return an error's message as one line; its words may come from the file."""
    words = printable(' '.join(str(error).split()))
    return words if len(words) <= _LONGEST_REASON else f'{words[:_LONGEST_REASON]}...'


def read_state(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of a file: PyTorch's, ``.safetensors``, ``.npz``, or MXNet's ``.params``.

    Of a whole checkpoint only the state dictionary is taken (:func:`model.convert.load.plain_state`). Arrays may share
    memory and cannot be written to. Raises ``UserError`` if the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if path.suffix == '.params':
        with explained('read', path), open(path, 'rb'):
            pass
        return read_params_file(path)
    with explained('read', path):
        data = path.read_bytes()
    try:
        return plain_state(_decode(data), str(path))
    except PickleError as error:
        raise UserError(
            f'{path}: cannot be read as mere tensors: {_reason(error)}; fetch it again or, if you trust it, save '
            'only its state dictionary: torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW)'
        ) from error
    except (ValueError, OverflowError, MemoryError) as error:  # the latter two of NumPy, for an absurd shape
        raise UserError(f'{path}: not an intact file of arrays: {_reason(error)}; fetch or save it again') from error


def check_written_suffix(path: Union[str, Path]) -> None:
    """Raise ``UserError`` if :func:`write_state` does not know the format that the file's name asks for."""
    if Path(path).suffix not in WRITERS:
        raise UserError(f'{path}: a state dictionary is written to {", ".join(WRITERS)}; name the file so')


def write_state(path: Union[str, Path], state: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` of floats to a file named as one of :data:`WRITERS`, as a whole or not at all."""
    check_written_suffix(path)
    for name, array in state.items():
        if array.dtype.name not in _FLOATS:
            raise ValueError(f'{name} is of type {array.dtype}: allowed are {", ".join(_FLOATS)}')
    atomic_write(path, lambda file: WRITERS[Path(path).suffix](file, state))
