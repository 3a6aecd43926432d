"""Print what a command found and did: nothing of it under -q, more under -v.

Errors are always printed. `heed` sets the level from the command line, for the whole process.
"""

import sys
import time
from contextlib import contextmanager, suppress
from typing import Iterator

from common.errors import UsageError
from common.text import printable

__all__ = ['detail', 'heed', 'quiet', 'remark', 'say', 'timed', 'verbose']

_asked = {'quiet': False, 'verbose': False}


def heed(quiet: bool, verbose: bool) -> None:
    """Set how much is printed from now on, as -q and -v ask.

    Raises:
        UsageError: both are given.
    """
    if quiet and verbose:
        raise UsageError('-q asks for less output and -v for more; give one of them')
    _asked.update(quiet=quiet, verbose=verbose)


def quiet() -> bool:
    """Return whether only errors are to be printed."""
    return _asked['quiet']


def verbose() -> bool:
    """Return whether details are to be printed as well."""
    return _asked['verbose']


def say(text: str) -> None:
    """Print what was found or done."""
    if not quiet():
        print(text)


def remark(text: str) -> None:
    """Print something other than a result, on stderr."""
    if not quiet():
        _tell(text)


def detail(text: str) -> None:
    """Print a detail on stderr, under -v only."""
    if verbose():
        _tell(text)


def _tell(text: str) -> None:
    with suppress(OSError):  # a full or closed stderr must not stop the work
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Report as a detail how long the enclosed block took."""
    start = time.perf_counter()
    yield
    detail(f'{what}: {time.perf_counter() - start:.2f} s')
