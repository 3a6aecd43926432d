"""The frame of every entry point: what a user can put right becomes one sentence and an exit status."""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Callable, NoReturn, Optional, Sequence, Type

from common.errors import SetupError, UserError
from common.files import REASONS, explained
from common.text import printable
from environment.health import explain

__all__ = ['answer_flags', 'quiet_interrupts', 'run_main', 'silence_stdout']

INTERRUPTED = 130
# What stdout says that cannot take what is printed: its disk is full, or it was not opened for writing.
DEAF = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)


def _finish(main: Callable[[], Optional[int]]) -> Any:
    """What `sys.exit` is to be given once `main` has ended and all that it printed is written."""
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
        if number in DEAF and error.filename is None:  # files of ours have their names; so this is stdout
            _let_go_of_stdout()
            what, remedy = REASONS[number]
            raise UserError(f'cannot write the output: {what}; {remedy}') from error
        # What a broken set-up looks like from inside.
        explanation = explain(error)
        if explanation is not None:
            raise SetupError(str(explanation)) from error
        # What a path that the user gave looks like. Where the set-up is sound, the rest is a bug of ours.
        if number in REASONS and isinstance(error.filename, str):
            with explained('use', error.filename):
                raise
        raise


def _let_go_of_stdout() -> None:
    """Drop what stdout cannot write, if it still holds any."""
    try:
        sys.stdout.flush()
    except OSError:
        silence_stdout()


def _reader_is_gone() -> bool:
    watch = select.poll()
    watch.register(sys.stdout, 0)  # errors are reported whether asked for or not
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))


def _print_any_name() -> None:
    """Let print say names of files that are no text, which stdout would refuse: their bytes become escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


def silence_stdout() -> None:
    """Let what is printed go nowhere from now on, with what stdout still holds: the interpreter flushes it once more on
    its way out.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def quiet_interrupts() -> None:
    """Let an interrupt from the keyboard end the process without a traceback, also while an entry point is still
    importing what `run_main` is to run.
    """
    usual = sys.excepthook

    def hook(kind: Type[BaseException], error: BaseException, traceback: Optional[TracebackType]) -> None:
        if issubclass(kind, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED)
        usual(kind, error, traceback)

    sys.excepthook = hook


def answer_flags(name: str, parse: Callable[[Optional[Sequence[str]]], Any]) -> None:
    """Let a script answer --help, and faults in its flags, before it imports what takes seconds.

    Call it between the function that parses and those imports, with the script's `__name__`: where the script is being
    run it parses the command line, and ends the process as `run_main` does if that says to; otherwise it does nothing.
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

    `main` returns an exit status or None for 0. `UserError` becomes its sentence on stderr and status 1
    (`UsageError`: 2), and so does an error of the system about a path, or a full disk behind stdout. An interrupt from
    the keyboard is status 130, and a reader of our output that has gone away (`predict.py | head`) ends the process
    quietly. Any other exception is a bug and keeps its traceback.
    """
    _print_any_name()
    try:
        status = _finish(main)
    except UserError as error:
        status = error.status
        with suppress(OSError):  # stderr is full or gone, and the status is all that is left to say
            print(f'error: {printable(str(error))}', file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise  # another pipe than stdout broke, which is no reader's choice
        silence_stdout()
        status = 1
    sys.exit(status)
