"""State dictionaries in files: PyTorch's own, and NumPy's .npz for machines without PyTorch.

Nothing is unpickled beyond what PyTorch's restricted reader allows: tensors and plain containers.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, Dict, Mapping, Union

import numpy as np

import environment
from environment import UserError
from environment.files import atomic_write, explained
from model.convert.load import plain_state
from model.params_file import read_params_file

__all__ = ['check_written_suffix', 'read_state', 'write_state']

WRITTEN = ('.pth', '.pt', '.npz')


def _read_npz(path: Path) -> Dict[str, np.ndarray]:
    try:
        with open(path, 'rb') as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        # TypeError: a single array (.npy), which is no context manager, under the name of an archive.
        raise UserError(f'{path}: not an intact .npz file of arrays; save it again with numpy.savez') from error


def _read_torch(path: Path) -> Any:
    torch = environment.import_extra('torch')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if 'weights_only' not in str(error) and 'Unsupported' not in str(error):
            raise UserError(f'{path}: not an intact file of PyTorch; fetch or save it again') from error
        raise UserError(
            f'{path}: holds more than tensors, which loading safely refuses; where you trust the file, save its '
            'state dictionary alone: torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW)'
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f'{path}: not an intact file of PyTorch; fetch or save it again') from error


def read_state(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of a file: ``.npz``, MXNet's ``.params``, or PyTorch's whatever its name.

    Of a whole checkpoint only the state dictionary is taken (:func:`model.convert.load.plain_state`). ``UserError``
    when the file is missing, damaged, or holds something else; ``SetupError`` when it needs PyTorch and that is not
    installed.
    """
    path = Path(path)
    with explained('read', path), open(path, 'rb'):
        pass
    if path.suffix == '.params':
        return read_params_file(path)
    state = _read_npz(path) if path.suffix == '.npz' else _read_torch(path)
    return plain_state(state, str(path))


def check_written_suffix(path: Union[str, Path]) -> None:
    """Raise ``UserError`` when :func:`write_state` does not know the format by the file's name."""
    if Path(path).suffix not in WRITTEN:
        raise UserError(f'{path}: a state dictionary is written to {", ".join(WRITTEN)}; name the file so')


def write_state(path: Union[str, Path], state: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` for PyTorch (``.pth``, ``.pt``) or NumPy (``.npz``), as a whole or not at all."""
    check_written_suffix(path)
    if Path(path).suffix == '.npz':
        atomic_write(path, lambda file: np.savez(file, **state))
        return
    torch = environment.import_extra('torch')
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}
    atomic_write(path, lambda file: torch.save(tensors, file))
