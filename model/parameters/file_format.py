"""Read and write MXNet's parameter files (:mod:`model.parameters.params_format`) with only NumPy.

Writing goes through Python's file object, so a full disk is an error; MXNet's writer reports success there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Dict, Mapping, Union

import numpy as np

from common.text import printable
from environment import UserError
from model.parameters.params_format import ARRAY_V2, CPU, DENSE, FLAG_OF, LIST_MAGIC, decode_params, not_finite

__all__ = ['check_finite', 'read_params_file', 'write_params_file']


def read_params_file(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of a file written by ``mx.nd.save``, ``save_parameters`` or :func:`write_params_file`.

    Raises ``UserError`` if there is no such file, or it is damaged or something else.
    """
    try:
        return decode_params(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); give the path of a .params file') from error
    except ValueError as error:
        raise UserError(
            f'{path}: not an intact MXNet parameter file: {printable(str(error))}; fetch or save it again'
        ) from error


def check_finite(arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """Raise a ``UserError`` that begins with ``origin`` if an array holds a NaN or infinity."""
    found = not_finite(arrays)
    if found is not None:
        raise UserError(
            f'{origin}: {printable(found)}, with which a network answers nothing; take parameters that were saved '
            'before training diverged, or fetch the file again'
        )


def write_params_file(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` as MXNet would; ``file`` is open for binary writing. Equal arrays give equal bytes."""
    file.write(struct.pack('<QQQ', LIST_MAGIC, 0, len(arrays)))
    for name, array in arrays.items():
        if array.dtype not in FLAG_OF or array.ndim == 0:
            raise ValueError(f'{name}: MXNet stores no {array.dtype} array of shape {array.shape}')
        file.write(struct.pack('<IiI', ARRAY_V2, DENSE, array.ndim))
        file.write(struct.pack(f'<{array.ndim}q', *array.shape))
        file.write(struct.pack('<iii', CPU, 0, FLAG_OF[array.dtype]))
        file.write(np.ascontiguousarray(array).tobytes())
    file.write(struct.pack('<Q', len(arrays)))
    for name in arrays:
        encoded = name.encode()
        file.write(struct.pack('<Q', len(encoded)) + encoded)
