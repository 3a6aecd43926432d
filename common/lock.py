"""Let one process at a time work in a folder, or on a file in it.

The lock is an `flock` on a hidden file that names its holder. The operating system releases it when the process ends,
however that happens; a hidden file left by a killed process blocks nobody.
"""

import errno
import fcntl
import json
import os
import socket
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set

from common.errors import UserError
from common.files import PathLike, explained, make_folder
from common.schema import parse_json

__all__ = ['alone']

# Errors of `flock` on file systems without locks, or whose lock server does not answer.
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EIO)
_HOLDER = {'process': int, 'host': str, 'doing': str, 'began': (str, None), 'file': int}
_EVERY = 0.2  # seconds between two attempts of a waiting process
_held: Set[int] = set()  # the descriptors of the locks that this process holds


def _close_in_child() -> None:
    """Close the lock in a forked child, which would otherwise keep it after its parent's death."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _began(process: int) -> Optional[str]:
    """Return when a process of this machine started, in ticks since boot, or None if unknown."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]
    except (OSError, IndexError):
        return None


def _alive(holder: Dict[str, Any]) -> bool:
    """Return whether the process that wrote this still runs here. Processes of other machines count as ended."""
    if holder['host'] != socket.gethostname():
        return False
    try:
        os.kill(holder['process'], 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    return _began(holder['process']) == holder['began']


def _read_holder(descriptor: int) -> Optional[Dict[str, Any]]:
    """Return who holds the lock according to its file, or None."""
    try:
        return parse_json(os.pread(descriptor, 1 << 12, 0), _HOLDER)
    except ValueError:
        return None


def _write_holder(descriptor: int, doing: str) -> None:
    process = os.getpid()
    holder = {
        'process': process,
        'host': socket.gethostname(),
        'doing': doing,
        'began': _began(process),
        'file': os.fstat(descriptor).st_ino,  # a copy of the folder has another
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _taken(descriptor: int) -> bool:
    """Try to take the lock, and return whether we hold it; without `flock`, whether nobody running is named in it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        holder = _read_holder(descriptor)
        return holder is None or holder['file'] != os.fstat(descriptor).st_ino or not _alive(holder)


def _is_at(descriptor: int, path: str) -> bool:
    """Return whether the open file is still the one at `path`, which its former holder may have removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _take(path: str, title: str, doing: str, wait: bool) -> int:
    told = False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if not told:
                raise
            make_folder(os.path.dirname(path))  # its former holder removed even the folder
            continue
        try:
            taken = _taken(descriptor)
            if not taken and not wait:
                raise UserError(f'{_in_use(title, descriptor)}; wait until it has ended, or choose another folder')
            if not taken and not told:
                print(f'{_in_use(title, descriptor)}; waiting until it has ended', file=sys.stderr, flush=True)
                told = True
            if taken and _is_at(descriptor, path):
                _write_holder(descriptor, doing)
                _held.add(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not taken:
            time.sleep(_EVERY)


def _release(descriptor: int, path: str) -> None:
    with suppress(OSError):  # the folder may be gone, or be a new one of another process
        if _is_at(descriptor, path):
            os.unlink(path)
    _held.discard(descriptor)
    os.close(descriptor)


def _in_use(title: str, descriptor: int) -> str:
    holder = _read_holder(descriptor)
    who = 'another process is working'
    if holder is not None:
        where = '' if holder['host'] == socket.gethostname() else f' on {holder["host"]}'
        who = f'process {holder["process"]}{where} is {holder["doing"]}'
    return f'{title} is in use: {who} there'


def _missing(folder: Path) -> List[Path]:
    """Return the folders to create for this one, innermost first."""
    return [each for each in (folder, *folder.parents) if not os.path.lexists(each)]


@contextmanager
def alone(folder: PathLike, doing: str, file: str = '', wait: bool = False) -> Iterator[None]:
    """Lock the folder, or one `file` in it, against other processes that ask for the same.

    A missing folder is created, and removed again if it stays empty. On file systems without locks (some network
    drives) the hidden file alone names the holder, which only protects against processes of the same machine.

    Args:
        folder: the folder to work in.
        doing: completes 'process 42 is ...'.
        file: the name of a file in the folder, to lock only that file.
        wait: whether to wait for a process that holds the lock, after saying so on stderr.

    Raises:
        UserError: another process, which the message names, holds the lock and `wait` is False, or the folder is not
            writable.
    """
    title = os.path.join(folder, file) if file else os.fspath(folder)
    path = os.path.join(folder, f'.{file}.lock' if file else '.lock')
    process, made = os.getpid(), _missing(Path(folder))
    make_folder(folder)
    try:
        with explained('write', path):
            descriptor = _take(path, title, doing, wait)
        try:
            yield
        finally:
            if os.getpid() == process:
                _release(descriptor, path)
    finally:
        if os.getpid() == process:
            with suppress(OSError):  # not empty
                for each in made:
                    os.rmdir(each)
