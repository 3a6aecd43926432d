"""What a command prints: what it found and did, nothing of that if asked to be quiet, more if asked for more.

Errors are printed in any case. `heed` is told what the command line asks for; it holds for the process.
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
    """Print as -q and -v ask for, from now on. `UsageError` if both do."""
    if quiet and verbose:
        raise UsageError('-q and -v ask for less and for more; give one of them')
    _asked.update(quiet=quiet, verbose=verbose)


def quiet() -> bool:
    """Return whether errors alone are to be printed."""
    return _asked['quiet']


def verbose() -> bool:
    """Return whether details are to be printed too."""
    return _asked['verbose']


def say(text: str) -> None:
    """Print what was found or done."""
    if not quiet():
        print(text)


def remark(text: str) -> None:
    """Print on stderr what is no result."""
    if not quiet():
        _tell(text)


def detail(text: str) -> None:
    """Print on stderr what only -v asks for."""
    if verbose():
        _tell(text)


def _tell(text: str) -> None:
    with suppress(OSError):  # stderr is full or gone, which is no matter for what is being done
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Tell, of what it encloses, how long it took: a detail."""
    start = time.perf_counter()
    yield
    detail(f'{what}: {time.perf_counter() - start:.2f} s')
