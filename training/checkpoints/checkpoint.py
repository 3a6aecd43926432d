"""Checkpoints on disk: complete or absent, checked bit by bit when they are read, and never unpickled.

A checkpoint is one file:

| bytes | content |
| --- | --- |
| 12 | `MAGIC` |
| 4 | version of this layout, little-endian |
| 8 | length of the payload, little-endian |
| 32 | SHA-256 of all other bytes of the file |
| the rest | the payload: an uncompressed `.npz` with the arrays and, as member `tree`, JSON in UTF-8 |

In the JSON `{"__array__": "a7"}` stands for the member `a7`. Programs that read zip archives, unzip for one,
take such a file as it is.
"""

import hashlib
import io
import json
import logging
import os
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Tuple, Union

import numpy as np

from common.files import atomic_write, explained, make_folder
from common.schema import check_schema
from environment import UserError

__all__ = [
    'CheckpointStore',
    'DamagedCheckpoint',
    'decode_checkpoint',
    'encode_checkpoint',
    'read_checkpoint',
    'require_schema',
    'write_checkpoint',
]

MAGIC = b'\x89checkpoint\n'
VERSION = 1
_HEAD = struct.Struct('<12sIQ')
_DIGEST = 32
_ARRAY = '__array__'
_NAME = re.compile(r'checkpoint-(\d+)-epoch-\d+-batch-\d+\.ckpt')

logger = logging.getLogger(__name__)


class DamagedCheckpoint(ValueError):
    """Not an intact checkpoint of a version that we can read; the message completes 'PATH ...'."""


def _encode(node: Any, arrays: Dict[str, np.ndarray], where: str) -> Any:
    """Convert `node` to JSON values; its arrays are added to `arrays`, under the names that replace them."""
    if isinstance(node, np.ndarray):
        if node.dtype.hasobject:
            raise TypeError(f'{where} is an array of Python objects, which cannot be saved without pickle')
        name = f'a{len(arrays)}'
        arrays[name] = node
        return {_ARRAY: name}
    if isinstance(node, np.generic) and isinstance(node.item(), (bool, int, float, str)):
        return node.item()
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    if isinstance(node, list):
        return [_encode(child, arrays, f'{where}[{i}]') for i, child in enumerate(node)]
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str) or key == _ARRAY:
                raise TypeError(f'{where} has the key {key!r}; keys are strings other than {_ARRAY!r}')
        return {key: _encode(child, arrays, f'{where}[{key!r}]') for key, child in node.items()}
    kinds = 'dict, list, arrays, numbers, strings and None'
    raise TypeError(f'{where} is a {type(node).__name__}; a state holds {kinds}')


def _decode(node: Any, arrays: Dict[str, np.ndarray]) -> Any:
    if isinstance(node, list):
        return [_decode(child, arrays) for child in node]
    if isinstance(node, dict):
        return arrays[node[_ARRAY]] if _ARRAY in node else {k: _decode(v, arrays) for k, v in node.items()}
    return node


def encode_checkpoint(state: Any) -> Tuple[bytes, bytes, bytes]:
    """Return the parts of the file of `state`.

    A tree of dict (string keys), list, NumPy arrays, numbers, strings and None.

    NumPy scalars come back as Python's. Raises `TypeError` for anything else in the tree.
    """
    arrays: Dict[str, np.ndarray] = {}
    tree = json.dumps(_encode(state, arrays, 'state'))
    payload = io.BytesIO()
    np.savez(payload, tree=np.frombuffer(tree.encode(), np.uint8), **arrays)
    content = payload.getvalue()
    head = _HEAD.pack(MAGIC, VERSION, len(content))
    digest = hashlib.sha256(head)
    digest.update(content)
    return head, digest.digest(), content


def write_checkpoint(path: Union[str, Path], state: Any) -> None:
    """Save `state` atomically. Raises `TypeError` (see `encode_checkpoint`), `UserError` for a full disk and so on."""
    parts = encode_checkpoint(state)

    def write(file: BinaryIO) -> None:
        for part in parts:
            file.write(part)

    atomic_write(path, write)


def _check(file: BinaryIO) -> None:
    """Raise `DamagedCheckpoint` unless `file` is a checkpoint with every bit in place. Reads it in blocks."""
    head = file.read(_HEAD.size)
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise DamagedCheckpoint('is not a checkpoint of this project or its first bytes are damaged')
    if len(head) < _HEAD.size:
        raise DamagedCheckpoint(f'is cut off after {len(head)} bytes')
    _, version, length = _HEAD.unpack(head)
    if version != VERSION:
        raise DamagedCheckpoint(f'has format version {version}, and this program reads version {VERSION}')
    size, expected_size = file.seek(0, os.SEEK_END), _HEAD.size + _DIGEST + length
    file.seek(_HEAD.size)
    if size != expected_size:
        raise DamagedCheckpoint(f'has {size} bytes instead of {expected_size}')
    expected = file.read(_DIGEST)
    digest = hashlib.sha256(head)
    for block in iter(lambda: file.read(1 << 20), b''):
        digest.update(block)
    if digest.digest() != expected:
        raise DamagedCheckpoint('is damaged: its checksum does not match its content')


def read_checkpoint(path: Union[str, Path]) -> Any:
    """Return the state saved in `path`, bit for bit.

    Raises `DamagedCheckpoint` if it is not a checkpoint or a single bit of it has changed, `OSError` if it cannot be
    read.
    """
    with open(path, 'rb') as file:
        return decode_checkpoint(file)


def decode_checkpoint(file: BinaryIO) -> Any:
    """Return the state of the checkpoint that fills `file`. Raises `DamagedCheckpoint`."""
    _check(file)
    file.seek(_HEAD.size + _DIGEST)
    try:
        with np.load(file, allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
        return _decode(json.loads(arrays.pop('tree').tobytes().decode()), arrays)
    except Exception as error:
        # The checksum fits, so another program wrote this; zipfile, json and NumPy raise a dozen types.
        raise DamagedCheckpoint(f'has foreign content ({type(error).__name__}: {error})') from error


def require_schema(state: Any, form: Any, source: Union[str, Path], advice: str = 'name another file') -> None:
    """Raise `UserError` unless `state` is of this form (`common.schema`): another program may have written the file."""
    try:
        check_schema(state, form)
    except ValueError as error:
        raise UserError(f'{source} is not a valid checkpoint of such a run: {error}; {advice}') from error


class CheckpointStore:
    """The newest few checkpoints of a run in one folder.

    Arguments: `folder` is created when the first checkpoint is saved; `keep` is how many checkpoints are kept.

    Files are numbered in the order of saving, so the newest is the one saved last, even after a run has gone back to an
    older one. A new file is complete and on disk before an old one is deleted.
    """

    def __init__(self, folder: Union[str, Path], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f'keep is {keep}, and must be at least 1')
        self.folder = Path(folder)
        self.keep = keep
        self._damaged: List[Path] = []  # damaged files found by load_newest, which are ignored

    def _numbered(self) -> List[Tuple[int, Path]]:
        """Return number and path of the checkpoint files, newest first."""
        if not self.folder.exists():
            return []
        with explained('list the folder', self.folder):
            matches = [(_NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return sorted(((int(match.group(1)), path) for match, path in matches if match), reverse=True)

    def paths(self) -> List[Path]:
        """Return the checkpoint files in the folder, newest first; they may be damaged."""
        return [path for _, path in self._numbered()]

    def save(self, state: Any, epoch: int, batch: int, spared: Optional[Path] = None) -> Path:
        """Save `state` (see `write_checkpoint`) under the next number and return the file's path.

        Deletes the oldest files beyond `keep`, but not `spared`. `epoch` and `batch` only name the file. Raises
        `UserError`, and leaves the older checkpoints alone, if the new one cannot be written.
        """
        make_folder(self.folder)
        existing = self._numbered()
        number = 1 + (existing[0][0] if existing else 0)
        path = self.folder / f'checkpoint-{number:06d}-epoch-{epoch:03d}-batch-{batch:06d}.ckpt'
        write_checkpoint(path, state)
        counted = [old for _, old in existing if old not in self._damaged]
        for old in counted[self.keep - 1 :]:
            if old == spared:
                continue
            with explained('delete', old):
                old.unlink()
        return path

    def load_newest(self) -> Optional[Tuple[Any, Path]]:
        """Return the state of the newest intact checkpoint and its path, or None if the folder holds no checkpoint.

        Each damaged one on the way is skipped with one sentence in the log (`logging`, level warning). Raises
        `UserError` if there are files and none is intact.
        """
        paths = self.paths()
        for path in paths:
            try:
                return read_checkpoint(path), path
            except DamagedCheckpoint as error:
                logger.warning('skipping %s, which %s', path, error)
            except OSError as error:
                logger.warning('skipping %s, which cannot be read: %s', path, error.strerror)
            self._damaged.append(path)
        if paths:
            raise UserError(
                f'none of the {len(paths)} checkpoints in {self.folder} is intact; '
                f'put back a copy of {paths[0].name}, or start again in another folder'
            )
        return None
