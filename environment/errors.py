"""Errors that a user can put right, and the frame of every entry point that reports them."""

import os
import select
import sys
from typing import Callable, NoReturn, Optional

__all__ = ['SetupError', 'UsageError', 'UserError', 'run_main']


class UserError(Exception):
    """What the user can put right. The message is one sentence: the flag or file, the value, what is
    allowed, the next step. Entry points print it without a traceback and exit with `status`."""

    status = 1


class UsageError(UserError):
    """The command line asks for something that does not exist or does not go together."""

    status = 2


class SetupError(UserError):
    """This Python cannot run MXNet; the message ends with the command that mends it."""


def _finish(main: Callable[[], Optional[int]]) -> int:
    from environment import health  # here, as health needs the errors of this file

    try:
        return main() or 0
    except (ImportError, OSError, AttributeError) as error:
        # What a broken set-up looks like from inside; where the set-up is sound, it is a bug of ours.
        explanation = None if isinstance(error, BrokenPipeError) else health.explain(error)
        if explanation is None:
            raise
        raise SetupError(str(explanation)) from error


def _reader_is_gone() -> bool:
    watch = select.poll()
    watch.register(sys.stdout, 0)  # errors are reported whether asked for or not
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))


def run_main(main: Callable[[], Optional[int]]) -> NoReturn:
    """Run an entry point's `main` and leave the process with its exit status.

    `main` returns an exit status or None for 0. `UserError` becomes its sentence on stderr and status 1
    (`UsageError`: 2), an interrupt from the keyboard status 130, and a reader of our output that has gone
    away (`predict.py | head`) ends the process quietly. Any other exception is a bug and keeps its
    traceback.
    """
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
