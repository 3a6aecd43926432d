"""Fetch a file once, completely or not at all, and know that it is the right one."""

from __future__ import annotations

import hashlib
import http.client
import sys
import urllib.request
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from common.files import atomic_write, explained, make_folder
from environment import UserError

__all__ = ['check_md5', 'download', 'md5_hasher']

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without a byte


def md5_hasher() -> hashlib._Hash:
    """MD5 as a checksum, not for security, which is what strict (FIPS) machines want to hear."""
    return hashlib.md5(usedforsecurity=False) if sys.version_info >= (3, 9) else hashlib.md5()


def check_md5(path: Path, expected: str) -> None:
    """`UserError` if the file cannot be read or its MD5 is another than `expected`."""
    digest = md5_hasher()
    with explained('read', path), open(path, 'rb') as file:
        for block in iter(lambda: file.read(BLOCK), b''):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise UserError(
            f'{path} has the MD5 {digest.hexdigest()} instead of {expected}: it is damaged, incomplete or '
            f'another file; delete it and start again to download it anew'
        )


class _WriteError(Exception):
    """Carries an `OSError` of the disk past the handler for those of the network."""


def _write(file: BinaryIO, block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:
        raise _WriteError from error


def download(url: str, path: Path, md5: str, remedy: str) -> None:
    """Download `url` to `path` with a progress bar on stderr. The file appears only when it is complete and
    its MD5 right.

    Args:
        remedy: how the user can get the data in another way; ends the sentence of the `UserError` if the
            download fails.
    """
    make_folder(path.parent)

    def fetch(file: BinaryIO) -> None:
        digest, received = md5_hasher(), 0
        try:
            with urllib.request.build_opener().open(url, timeout=TIMEOUT) as response:
                total = int(response.headers.get('Content-Length') or 0)
                with tqdm(total=total or None, unit='B', unit_scale=True, desc=path.name) as bar:
                    for block in iter(lambda: response.read(BLOCK), b''):
                        digest.update(block)
                        received += len(block)
                        bar.update(len(block))
                        _write(file, block)
        except _WriteError as error:
            raise error.__cause__ from None
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f'cannot download {url} ({getattr(error, "reason", error)}); {remedy}') from error
        if digest.hexdigest() != md5:
            raise UserError(
                f'the download of {url} broke off or is another file ({received} of {total or "?"} bytes, '
                f'MD5 {digest.hexdigest()} instead of {md5}); start again, or {remedy}'
            )

    atomic_write(path, fetch)
