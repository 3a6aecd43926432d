"""Compile the kernels for this machine.

    python -m kernels.build [--optional]

Takes half a minute, once: an existing library is kept, unless it is damaged. The library is compared with NumPy in a
separate process before it may be used. The exit status is 1 if there is no library; with `--optional` only the reason
is printed.

With ATTENTION_KERNELS_ISA=avx2 in the environment they are compiled for any processor with AVX2, into a separate
library, which is used whenever the variable is set. DNNL_MAX_CPU_ISA=AVX2 has the same effect on oneDNN.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Sequence

import environment
from common.errors import UserError
from kernels import place
from kernels.place import FOLDER, SOURCE, compiler_flags, library_path, mxnet_folder, target, why_not

__all__ = ['build', 'compile_library']


def _output(command: Sequence[str], failing: str, seconds: int) -> None:
    """Run a command; `UserError` with the last line of its output if it fails."""
    try:
        run = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=str(FOLDER.parent),
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f'{failing} after {seconds} seconds') from error
    if run.returncode:
        said = [line for line in run.stdout.splitlines() if 'error: ' in line] or run.stdout.splitlines()[-1:]
        raise UserError(f'{failing} with status {run.returncode} ({said[0].strip() if said else "no message"})')


def compile_library(path: Path, *flags: str) -> None:
    """Compile the kernels to ``path``, with additional compiler flags; `UserError` if that fails."""
    compiler = shutil.which(os.environ.get('CXX', 'g++'))
    if compiler is None:
        raise UserError('the kernels need g++, which is not installed (Debian, Ubuntu: sudo apt install g++)')
    processors = 'this processor' if target() == 'native' else 'processors with AVX2'
    print(f'compiling the kernels for {processors}, which takes half a minute', file=sys.stderr)
    mxnet = mxnet_folder()
    headers = [word for name in ('include', 'include/mkldnn') for word in ('-isystem', str(mxnet / name))]
    command = [compiler, *compiler_flags(), *flags, *headers, str(SOURCE), '-o', str(path), f'-L{mxnet}', '-lmxnet']
    _output(command, f'{Path(compiler).name} failed to compile the kernels', 600)


def build() -> Path:
    """Return the library, compiling it if necessary; `UserError` if that fails."""
    reason = why_not()
    if reason is not None:
        raise UserError(f'the kernels cannot be had: {reason}')
    path = library_path()
    damage = place.flaw(path) if path.exists() else None
    if path.exists() and damage is None:
        return path
    if damage is not None:
        print(f'{path.relative_to(FOLDER.parent)} {damage}', file=sys.stderr)
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(path.parent)) as folder:
        candidate = Path(folder, path.name)
        compile_library(candidate)
        # A wrong guess about MXNet's binary could kill the process.
        _output([sys.executable, '-m', 'kernels.check', str(candidate)], 'the kernels failed their check', 300)
        place.seal(candidate, path.stem)
        candidate.replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog='python -m kernels.build', description=__doc__.splitlines()[0])
    parser.add_argument('--optional', action='store_true', help='succeed without them too, saying why')
    args = parser.parse_args()
    try:
        build()
    except (UserError, OSError) as error:
        if not args.optional:
            raise
        print(f'{error}; training works without them, at half the speed for ATAC')


if __name__ == '__main__':
    environment.run_main(main)
