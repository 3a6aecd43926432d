"""Replace standard streams that the parent process has closed, as `>&-` does."""

import os
import sys

__all__ = ['open_missing_streams']


def open_missing_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise Python sets them to None, which cannot be written to or flushed, and the next file opened, such as a
    checkpoint, gets their number and with it the output of C libraries.
    """
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = 'w' if number else 'r'
            setattr(sys, name, open(number, mode, errors='backslashreplace', closefd=False))
