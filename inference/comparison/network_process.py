"""A network that a process of its own runs, which gets images and gives answers through memory-mapped files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Mapping, Sequence, Tuple

import numpy as np

from environment import UserError

__all__ = ['NetworkProcess', 'mapped', 'shape_of']

_ROOT = Path(__file__).resolve().parents[2]


class NetworkProcess:
    """``(N, 3, H, W) -> (N, classes)`` as arrays, for one shape.

    ``module`` is run with ``folder``, both shapes and ``words`` as its arguments. Whenever it gets a line, it computes
    answers from images and prints a line. ``name`` is what errors call the process.
    """

    def __init__(
        self,
        module: str,
        folder: tempfile.TemporaryDirectory,
        shapes: Tuple[Sequence[int], Sequence[int]],
        name: str,
        environment: Mapping[str, str],
        words: Sequence[str] = (),
    ) -> None:
        self._folder, self._name = folder, name
        self._images, self._answers = (
            mapped(Path(folder.name, file), shape, 'w+') for file, shape in zip(('images', 'answers'), shapes)
        )
        texts = (','.join(map(str, shape)) for shape in shapes)
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, folder.name, *texts, *words],
            cwd=_ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Return the next line of the process."""
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f'the process with {self._name} ended with status {self._process.wait()}')
        return line.strip()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self._images[:] = batch
        try:
            self._process.stdin.write('\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its status is told with the line that does not come
        self.heard(self.line())
        return np.array(self._answers)

    def heard(self, line: str) -> None:
        """Take note of what the process printed when it had its answers."""

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def mapped(file: Path, shape: Sequence[int], mode: str) -> np.memmap:
    return np.memmap(file, np.float32, mode, shape=tuple(shape))


def shape_of(text: str) -> Tuple[int, ...]:
    """Return the shape that an argument gives."""
    return tuple(map(int, text.split(',')))
