"""Read the pickles of CIFAR's python version without unpickling (:mod:`common.safe_pickle`)."""

from __future__ import annotations

import io
from typing import Any, Dict

import numpy as np

from common.safe_pickle import NUMPY, PickleError, StoredArray, read_pickle

__all__ = ['PickleError', 'read_batch']


def _bytes(array: StoredArray) -> np.ndarray:
    pixels = array.asnumpy()
    if pixels.dtype != np.uint8 or not pixels.flags.c_contiguous:
        raise PickleError('its arrays are not plain arrays of bytes')
    return pixels


def read_batch(data: bytes) -> Dict[str, Any]:
    """Return the table {'data': uint8 array, 'labels': list, ...} of one CIFAR batch.

    Raises `PickleError` for anything else.
    """
    table = read_pickle(io.BytesIO(data), NUMPY)
    if not isinstance(table, dict):
        raise PickleError('it holds no table')
    return {key: _bytes(value) if isinstance(value, StoredArray) else value for key, value in table.items()}
