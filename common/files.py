"""Writes that either happen completely or not at all, and the sentences for the ones that do not.

A file that a killed process or a full disk leaves half-written is worse than none: it hides the good one that
it replaced.
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
    errno.EEXIST: ('a file stands in its place', 'choose another path'),
    errno.EISDIR: ('a folder stands in its place', 'choose another path'),
    errno.ENAMETOOLONG: ('the name is too long', 'choose a shorter one'),
    errno.EMFILE: ('too many files are open', 'raise the limit (ulimit -n) and start again'),
    errno.ENFILE: ('too many files are open on this machine', 'close some and start again'),
    errno.EBADF: ('it is not open for that', 'let it lead to a file or a terminal'),
    errno.EIO: ('the disk reports an error', 'check the disk or choose another one'),
}
# The hidden name of a file under way: the target's name, its writer's process number, a serial number.
_TEMPORARY = re.compile(r'\..+\.(\d+)-\d+\.part')
# Names of files that this process has open.
_OPEN_FILE = re.compile(r'/dev/std(?:(out)|(err))|(?:/dev|/proc/self)/fd/(\d+)')
_serial = itertools.count()
under_way: Set[str] = set()  # by this process, in any thread


@contextmanager
def explained(doing: str, path: PathLike, *temporary: str) -> Iterator[None]:
    """Turns an `OSError` into the `UserError` 'cannot DOING PATH: what happened; what to do'.

    Lets pass the errors that name a file other than `path` and `temporary`.
    """
    try:
        yield
    except BrokenPipeError:  # a reader has gone away, which is no fault of a file
        raise
    except OSError as error:
        if error.filename not in (None, path, os.fspath(path), *temporary):
            raise
        default = (error.strerror or str(error), 'check the disk or choose another path')
        what, remedy = REASONS.get(error.errno, default)
        raise UserError(f'cannot {doing} {os.fspath(path)}: {what}; {remedy}') from error


def expanded(path: PathLike) -> Path:
    """The path with `~` or `~NAME` replaced by the home folder; `UserError` where nobody has that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f'{os.fspath(path)} begins with a home folder that is not known; write the path out in full'
        ) from error


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


def remove_stale(folder: str) -> None:
    """Remove what writers killed in the middle of `atomic_write` left in `folder`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if not match or entry.path in under_way:
                continue
            # A predecessor may have had our own number: in a container it is often 1.
            if int(match.group(1)) == os.getpid() or not _is_running(int(match.group(1))):
                if entry.is_dir(follow_symlinks=False):  # of files that were to be replaced together
                    shutil.rmtree(entry.path, ignore_errors=True)
                    continue
                with suppress(FileNotFoundError):  # another process may be cleaning up too
                    os.unlink(entry.path)


def flush_folder(folder: str) -> None:
    """Make a rename in `folder` survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that flush no folders
            raise
    finally:
        os.close(handle)


def write_and_flush(path: str, write: Callable[[BinaryIO], object]) -> None:
    with open(path, 'xb') as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size < file.tell():  # a file system that loses bytes without a word
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_stream(path: PathLike) -> bool:
    """Whether `path` is a device, a pipe or one of our own open files, and no place where a file is or will be."""
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
    """By way of a file, as `write` may want one."""
    with stream, tempfile.TemporaryDirectory() as folder:
        whole = os.path.join(folder, os.path.basename(os.fspath(path)))
        with explained('write', path, whole):
            with open(whole, 'xb') as file:
                write(file)
            with open(whole, 'rb') as file:
                shutil.copyfileobj(file, stream)
            stream.flush()


def _places(path: PathLike) -> Tuple[str, str]:
    """Where `path` leads, and the name beside it of a new file that is to take its place."""
    target = os.path.realpath(path)
    return target, temporary_name(*os.path.split(target))


def temporary_name(folder: str, name: str) -> str:
    """A new hidden path in `folder` for what is to be called `name` there; `remove_stale` knows it."""
    # Names end at 255 bytes; the serial number keeps apart what is cut off.
    short = os.fsencode(name)[:200].decode(errors='ignore')
    return os.path.join(folder, f'.{short}.{os.getpid()}-{next(_serial)}.part')


def check_writable(path: PathLike) -> None:
    """`UserError` where `atomic_write` could not write `path`: for the time before the work whose outcome goes there.
    Nothing changes.
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
    """Write the file `path` with `write(file)` so that at every moment it is the old or the complete new one.

    `write` gets a new, empty, binary file in the same folder; it may also write to that file by its `name`.
    The file is flushed to the disk before it takes the place of the old one. A link is followed. Whatever
    goes wrong, also in `write`, the new file is removed and the old one stays. What processes killed earlier
    left behind in the folder is removed too. A device, a pipe or `/dev/stdout` is written to, not replaced.

    Raises `UserError` for a full disk, a missing permission and the like. Only where the folder cannot be
    flushed, at the very end, is the new file in its place already.
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
    """Write a text in UTF-8 as `atomic_write` does; bytes of file names that are no UTF-8 stay what they were."""
    content = text_bytes(text)
    atomic_write(path, lambda file: file.write(content))


def write_json(path: PathLike, value: Any) -> None:
    """Write what JSON can hold as `atomic_write` does, for people to read: indented, with letters as they are."""
    content = json_bytes(value)
    atomic_write(path, lambda file: file.write(content))


def text_bytes(text: str) -> bytes:
    """What `write_text` writes."""
    return encoded(text)


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + '\n'
    # What is left of bytes that are no UTF-8 becomes an escape, which JSON reads as the same.
    return text.encode('utf-8', 'backslashreplace')


def make_folder(path: PathLike) -> None:
    """Create the folder `path` and those above it where missing; `UserError` if that cannot be done."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        with explained('create the folder', path, str(error.filename)):
            raise


def sha256_file(path: PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises `UserError` if it cannot be read."""
    digest = hashlib.sha256()
    with explained('read', path), open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
