"""Run entry points: errors that the user can fix become one sentence and an exit status."""

import errno
import io
import os
import select
import sys
import traceback
from contextlib import suppress
from types import TracebackType
from typing import Any, Callable, NoReturn, Optional, Sequence, Type

from common.console import verbose
from common.errors import SetupError, UserError
from common.files import REASONS, explained
from common.text import printable
from environment.health import explain

__all__ = ['answer_flags', 'quiet_interrupts', 'run_main', 'silence_stdout']

INTERRUPTED = 130
# Errors from a stdout that cannot be written to: its disk is full, or it was not opened for writing.
DEAF = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)


def _finish(main: Callable[[], Optional[int]]) -> Any:
    """Run `main`, flush what it printed, and return the value for `sys.exit`."""
    try:
        try:
            status = main() or 0
        except SystemExit as end:  # argparse's, after --help
            status = end.code
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        raise
    except (ImportError, OSError, AttributeError) as error:
        number = getattr(error, 'errno', None)
        if number in DEAF and error.filename is None:  # errors about our own files carry a file name, so this is stdout
            _let_go_of_stdout()
            what, remedy = REASONS[number]
            raise UserError(f'cannot write the output: {what}; {remedy}') from error
        # A broken installation may be the cause.
        explanation = explain(error)
        if explanation is not None:
            raise SetupError(str(explanation)) from error
        # An error about a path of the user's. If the installation is sound, anything else is a bug of ours.
        if number in REASONS and isinstance(error.filename, str):
            with explained('use', error.filename):
                raise
        raise


def _let_go_of_stdout() -> None:
    """Drop buffered output that stdout cannot write."""
    try:
        sys.stdout.flush()
    except OSError:
        silence_stdout()


def _reader_is_gone() -> bool:
    watch = select.poll()
    watch.register(sys.stdout, 0)  # errors are reported whether asked for or not
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))


def _print_any_name() -> None:
    """Let print write file names that are not valid text, which stdout would refuse, with escapes for their bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


def silence_stdout() -> None:
    """Discard what is printed from now on, and what stdout still buffers: the interpreter flushes it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def quiet_interrupts() -> None:
    """End the process without a traceback on a keyboard interrupt, even while an entry point is still importing."""
    usual = sys.excepthook

    def hook(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
        if issubclass(kind, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED)
        usual(kind, error, trace)

    sys.excepthook = hook


def answer_flags(name: str, parse: Callable[[Optional[Sequence[str]]], Any]) -> None:
    """Let a script answer --help, and report errors in its flags, before imports that take seconds.

    Call it between the parsing function and those imports, with the script's `__name__`. If the script is being run,
    this parses the command line, and ends the process as `run_main` does if parsing raises; otherwise it does nothing.
    """
    if name != '__main__':
        return
    try:
        parse(None)
    except BaseException as error:
        reason = error

        def end() -> NoReturn:
            raise reason

        run_main(end)


def run_main(main: Callable[[], Optional[int]]) -> NoReturn:
    """Run an entry point's `main` and leave the process with its exit status.

    `main` returns an exit status, or None for 0. A `UserError` is printed to stderr and becomes status 1 (`UsageError`:
    2); so does a system error about a path, or a full disk behind stdout. A keyboard interrupt becomes status 130. A
    closed pipe behind stdout (`predict.py | head`) ends the process quietly. Any other exception is a bug and keeps its
    traceback.
    """
    _print_any_name()
    try:
        status = _finish(main)
    except UserError as error:
        status = error.status
        with suppress(OSError):  # stderr is full or gone, so the status has to suffice
            if verbose():
                traceback.print_exc()
            print(f'error: {printable(str(error))}', file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise  # a pipe other than stdout broke
        silence_stdout()
        status = 1
    sys.exit(status)
