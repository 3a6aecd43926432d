"""What MXNet's compiled part writes to stderr on its own, and has no switch for."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from typing import Iterator

__all__ = ['without_lines']


@contextlib.contextmanager
def without_lines(pattern: str) -> Iterator[None]:
    """Within it, lines on stderr, of this process and those that it starts, that ``pattern`` is found in are left out.

    The others come out at its end, whether it ends well or not.
    """
    left_out = re.compile(pattern.encode())
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not left_out.search(line):
                    os.write(2, line)
