"""Find the image files that a user means: files, folders, globs, names on standard input."""

from __future__ import annotations

import glob
import os
import sys
from typing import Iterator, Sequence

from data.images import images_below

__all__ = ['image_files']


def image_files(given: Sequence[str]) -> Iterator[str]:
    """Yield the paths that ``given`` names, in order.

    A folder stands for the images below it, by name and without hidden ones; a pattern with ``*``, ``?`` or ``[`` for
    what it matches, where no file has that very name; ``-`` for the paths on standard input, one a line. A path that
    does not exist is yielded as it is, so that reading it reports the error.
    """
    for name in given:
        if name == '-':
            for line in sys.stdin:
                if line.strip():
                    yield from image_files([line.rstrip('\r\n')])
        elif os.path.isdir(name):
            yield from (os.path.join(name, path) for path in images_below(name))
        elif not os.path.exists(name) and glob.has_magic(name):
            found = sorted(glob.glob(name, recursive=True))
            # Nothing found: the pattern itself is the name of what is missing.
            yield from image_files(found) if found else [name]
        else:
            yield name
