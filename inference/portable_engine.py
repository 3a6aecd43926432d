"""Run an exported network with only NumPy and a compiled library. Exported folders contain a copy, as load_engine.py.

    from load_engine import load
    net, info = load()                # load(threads=2)
    logits = net(images)              # (N, 3, H, W) float32 array -> (N, classes); info['preprocessing'] says how

Weights are mapped, not read, so that all processes on a machine share one copy of them. What is damaged, cut or made up
is a ValueError that says which file it is. ``python load_engine.py`` checks all files and prints what the folder holds;
``python load_engine.py compile`` compiles the engine from its source, where the libraries are too new for a system.
"""

import hashlib
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

import numpy as np

from inference.portable_files import AGAIN, DamagedExport, check, content, place, read_info
from kernels.engine.engine_library import Library, OpenPlan

__all__ = ['Network', 'fits', 'load', 'read_plan', 'write_plan']

# A plan's file: this, the table and the weights, each from a page on.
_MAGIC = b'ATTNPLAN'
_HEADER = struct.Struct('<8sqqq32s32s')  # lanes; numbers of the table; weights; digests of the table and the weights
_PAGE = 4096


def _pages(count: int) -> int:
    return -(-count // _PAGE) * _PAGE


def write_plan(file: BinaryIO, library: Library, table: np.ndarray, weights: np.ndarray) -> None:
    """Write a plan, which is for libraries of as many lanes as ``library``."""
    head = (_MAGIC, library.width, table.size, weights.size)
    digests = hashlib.sha256(repr(head).encode() + table.tobytes()), hashlib.sha256(library.digest_of(weights))
    for part in (_HEADER.pack(*head, *(digest.digest() for digest in digests)), table.tobytes(), weights.data):
        file.write(part)
        length = len(part) if isinstance(part, bytes) else part.nbytes
        file.write(b'\0' * (_pages(length) - length))


def read_plan(path: str, library: Library) -> Tuple[np.ndarray, np.ndarray]:
    """Return the table of a plan and its weights, which are mapped.

    ``ValueError`` unless they are as they were written.
    """
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        if size < _PAGE:
            raise DamagedExport(f'{path} is damaged: it ends early; {AGAIN}')
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    magic, lanes, numbers, count, of_table, of_weights = _HEADER.unpack(mapped[: _HEADER.size])
    if magic != _MAGIC or lanes != library.width:
        raise DamagedExport(f'{path} is damaged: it is not a plan for this library; {AGAIN}')
    if not 0 <= numbers <= size // 8 or not 0 <= count <= size // 4:
        raise DamagedExport(f'{path} is damaged: it ends early; {AGAIN}')
    begin = _PAGE + _pages(8 * numbers)
    if begin + _pages(4 * count) != size:
        raise DamagedExport(f'{path} is damaged: its size is not that of its content; {AGAIN}')
    table = np.frombuffer(mapped, np.int64, numbers, _PAGE)
    weights = np.frombuffer(mapped, np.float32, count, begin) if count else np.zeros(0, np.float32)
    head = (magic, lanes, numbers, count)
    found = hashlib.sha256(repr(head).encode() + table.tobytes()), hashlib.sha256(library.digest_of(weights))
    if (of_table, of_weights) != tuple(digest.digest() for digest in found):
        raise DamagedExport(f'{path} is not as it was exported: its digest differs; {AGAIN}')
    return table, weights


class Network:
    """``(N, 3, H, W) float32 -> (N, classes) float32``, arrays of NumPy, with any N."""

    def __init__(self, opened: OpenPlan, shape: Tuple[int, ...]) -> None:
        self.opened, self.shape = opened, shape

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                'images are {}; this network was made for (N, {}, {}, {})'.format(images.shape, *self.shape)
            )
        return self.opened.run(images)


def _instructions() -> List[str]:
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
        for line in file:
            if line.startswith('flags'):
                return line.partition(':')[2].split()
    return []


def _entry(folder: str, info: Dict[str, Any]) -> Dict[str, Any]:
    """Return what export.json says of the plans. Raises ``ValueError`` if it is unusable."""
    files = info.get('files')
    entry = files.get('engine') if isinstance(files, dict) else None
    if entry is None:
        raise ValueError(f'{folder} holds no network for the engine; export it with --kinds engine')
    try:
        shape, sets = entry['input_shape'], entry['sets']
        sound = len(shape) == 4 and all(isinstance(n, int) and 0 < n < 1 << 31 for n in shape) and len(sets) > 0
        for row in sets:
            texts = [row[key] for key in ('name', 'library', 'plan')] + row['needs'] + row['compiler']
            sound = sound and all(isinstance(text, str) for text in texts) and len(row['needs']) > 0
        if not sound or not isinstance(entry['source'], str):
            raise ValueError('input_shape, sets or source')
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedExport(f'{folder}: export.json is damaged ({error}); {AGAIN}') from error
    return entry


def _fitting(folder: str, entry: Dict[str, Any], name: Optional[str] = None) -> Dict[str, Any]:
    """Return the row of a set of instructions; by default the first that the processor has."""
    have = set(_instructions())
    for row in entry['sets']:
        if row['name'] == name or (name is None and set(row['needs']) <= have):
            return row
    names = ', '.join(row['name'] for row in entry['sets'])
    wanted = 'this processor has none of them' if name is None else f'not for {name}'
    raise ValueError(f'{folder} is for processors with {names}, and {wanted}; export it on one like it')


def fits(folder: str, info: Dict[str, Any]) -> bool:
    """Return whether the processor has one of the folder's instruction sets."""
    have = set(_instructions())
    return any(set(row['needs']) <= have for row in _entry(folder, info)['sets'])


def _compiled(folder: str, row: Dict[str, Any], source: bytes) -> str:
    return os.path.join(
        folder, f'compiled-{os.path.basename(row["name"])}-{hashlib.sha256(source).hexdigest()[:16]}.so'
    )


def _library(folder: str, info: Dict[str, Any], entry: Dict[str, Any], row: Dict[str, Any]) -> Library:
    own = _compiled(folder, row, content(folder, entry['source'], info))
    if os.path.exists(own):
        return Library(own)
    content(folder, row['library'], info)
    path = os.path.abspath(place(folder, row['library']))
    try:
        return Library(path)
    except OSError as error:
        again = f'{sys.executable} {os.path.join(folder, "load_engine.py")} compile'
        raise ValueError(f'{path} cannot be loaded here ({error}); run: {again}') from error


def load(
    folder: Optional[str] = None, threads: Optional[int] = None, instructions: Optional[str] = None
) -> Tuple[Network, Dict[str, Any]]:
    """Return ``(net, info)``: the network on ``threads`` threads (default: OMP_NUM_THREADS, or one for each core).

    ``instructions`` is one of the folder's sets, by default the best that the processor has.
    """
    folder = folder or os.path.dirname(os.path.abspath(__file__))
    info = read_info(folder)
    entry = _entry(folder, info)
    row = _fitting(folder, entry, instructions)
    library = _library(folder, info, entry, row)
    path = place(folder, row['plan'])
    table, weights = read_plan(path, library)
    count = threads or int(os.environ.get('OMP_NUM_THREADS') or os.cpu_count() or 1)
    try:
        opened = OpenPlan(library, table, weights, count)
    except ValueError as error:
        raise DamagedExport(f'{path} is damaged: {error}; {AGAIN}') from error
    shape = tuple(entry['input_shape'][1:])
    if opened.inputs != int(np.prod(shape, dtype=np.int64)):
        raise DamagedExport(f'{path} is damaged: it is for images of another size than export.json says; {AGAIN}')
    return Network(opened, shape), info


def compile_here(folder: str) -> str:
    """Compile the engine for this processor beside the folder's files, and return where it lies."""
    info = read_info(folder)
    entry = _entry(folder, info)
    row = _fitting(folder, entry)
    compiler = shutil.which(os.environ.get('CXX', 'g++'))
    if compiler is None:
        raise ValueError('there is no g++; install it, and run this again')
    path = _compiled(folder, row, content(folder, entry['source'], info))
    command = [compiler, *row['compiler'], place(folder, entry['source']), '-o', path + '.new']
    subprocess.run(command, check=True)
    os.replace(path + '.new', path)
    return path


if __name__ == '__main__':
    HERE = os.path.dirname(os.path.abspath(__file__))
    print(compile_here(HERE) if sys.argv[1:] == ['compile'] else json.dumps(check(HERE), indent=2))
