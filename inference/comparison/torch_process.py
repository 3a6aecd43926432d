"""Run a network in PyTorch in a separate process, from the module that `inference.torch_source` writes.

The process has no MXNet: both bring libraries of the same names. It compiles the network by `torch.compile`, with its
weights as constants; where that fails, it runs the network as it is. Memory is in PyTorch's `channels_last` order.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Sequence, Tuple

from environment import UserError
from inference.comparison.network_process import NetworkProcess, mapped, shape_of

__all__ = ['TorchProcess']


class TorchProcess(NetworkProcess):
    """``(N, 3, H, W) -> (N, classes)`` as arrays, for one shape, in float32 or bfloat16.

    ``way`` says whether it is compiled, and why not. Raises `UserError` without PyTorch, and for a network that has no
    form there.
    """

    def __init__(self, net: Any, shape: Sequence[int], precision: str) -> None:
        if importlib.util.find_spec('torch') is None:
            raise UserError(
                f'the mode torch needs the package torch, which is not installed; run {sys.executable} -m pip install '
                'torch, or leave the mode out'
            )
        import mxnet as mx

        from inference.comparison.runtimes import given_threads
        from inference.torch_source import Unwritten, torch_source
        from model.convert import to_state_dict
        from model.convert.safetensors import write_safetensors

        folder = tempfile.TemporaryDirectory()
        try:
            Path(folder.name, 'net.py').write_text(torch_source(net, 'Net', shape[2]))
        except Unwritten as error:
            raise UserError(f'this network has no form for PyTorch: {error}') from error
        with Path(folder.name, 'net.safetensors').open('wb') as file:
            write_safetensors(file, to_state_dict(net))
        answer = net(mx.nd.zeros(tuple(shape)))
        words = (precision, str(given_threads()))
        super().__init__(__name__, folder, (shape, answer.shape), 'PyTorch', os.environ, words)
        self.way = self.line()


def _compiled(net: Any, images: Any, context: Any) -> Tuple[Any, str]:
    """Return the network to run, and how it runs."""
    import torch
    from torch._inductor import config

    config.freezing = True  # weights as constants, batch norms within them
    if os.environ.get('ATEN_CPU_CAPABILITY') == 'avx2':
        config.cpp.simdlen = 256
    made = torch.compile(net)
    try:
        with context():
            made(images)
    except Exception as error:  # whatever its compilers raise
        return net, f'eager: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
    return made, 'compiled'


def _serve(folder: Path, shape: Tuple[int, ...], answers: Tuple[int, ...], precision: str, threads: int) -> None:
    import torch

    sys.path.insert(0, str(folder))
    import net as module

    torch.set_num_threads(threads)
    images, logits = mapped(folder / 'images', shape, 'r'), mapped(folder / 'answers', answers, 'r+')
    net = module.load().to(memory_format=torch.channels_last)

    def given() -> Any:
        return torch.from_numpy(images.copy()).to(memory_format=torch.channels_last)

    @contextlib.contextmanager
    def context() -> Any:
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'):
            yield

    run, way = _compiled(net, given(), context)
    print(way, flush=True)
    for _ in sys.stdin:
        with context():
            logits[:] = run(given()).float().numpy()
        print(flush=True)


if __name__ == '__main__':
    _serve(Path(sys.argv[1]), *map(shape_of, sys.argv[2:4]), sys.argv[4], int(sys.argv[5]))
