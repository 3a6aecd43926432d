"""Download files: complete or not at all, resumable, and verified.

An interrupted transfer is resumed, at once or on the next call, if the server supports it and its file is unchanged.
If two processes want the same file, one waits for the other.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from tqdm import tqdm

from common.errors import UserError
from common.files import explained, flush_folder, write_json
from common.lock import alone
from common.schema import read_json

__all__ = ['Checksum', 'check_file', 'download', 'hasher']

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without a byte
TRIES = 3  # consecutive attempts without progress
PAUSE = 1.0  # seconds between them
_NOTE = {'url': str, 'state': str}  # where a part comes from, and which version of the file it belongs to


class Checksum(NamedTuple):
    """A checksum that identifies a file.

    Attributes:
        kind: ``'sha256'``, ``'sha1'`` or ``'md5'`` of the content, or ``'git'`` for the ID of its Git blob.
        value: in hexadecimal; a prefix is enough.
    """

    kind: str
    value: str

    def of(self, path: Path) -> str:
        """Compute a file's complete checksum of this kind. Raises `UserError` if it cannot be read."""
        digest = hasher('sha1' if self.kind == 'git' else self.kind)
        with explained('read', path), open(path, 'rb') as file:
            if self.kind == 'git':
                digest.update(f'blob {os.fstat(file.fileno()).st_size}\0'.encode())
            for block in iter(lambda: file.read(BLOCK), b''):
                digest.update(block)
        return digest.hexdigest()

    def fault(self, path: Path) -> Optional[str]:
        """Return how the file's checksum differs from this one, or None if they match."""
        found = self.of(path)
        if found.startswith(self.value):
            return None
        shown = {'git': 'git blob'}.get(self.kind, self.kind.upper())
        return f'has the {shown} {found[: len(self.value)]} instead of {self.value}'


def hasher(kind: str) -> Any:
    """Return a new `hashlib` object for checksums; not for security, as strict (FIPS) machines require to be stated."""
    return hashlib.new(kind, **({'usedforsecurity': False} if sys.version_info >= (3, 9) else {}))


def check_file(path: Path, checksum: Checksum) -> None:
    """Raise `UserError` if the file cannot be read or has another checksum."""
    fault = checksum.fault(path)
    if fault:
        raise UserError(
            f'{path} {fault}: it is damaged, incomplete or a different file; delete it and start again to download it '
            'anew'
        )


class _Failed(Exception):
    """A failed attempt, after which another may succeed."""


class _BrokenOff(_Failed):
    """A transfer that ended before the file was complete."""


class _Part:
    """The part of a file that has arrived, and a note beside it that identifies the file."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self._note = path.with_name(f'{path.name}.json')

    def kept(self) -> Tuple[int, str]:
        """Return how many bytes have arrived, and the version of the server's file that they belong to."""
        try:
            note = read_json(self._note, _NOTE)
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, ''
        return (size, note['state']) if note['url'] == self.url else (0, '')

    def note(self, state: Optional[str]) -> None:
        """Record the version of the server's file as its transfer begins; without one, nothing can be resumed."""
        if state:
            write_json(self._note, {'url': self.url, 'state': state})
        else:
            self.remove()

    def remove(self) -> None:
        for path in (self._note, self.path):
            with suppress(FileNotFoundError):
                path.unlink()


def _state(headers: Any) -> Optional[str]:
    """Return what identifies the version of a file in HTTP: its strong entity tag or its modification date."""
    tag = headers.get('ETag')
    return tag if tag and not tag.startswith('W/') else headers.get('Last-Modified')


def _starts_at(headers: Any, first: int) -> bool:
    match = re.match(r'bytes (\d+)-', headers.get('Content-Range', ''))
    return match is not None and int(match.group(1)) == first


def _open(url: str, first: int, state: str) -> Any:
    """Request the file, from byte `first` on if it is not 0 and the server's file is unchanged."""
    headers: Dict[str, str] = {'User-Agent': 'attention-networks', 'Accept-Encoding': 'identity'}
    if first:
        headers.update({'Range': f'bytes={first}-', 'If-Range': state})
    return urllib.request.build_opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _words(error: Exception) -> str:
    reason = getattr(error, 'reason', error)
    return getattr(reason, 'strerror', None) or str(reason) or type(error).__name__


def _answer(part: _Part) -> Tuple[Any, int]:
    """Return the server's response and the offset of its first byte. Raises `_Failed` without a response."""
    first, state = part.kept()
    try:
        response = _open(part.url, first, state)
        if response.status == 206 and not _starts_at(response.headers, first):
            response.close()
            response = _open(part.url, 0, '')
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and first:  # the server's file ends where our part does, or earlier
            part.remove()
            return _answer(part)
        raise _Failed(f'{error.code} {error.reason}') from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not a URL
        raise _Failed(_words(error)) from error
    if response.headers.get_content_type() in ('text/html', 'application/xhtml+xml'):
        response.close()
        raise _Failed('the server sent a web page instead')
    return response, first if response.status == 206 else 0


def _blocks(response: Any) -> Iterator[bytes]:
    """Yield what the server sends, telling its errors from those of the disk: they become `_BrokenOff`."""
    while True:
        try:
            block = response.read(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOff(_words(error)) from error
        if not block:
            return
        yield block


def _transfer(part: _Part, path: Path) -> None:
    """Complete the part. Raises `_BrokenOff` if the transfer ends early, `_Failed` if it cannot succeed."""
    response, first = _answer(part)
    with response:
        if not first:
            part.note(_state(response.headers))
        length = response.headers.get('Content-Length') or ''
        total = first + int(length) if length.isdigit() else None
        received = first
        with tqdm(total=total, initial=first, unit='B', unit_scale=True, desc=path.name) as bar:
            with explained('write', path, str(part.path)), open(part.path, 'ab' if first else 'wb') as file:
                for block in _blocks(response):
                    file.write(block)
                    received += len(block)
                    bar.update(len(block))
                file.flush()
                os.fsync(file.fileno())
    if total is not None and received < total:
        raise _BrokenOff(f'it broke off after {received} of {total} bytes')


def _complete(part: _Part, path: Path) -> bool:
    """Fetch the whole file, in several attempts if necessary, and return whether it was resumed. Raises `_Failed`."""
    most = part.kept()[0]
    pieced, left = most > 0, TRIES
    while True:
        try:
            _transfer(part, path)
            return pieced
        except _Failed as error:
            have = part.kept()[0]
            left = TRIES if have > most else left - 1
            if not left or not isinstance(error, _BrokenOff):
                if not have:
                    part.remove()
                    raise
                raise _Failed(f'{error}; {have} bytes are kept, and the next attempt continues from there') from error
        most, pieced = max(most, have), pieced or have > 0
        time.sleep(PAUSE)


def download(url: str, path: Path, checksum: Optional[Checksum], remedy: str) -> None:
    """Download `url` to `path`, with a progress bar on stderr, unless the file exists.

    The file appears once it is complete and its checksum matches. If another process is downloading it, wait for that
    one. An interrupted transfer leaves a hidden part beside `path`, which the next call resumes.

    Args:
        url: address of the file.
        path: where to put it.
        checksum: None if unknown; only the length is checked then.
        remedy: another way to get the file; it ends the sentence of the `UserError` if the download fails.
    """
    with alone(path.parent, f'downloading {path.name}', path.name, wait=True):
        if path.exists():
            return
        part = _Part(path.with_name(f'.{path.name}.download'), url)
        while True:
            try:
                pieced = _complete(part, path)
            except _Failed as error:
                raise UserError(f'cannot download {url} ({error}); {remedy}') from error
            fault = checksum and checksum.fault(part.path)
            if not fault:
                break
            size = part.path.stat().st_size
            part.remove()
            if not pieced:  # else the pieces may be of different versions: start over
                raise UserError(
                    f'the download of {url} is incomplete or a different file: what arrived, {size} bytes, {fault}; '
                    f'start again, or {remedy}'
                )
        with explained('write', path, str(part.path)):
            os.replace(part.path, path)
            flush_folder(str(path.parent))
        part.remove()
