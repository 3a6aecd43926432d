"""Write files atomically, and describe failures in one sentence.

A half-written file, left by a killed process or a full disk, is worse than none: it replaces a good one.
"""

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, Set, Tuple, Union

from common.errors import UserError
from common.text import encoded

__all__ = [
    'atomic_write',
    'check_writable',
    'expanded',
    'explained',
    'make_folder',
    'sha256_file',
    'write_json',
    'write_text',
]

PathLike = Union[str, 'os.PathLike[str]']

# errno: (what happened, what to do)
REASONS = {
    errno.ENOSPC: ('the disk is full', 'free some space there and start again'),
    errno.EDQUOT: ('the disk quota is used up', 'free some of your space there and start again'),
    errno.EFBIG: ('the file would be larger than allowed', 'raise the limit (ulimit -f) and start again'),
    errno.EACCES: ('permission denied', 'change the permissions or choose another path'),
    errno.EPERM: ('the operation is not permitted', 'change the permissions or choose another path'),
    errno.EROFS: ('the file system is read-only', 'choose a path on another one'),
    errno.ENOENT: ('there is no such file or folder', 'check the path'),
    errno.ENOTDIR: ('a part of the path is not a folder', 'check the path'),
    errno.EEXIST: ('there is a file of that name', 'choose another path'),
    errno.EISDIR: ('it is a folder', 'choose another path'),
    errno.ENAMETOOLONG: ('the name is too long', 'choose a shorter one'),
    errno.EMFILE: ('too many files are open', 'raise the limit (ulimit -n) and start again'),
    errno.ENFILE: ('too many files are open on this machine', 'close some and start again'),
    errno.EBADF: ('it is not open for that', 'redirect it to a file or a terminal'),
    errno.EIO: ('the disk reports an error', 'check the disk or choose another one'),
}
# Hidden name of a file being written: the target's name, the writer's process ID and a serial number.
_TEMPORARY = re.compile(r'\..+\.(\d+)-\d+\.part')
# Names of files that this process has open.
_OPEN_FILE = re.compile(r'/dev/std(?:(out)|(err))|(?:/dev|/proc/self)/fd/(\d+)')
_serial = itertools.count()
under_way: Set[str] = set()  # temporary files that this process is writing, in any thread


@contextmanager
def explained(doing: str, path: PathLike, *temporary: str) -> Iterator[None]:
    """Turn an `OSError` into the `UserError` 'cannot DOING PATH: what happened; what to do'.

    Errors about files other than `path` and `temporary` pass through unchanged.
    """
    try:
        yield
    except BrokenPipeError:  # the reader has gone away, which is not the file's fault
        raise
    except OSError as error:
        if error.filename not in (None, path, os.fspath(path), *temporary):
            raise
        default = (error.strerror or str(error), 'check the disk or choose another path')
        what, remedy = REASONS.get(error.errno, default)
        raise UserError(f'cannot {doing} {os.fspath(path)}: {what}; {remedy}') from error


def expanded(path: PathLike) -> Path:
    """Return the path with `~` or `~NAME` replaced by the home folder.

    Raises:
        UserError: there is no user of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f'{os.fspath(path)} begins with an unknown home folder; write the path out in full') from error


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


def remove_stale(folder: str) -> None:
    """Remove temporary files that killed writers (see `atomic_write`) left in `folder`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if not match or entry.path in under_way:
                continue
            # A predecessor may have had our own number: in a container it is often 1.
            if int(match.group(1)) == os.getpid() or not _is_running(int(match.group(1))):
                if entry.is_dir(follow_symlinks=False):  # from files that were to be replaced together
                    shutil.rmtree(entry.path, ignore_errors=True)
                    continue
                with suppress(FileNotFoundError):  # another process may be cleaning up too
                    os.unlink(entry.path)


def flush_folder(folder: str) -> None:
    """Make a rename in `folder` durable across a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot flush folders
            raise
    finally:
        os.close(handle)


def write_and_flush(path: str, write: Callable[[BinaryIO], object]) -> None:
    with open(path, 'xb') as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size < file.tell():  # a file system that loses bytes silently
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_stream(path: PathLike) -> bool:
    """Return whether `path` is a device, a pipe or one of this process's open files, rather than a regular file."""
    if _OPEN_FILE.fullmatch(os.fspath(path)):
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _stream(path: PathLike) -> BinaryIO:
    own = _OPEN_FILE.fullmatch(os.fspath(path))
    if own:
        out, err, number = own.groups()
        sys.stdout.flush()  # what was printed goes first
        return os.fdopen(os.dup(1 if out else 2 if err else int(number)), 'wb')
    return open(path, 'wb')


def _write_through(path: PathLike, stream: BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    """Write via a temporary file, because `write` may need a real one."""
    with stream, tempfile.TemporaryDirectory() as folder:
        whole = os.path.join(folder, os.path.basename(os.fspath(path)))
        with explained('write', path, whole):
            with open(whole, 'xb') as file:
                write(file)
            with open(whole, 'rb') as file:
                shutil.copyfileobj(file, stream)
            stream.flush()


def _places(path: PathLike) -> Tuple[str, str]:
    """Return where `path` leads, and the name beside it for the new file that will replace it."""
    target = os.path.realpath(path)
    return target, temporary_name(*os.path.split(target))


def temporary_name(folder: str, name: str) -> str:
    """Return a new hidden path in `folder` for the file to be named `name`. `remove_stale` recognises it."""
    # Names are limited to 255 bytes; the serial number keeps truncated names distinct.
    short = os.fsencode(name)[:200].decode(errors='ignore')
    return os.path.join(folder, f'.{short}.{os.getpid()}-{next(_serial)}.part')


def check_writable(path: PathLike) -> None:
    """Check that `atomic_write` can write `path`, before the work whose result goes there. Changes nothing.

    Raises:
        UserError: the file cannot be written.
    """
    if is_stream(path):
        return
    target, temporary = _places(path)
    with explained('write', path, target, temporary):
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        with suppress(FileNotFoundError):
            os.stat(target)  # a name that is too long
        with open(temporary, 'xb'):
            os.unlink(temporary)


def atomic_write(path: PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Write `path` with `write(file)`, so that at every moment it is the complete old file or the complete new one.

    `write` gets a new, empty, binary file in the same folder; it may also write to that file by its `name`. The file is
    flushed to disk before it replaces the old one. Links are followed. If anything fails, including `write`, the new
    file is removed and the old one stays. Temporary files of killed processes in the folder are removed as well. A
    device, a pipe or `/dev/stdout` is written to directly.

    Raises:
        UserError: a full disk, a missing permission or the like. If only the final flush of the folder fails, the new
            file is already in place.
    """
    if is_stream(path):
        with explained('write', path):
            stream = _stream(path)
        _write_through(path, stream, write)
        return
    target, temporary = _places(path)
    folder = os.path.dirname(target)
    with explained('write', path, temporary, folder):
        under_way.add(temporary)
        try:
            remove_stale(folder)
            write_and_flush(temporary, write)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):  # it may not exist, and the first error is the one that counts
                os.unlink(temporary)
            raise
        finally:
            under_way.discard(temporary)
        flush_folder(folder)


def write_text(path: PathLike, text: str) -> None:
    """Write a text as UTF-8 with `atomic_write`. Bytes of file names that are not UTF-8 are preserved."""
    content = text_bytes(text)
    atomic_write(path, lambda file: file.write(content))


def write_json(path: PathLike, value: Any) -> None:
    """Write a JSON value with `atomic_write`, formatted for people: indented, without escaping letters."""
    content = json_bytes(value)
    atomic_write(path, lambda file: file.write(content))


def text_bytes(text: str) -> bytes:
    """Return the bytes that `write_text` writes."""
    return encoded(text)


def json_bytes(value: Any) -> bytes:
    """Return the bytes that `write_json` writes."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + '\n'
    # Remaining bytes that are not UTF-8 become escapes, which JSON reads back unchanged.
    return text.encode('utf-8', 'backslashreplace')


def make_folder(path: PathLike) -> None:
    """Create the folder `path` and its missing parents.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        with explained('create the folder', path, str(error.filename)):
            raise


def sha256_file(path: PathLike) -> str:
    """Return the SHA-256 of a file's content in hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with explained('read', path), open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
