"""Run a hybridized network in a separate process, in which MXNet chooses its number of threads by default.

This package sets that number before MXNet is loaded, and it cannot be changed afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Optional, Sequence, Tuple

from environment import threads
from environment.threads import VARIABLES, WAITING
from inference.comparison.network_process import NetworkProcess, mapped, shape_of

__all__ = ['DefaultProcess']

# What `import environment` sets.
_OURS = (*VARIABLES, *WAITING)


class DefaultProcess(NetworkProcess):
    """``(N, 3, H, W) -> (N, classes)`` as arrays, for one shape."""

    def __init__(self, net: Any, shape: Sequence[int]) -> None:
        import mxnet as mx

        folder = tempfile.TemporaryDirectory()
        net.hybridize()
        answer = net(mx.nd.zeros(tuple(shape)))
        net.export(str(Path(folder.name, 'net')))
        environment = {name: value for name, value in os.environ.items() if name not in _OURS}
        super().__init__(__name__, folder, (shape, answer.shape), 'the threads of MXNet', environment)
        #: Megabytes that the process has allocated for the network; None if the kernel does not say.
        self.memory: Optional[float] = None

    def heard(self, line: str) -> None:
        self.memory = float(line) if line else None


def _serve(folder: Path, shape: Tuple[int, ...], answers: Tuple[int, ...]) -> None:
    threads.set_threads = lambda: None  # which importing MXNet would call again
    for name in _OURS:
        os.environ.pop(name, None)
    import mxnet as mx

    if any(name in os.environ for name in _OURS):
        raise RuntimeError('the number of threads was changed unexpectedly')

    from inference.comparison.machine import peak_memory, resident_memory

    images, logits = mapped(folder / 'images', shape, 'r'), mapped(folder / 'answers', answers, 'r+')
    before = resident_memory()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # that the input's type is not known yet
        net = mx.gluon.SymbolBlock.imports(str(folder / 'net-symbol.json'), ['data'], str(folder / 'net-0000.params'))
    net.hybridize()
    for _ in sys.stdin:
        logits[:] = net(mx.nd.array(images)).asnumpy()
        print('' if before is None else peak_memory() - before, flush=True)


if __name__ == '__main__':
    _serve(Path(sys.argv[1]), *map(shape_of, sys.argv[2:4]))
