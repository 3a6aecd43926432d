"""Read zip files of image folders: what they contain, and the images."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from pathlib import Path
from typing import List, Tuple

from data.images import ImageError, is_hidden, is_image
from data.layout import Layout, find_layout
from environment import UserError

__all__ = ['ZipImages', 'zip_layout']

MOST = 1 << 28  # bytes of an image, unpacked: a few that are packed may say to be any number
_REMEDY = 'get it again'
# What `zipfile` raises for damage, for a password that is wanted, and for a way of packing that Python does not know.
_DAMAGE = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error)


def zip_layout(archive: Path) -> Tuple[Layout, List[str]]:
    """Return the layout of a zip file, and the names that its images have in it; raises `UserError` if damaged."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = {posixpath.normpath(info.filename): info for info in file.infolist()}
    except _DAMAGE as error:
        raise UserError(f'{archive} is not an intact zip file ({error}); {_REMEDY}') from error
    visible = {path: info for path, info in members.items() if not is_hidden(path) and not path.startswith('__MACOSX')}
    folders = [path for path, info in visible.items() if info.is_dir()]
    layout = find_layout(str(archive), [p for p, info in visible.items() if is_image(p) and not info.is_dir()], folders)
    return layout, [members[path].filename for path in layout.paths]


class ZipImages:
    """Images in a zip file, by their names in it; may be read by several threads."""

    def __init__(self, archive: Path, names: List[str]) -> None:
        self.path, self.names = archive, names
        self._file = zipfile.ZipFile(archive)

    def name(self, i: int) -> str:
        return f'{self.path}/{posixpath.normpath(self.names[i])}'

    def read(self, i: int) -> bytes:
        """Return the i-th image, encoded. Raises `ImageError` if it is damaged, or has a password."""
        try:
            size = self._file.getinfo(self.names[i]).file_size
            if size > MOST:
                raise ImageError(f'{self.name(i)} claims to have {size} bytes, and {MOST} are allowed')
            with self._file.open(self.names[i]) as member:
                return member.read(MOST)
        except _DAMAGE as error:
            raise ImageError(f'{self.name(i)} cannot be unpacked ({error}); {_REMEDY}') from error
