"""Filter what MXNet's compiled code writes to stderr and offers no switch for."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from typing import Iterator

from common.console import verbose

__all__ = ['without_lines']


@contextlib.contextmanager
def without_lines(pattern: str) -> Iterator[None]:
    """Suppress stderr lines that match ``pattern`` within the block, from this process and those that it starts.

    The other lines are written at the end of the block, even if it raises. With -v, nothing is suppressed.
    """
    if verbose():
        yield
        return
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
