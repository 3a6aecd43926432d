"""The frame of every entry point: what a user can put right becomes one sentence and an exit status."""

import io
import os
import select
import sys
from typing import Callable, NoReturn, Optional

from environment.errors import SetupError, UserError
from environment.health import explain

__all__ = ['run_main']


def _finish(main: Callable[[], Optional[int]]) -> int:
    try:
        return main() or 0
    except (ImportError, OSError, AttributeError) as error:
        # What a broken set-up looks like from inside; where the set-up is sound, it is a bug of ours.
        explanation = None if isinstance(error, BrokenPipeError) else explain(error)
        if explanation is None:
            raise
        raise SetupError(str(explanation)) from error


def _reader_is_gone() -> bool:
    watch = select.poll()
    watch.register(sys.stdout, 0)  # errors are reported whether asked for or not
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))


def _print_any_name() -> None:
    """Let print say names of files that are no text, which stdout would refuse: their bytes become escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


def run_main(main: Callable[[], Optional[int]]) -> NoReturn:
    """Run an entry point's `main` and leave the process with its exit status.

    `main` returns an exit status or None for 0. `UserError` becomes its sentence on stderr and status 1
    (`UsageError`: 2), an interrupt from the keyboard status 130, and a reader of our output that has gone
    away (`predict.py | head`) ends the process quietly. Any other exception is a bug and keeps its
    traceback.
    """
    _print_any_name()
    try:
        status = _finish(main)
        sys.stdout.flush()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        status = error.status
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        if not _reader_is_gone():
            raise  # another pipe than stdout broke, which is no reader's choice
        # The interpreter flushes stdout once more on its way out: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
