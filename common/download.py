"""Files from servers: fetched once, complete or not at all, and known to be the right ones.

A transfer that breaks off is taken up where it ended, at once or at the next start, if the server can do that and the
file is still the same there. Of two processes that want the same file, one waits for the other.
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
TRIES = 3  # in a row that bring nothing new
PAUSE = 1.0  # seconds between them
_NOTE = {'url': str, 'state': str}  # of what a part is, and in which state the server had it


class Checksum(NamedTuple):
    """How a file is known.

    Attributes:
        kind: ``'sha256'``, ``'sha1'`` or ``'md5'`` of the content, or ``'git'``, the name of a blob.
        value: in hexadecimal; its beginning will do.
    """

    kind: str
    value: str

    def of(self, path: Path) -> str:
        """The file's own, in full. `UserError` if it cannot be read."""
        digest = hasher('sha1' if self.kind == 'git' else self.kind)
        with explained('read', path), open(path, 'rb') as file:
            if self.kind == 'git':
                digest.update(f'blob {os.fstat(file.fileno()).st_size}\0'.encode())
            for block in iter(lambda: file.read(BLOCK), b''):
                digest.update(block)
        return digest.hexdigest()

    def fault(self, path: Path) -> Optional[str]:
        """What is wrong with a file: that its checksum is another one; None if it is this one."""
        found = self.of(path)
        if found.startswith(self.value):
            return None
        shown = {'git': 'git blob'}.get(self.kind, self.kind.upper())
        return f'has the {shown} {found[: len(self.value)]} instead of {self.value}'


def hasher(kind: str) -> Any:
    """A new `hashlib` object, for checksums and not for security, which is what strict (FIPS) machines want to hear."""
    return hashlib.new(kind, **({'usedforsecurity': False} if sys.version_info >= (3, 9) else {}))


def check_file(path: Path, checksum: Checksum) -> None:
    """`UserError` if the file cannot be read or its checksum is another than `checksum`."""
    fault = checksum.fault(path)
    if fault:
        raise UserError(
            f'{path} {fault}: it is damaged, incomplete or another file; delete it and start again to download it anew'
        )


class _Failed(Exception):
    """There is no file to be had; the words are the reason."""


class _BrokenOff(_Failed):
    """A transfer ended before the file did."""


class _Part:
    """What there is of a file, and a note beside it of which file that is."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self._note = path.with_name(f'{path.name}.json')

    def kept(self) -> Tuple[int, str]:
        """How many bytes there are that can be gone on from, and the state that the server's file had."""
        try:
            note = read_json(self._note, _NOTE)
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, ''
        return (size, note['state']) if note['url'] == self.url else (0, '')

    def note(self, state: Optional[str]) -> None:
        """Write down the state of a file whose transfer begins; without one it cannot be gone on with."""
        if state:
            write_json(self._note, {'url': self.url, 'state': state})
        else:
            self.remove()

    def remove(self) -> None:
        for path in (self._note, self.path):
            with suppress(FileNotFoundError):
                path.unlink()


def _state(headers: Any) -> Optional[str]:
    """What HTTP lets one compare a file by: its strong tag, or the date of its last change."""
    tag = headers.get('ETag')
    return tag if tag and not tag.startswith('W/') else headers.get('Last-Modified')


def _starts_at(headers: Any, first: int) -> bool:
    match = re.match(r'bytes (\d+)-', headers.get('Content-Range', ''))
    return match is not None and int(match.group(1)) == first


def _open(url: str, first: int, state: str) -> Any:
    """The server's answer: from byte `first` on if it is not 0 and the file there has not changed."""
    headers: Dict[str, str] = {'User-Agent': 'attention-networks', 'Accept-Encoding': 'identity'}
    if first:
        headers.update({'Range': f'bytes={first}-', 'If-Range': state})
    return urllib.request.build_opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _words(error: Exception) -> str:
    reason = getattr(error, 'reason', error)
    return getattr(reason, 'strerror', None) or str(reason) or type(error).__name__


def _answer(part: _Part) -> Tuple[Any, int]:
    """The server's answer, and with which byte it begins; `_Failed` where there is none."""
    first, state = part.kept()
    try:
        response = _open(part.url, first, state)
        if response.status == 206 and not _starts_at(response.headers, first):
            response.close()
            response = _open(part.url, 0, '')
    except urllib.error.HTTPError as error:
        if error.code == 416 and first:  # there is no more than we have, or less
            part.remove()
            return _answer(part)
        raise _Failed(f'{error.code} {error.reason}') from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last for what is no URL
        raise _Failed(_words(error)) from error
    if response.headers.get_content_type() in ('text/html', 'application/xhtml+xml'):
        response.close()
        raise _Failed('a web page comes in its place')
    return response, first if response.status == 206 else 0


def _blocks(response: Any) -> Iterator[bytes]:
    """What the server sends; its errors are no fault of the disk."""
    while True:
        try:
            block = response.read(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOff(_words(error)) from error
        if not block:
            return
        yield block


def _transfer(part: _Part, path: Path) -> None:
    """Bring the part to its end. `_BrokenOff` where it is not reached, `_Failed` where it never will be."""
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
    """Fetch the whole part, in several tries if need be; whether it was put together of several. `_Failed` if not."""
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
                raise _Failed(f'{error}; {have} bytes are kept, and the next start goes on from there') from error
        most, pieced = max(most, have), pieced or have > 0
        time.sleep(PAUSE)


def download(url: str, path: Path, checksum: Optional[Checksum], remedy: str) -> None:
    """Download `url` to `path`, with a progress bar on stderr, unless the file is there.

    The file appears when it is complete and its checksum right. Waits while another process downloads it. What has come
    of a transfer that broke off stays, hidden, beside `path`, and the next call goes on from there.

    Args:
        checksum: None where none is known; then the length alone is checked.
        remedy: how the user can get the file in another way; ends the sentence of the `UserError` if the download
            fails.
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
            if not pieced:  # else one of the pieces may have been of another file
                raise UserError(
                    f'the download of {url} broke off or is another file: what came, {size} bytes, {fault}; start '
                    f'again, or {remedy}'
                )
        with explained('write', path, str(part.path)):
            os.replace(part.path, path)
            flush_folder(str(path.parent))
        part.remove()
