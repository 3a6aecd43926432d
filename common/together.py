"""Replace several files together: either all of them or none."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Tuple

from common import files
from common.files import PathLike, explained

__all__ = ['Together', 'written_together']

Write = Callable[[BinaryIO], object]


@contextmanager
def written_together() -> Iterator[Together]:
    """Yield a writer whose files take their places together at the end of the block; if anything fails, none does.

        with written_together() as new:
            new.write(folder / 'picture.png', lambda file: file.write(content))
            new.write_json(folder / 'figures.json', figures)

    Each file is first written completely, and flushed to disk, in a hidden folder beside its destination, so that the
    final rename needs no space. Pipes and `/dev/stdout` are written last.

    Raises:
        UserError: a full disk, a missing permission or the like.
    """
    new = Together()
    try:
        yield new
        new._take_places()
    except BaseException:
        new._leave_no_folders()
        raise
    finally:
        new._clean_up()


class Together:
    """The files of one `written_together` block."""

    def __init__(self) -> None:
        self._hidden: Dict[str, str] = {}  # folder: its hidden folder
        self._ready: Dict[str, Tuple[PathLike, str]] = {}  # destination as given: where the file is now
        self._streams: List[Tuple[PathLike, Write]] = []
        self._unwanted: List[str] = []
        self._made: List[str] = []  # folders, the innermost first

    def make_folder(self, path: PathLike) -> None:
        """Create a folder and its missing parents; they are removed again if the files do not arrive."""
        path = os.path.abspath(path)
        missing = []
        while not os.path.lexists(path) and path not in self._made:
            missing.append(path)
            path = os.path.dirname(path)
        if missing:
            files.make_folder(missing[0])
            self._made[:0] = missing
        elif not os.path.isdir(path):
            files.make_folder(path)  # raises an error that says what is in the way

    def beside(self, folder: PathLike) -> Path:
        """Return the hidden folder that holds the files for `folder`, by their names, until they are moved there."""
        folder = os.path.realpath(folder)
        if folder not in self._hidden:
            hidden = files.temporary_name(folder, 'new')
            with explained('write into', folder, hidden):
                files.remove_stale(folder)
                files.under_way.add(hidden)
                os.mkdir(hidden)
            self._hidden[folder] = hidden
        return Path(self._hidden[folder])

    def write(self, path: PathLike, write: Write) -> None:
        """Write the file destined for `path` with `write(file)`, replacing an earlier version of it."""
        if files.is_stream(path):
            self._streams.append((path, write))
            return
        target = os.path.realpath(path)
        folder, name = os.path.split(target)
        temporary = os.path.join(self.beside(folder), name)
        with explained('write', path, target, temporary):
            if os.path.isdir(target):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            files.write_and_flush(temporary, write)
        self._ready[target] = (path, temporary)

    def write_text(self, path: PathLike, text: str) -> None:
        """Write a text as `common.files.write_text` does."""
        content = files.text_bytes(text)
        self.write(path, lambda file: file.write(content))

    def write_json(self, path: PathLike, value: Any) -> None:
        """Write a JSON value as `common.files.write_json` does."""
        content = files.json_bytes(value)
        self.write(path, lambda file: file.write(content))

    def remove(self, path: PathLike) -> None:
        """Remove an older file once the new ones are in place, unless one of them replaces it."""
        self._unwanted.append(os.path.realpath(path))

    def _take_places(self) -> None:
        done: List[Tuple[str, str]] = []
        try:
            for target, (path, temporary) in self._ready.items():
                with explained('write', path, target, temporary):
                    done.append((target, self._keep(target, f'{temporary}.old')))
                    os.replace(temporary, target)
        except BaseException:
            for target, old in reversed(done):
                with suppress(OSError):  # the first error is the one that counts
                    os.replace(old, target) if old else os.unlink(target)
            raise
        for target in self._unwanted:
            if target not in self._ready:
                with suppress(FileNotFoundError):
                    os.unlink(target)
        for folder in self._hidden:
            with explained('write into', folder):
                files.flush_folder(folder)
        for path, write in self._streams:
            files.atomic_write(path, write)

    @staticmethod
    def _keep(target: str, old: str) -> str:
        """Give the file that is about to be replaced a second name, and return it; '' if there is no such file."""
        if not os.path.lexists(target):
            return ''
        try:
            os.link(target, old)
        except OSError:  # file systems without links
            shutil.copy2(target, old)
        return old

    def _leave_no_folders(self) -> None:
        for hidden in self._hidden.values():
            shutil.rmtree(hidden, ignore_errors=True)
        for folder in self._made:
            with suppress(OSError):  # somebody has put something there
                os.rmdir(folder)

    def _clean_up(self) -> None:
        for hidden in self._hidden.values():
            shutil.rmtree(hidden, ignore_errors=True)
            files.under_way.discard(hidden)
