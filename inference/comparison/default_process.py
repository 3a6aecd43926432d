"""Run a hybridized network in a separate process, in which MXNet chooses its number of threads by default.

This package sets that number before MXNet is loaded, and it cannot be changed afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Optional, Sequence, Tuple

import numpy as np

from environment import UserError, threads
from environment.threads import VARIABLES, WAITING

__all__ = ['DefaultProcess']

# What `import environment` sets.
_OURS = (*VARIABLES, *WAITING)
_ROOT = Path(__file__).resolve().parents[2]


class DefaultProcess:
    """``(N, 3, H, W) -> (N, classes)`` as arrays, for one shape. Images and answers are in memory-mapped files."""

    def __init__(self, net: Any, shape: Sequence[int]) -> None:
        import mxnet as mx

        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        net.hybridize()
        answer = net(mx.nd.zeros(tuple(shape)))
        net.export(str(folder / 'net'))
        self._images = _mapped(folder / 'images', shape, 'w+')
        self._answers = _mapped(folder / 'answers', answer.shape, 'w+')
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__, str(folder), _text(shape), _text(answer.shape)],
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if name not in _OURS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        #: Megabytes that the process has allocated for the network; None if the kernel does not say.
        self.memory: Optional[float] = None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self._images[:] = batch
        try:
            self._process.stdin.write('\n')
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ''
        if not line:
            raise UserError(f'the process with the threads of MXNet ended with status {self._process.wait()}')
        self.memory = float(line) if line.strip() else None
        return np.array(self._answers)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def _text(shape: Sequence[int]) -> str:
    return ','.join(map(str, shape))


def _mapped(file: Path, shape: Sequence[int], mode: str) -> np.memmap:
    return np.memmap(file, np.float32, mode, shape=tuple(shape))


def _serve(folder: Path, shape: Tuple[int, ...], answers: Tuple[int, ...]) -> None:
    threads.set_threads = lambda: None  # which importing MXNet would call again
    for name in _OURS:
        os.environ.pop(name, None)
    import mxnet as mx

    if any(name in os.environ for name in _OURS):
        raise RuntimeError('the number of threads was changed unexpectedly')

    from inference.comparison.machine import peak_memory, resident_memory

    images, logits = _mapped(folder / 'images', shape, 'r'), _mapped(folder / 'answers', answers, 'r+')
    before = resident_memory()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # that the input's type is not known yet
        net = mx.gluon.SymbolBlock.imports(str(folder / 'net-symbol.json'), ['data'], str(folder / 'net-0000.params'))
    net.hybridize()
    for _ in sys.stdin:
        logits[:] = net(mx.nd.array(images)).asnumpy()
        print('' if before is None else peak_memory() - before, flush=True)


if __name__ == '__main__':
    _serve(Path(sys.argv[1]), *(tuple(map(int, text.split(','))) for text in sys.argv[2:4]))
