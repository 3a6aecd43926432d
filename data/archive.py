"""Read tar files of image folders: what they contain, and where."""

from __future__ import annotations

import lzma
import os
import posixpath
import tarfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple, TypeVar

from common.files import explained
from data.images import ImageError, is_hidden, is_image
from data.layout import Layout, find_layout, resolve_links
from environment import UserError

__all__ = ['Place', 'Slices', 'is_compressed', 'tar_contents', 'tar_places']

T = TypeVar('T')
Place = Tuple[int, int]
_COMPRESSED = (b'\x1f\x8b', b'BZh', b'\xfd7zXZ\x00')  # gzip, bzip2, xz


class Slices:
    """Parts of a file, each an (offset, size)."""

    def __init__(self, path: Path, places: List[Place]) -> None:
        self.path, self.places = path, places
        with explained('read', path):
            self._file = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, '_file'):
            os.close(self._file)

    def read(self, i: int) -> bytes:
        """Return the i-th part. Raises `ImageError` if the file has become shorter."""
        offset, size = self.places[i]
        data = os.pread(self._file, size, offset)
        if len(data) < size:
            raise ImageError(f'{self.path} ends inside the image at byte {offset}')
        return data


class _Header(tarfile.TarInfo):
    """A member header for which damage, or an end without its mark, is an error; `tarfile` takes both for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # the mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f'at byte {tarfile_.offset}: {error}') from error


def is_compressed(archive: Path) -> bool:
    """Return whether a tar file is compressed. Raises `UserError` if it cannot be read."""
    with explained('read', archive), open(archive, 'rb') as file:
        return file.read(6).startswith(_COMPRESSED)


def tar_contents(archive: Path) -> Tuple[Layout, Dict[str, bytes]]:
    """Return the layout of a tar file, compressed or not, and {path: content} of its images.

    Raises `UserError` if damaged.
    """
    return _members(archive, 'r|*', lambda tar, member: tar.extractfile(member).read())


def tar_places(archive: Path) -> Tuple[Layout, Dict[str, Place]]:
    """Return the layout of an uncompressed tar file, and the places of its images: {path: (offset, size)}.

    A nested tar file counts as a folder of its name: ImageNet's training images come as one for each class.
    """

    def nested(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Dict[str, Place]:
        with tarfile.open(fileobj=tar.extractfile(member), mode='r:', tarinfo=_Header) as part:
            images = [(posixpath.normpath(each.name), each) for each in part if each.isfile()]
        folder = posixpath.splitext(posixpath.normpath(member.name))[0]
        start = member.offset_data
        return {f'{folder}/{name}': (start + each.offset_data, each.size) for name, each in images if is_image(name)}

    return _members(archive, 'r:', lambda tar, member: (member.offset_data, member.size), nested)


def _members(
    archive: Path,
    mode: str,
    take: Callable[[tarfile.TarFile, tarfile.TarInfo], T],
    nested: Callable[[tarfile.TarFile, tarfile.TarInfo], Dict[str, T]] = lambda tar, member: {},
) -> Tuple[Layout, Dict[str, T]]:
    tree: Dict[str, Any] = {}
    links: Dict[str, str] = {}
    folders: List[str] = []
    try:
        with tarfile.open(archive, mode, tarinfo=_Header) as tar:
            for member in tar:
                path = posixpath.normpath(member.name)
                if is_hidden(path):
                    continue
                if member.isdir():
                    folders.append(path)
                elif member.issym():
                    links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
                elif member.islnk():
                    links[path] = posixpath.normpath(member.linkname)
                elif member.isfile() and is_image(path):
                    tree[path] = take(tar, member)
                elif member.isfile() and path.endswith('.tar'):
                    tree.update(nested(tar, member))
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f'{archive} is not an intact tar file ({error}); get it again, or unpack it if it is compressed in '
            'another way'
        ) from error
    left_out = resolve_links(tree, links)  # among them the second name of a file that has two
    return find_layout(str(archive), tree, folders, left_out), tree
