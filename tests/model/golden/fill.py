"""Make the weights behind the golden vectors: every array follows from its parameter's name and shape."""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def files(system):
    return sorted((FOLDER / system).glob('*.json.gz'))


def read(path):
    with gzip.open(path, 'rt', encoding='utf-8') as file:
        return json.load(file)


def fill(name, shape):
    """Return the float32 array that the parameter called ``name`` holds in the golden vectors."""
    shape = tuple(shape)
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith('running_var'):
        value = 1 + 0.1 * np.abs(z)
    elif name.endswith('running_mean'):
        value = 0.1 * z
    elif len(shape) >= 2:
        fan_in = np.prod(shape[1:])
        value = z * np.sqrt((2.0 if len(shape) == 4 else 1.0) / fan_in)
    elif name.endswith(('bias', 'beta')):
        value = 0.1 * z
    elif len(shape) == 1 and shape[0] > 1:
        value = 1 + 0.1 * z
    else:
        value = 0.5 + 0.1 * z
    return np.asarray(value, dtype=np.float32)


def state(golden):
    """Return ``{name: array}`` of a golden file, with its gain applied."""
    gain = np.float32(golden.get('gain') or 1)
    arrays = {name: fill(name, shape) for name, shape in golden['state']}
    return {name: array * gain if array.ndim >= 2 else array for name, array in arrays.items()}


def golden_input(golden):
    return np.random.RandomState(0).standard_normal(golden['input_shape']).astype(np.float32)
