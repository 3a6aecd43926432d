"""Standard streams that whoever started the process has closed, as `>&-` does."""

import os
import sys

__all__ = ['open_missing_streams']


def open_missing_streams() -> None:
    """Let standard streams that are closed lead nowhere.

    Otherwise Python has None in their place, which cannot be written to or flushed, and the next file that is opened, a
    checkpoint for one, gets their number, and with it what C libraries have to say.
    """
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # which gets the lowest free number
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = 'w' if number else 'r'
            setattr(sys, name, open(number, mode, errors='backslashreplace', closefd=False))
