"""Run programs with libraries that were compiled with GCC's AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    '-fsanitize=address,undefined',
    '-fno-sanitize=vptr',  # MXNet's classes have their type information in another library
    '-fno-sanitize-recover=undefined',
    '-fno-omit-frame-pointer',
    '-O1',
)


def runtime():
    """Return the libraries to preload: the sanitizer's, and the one whose exceptions it watches;
    None if there are none.
    """
    if shutil.which('g++') is None:
        return None
    paths = [
        subprocess.run(['g++', f'-print-file-name={name}'], stdout=subprocess.PIPE, text=True).stdout.strip()
        for name in ('libasan.so', 'libstdc++.so.6')
    ]
    return ' '.join(paths) if all(map(os.path.isabs, paths)) else None


def run(program, *arguments, **variables):
    """Run Python code; return its ``returncode``, and what it and the sanitizers printed (``stdout``)."""
    environment = {
        **os.environ,
        'LD_PRELOAD': runtime(),
        'ASAN_OPTIONS': 'detect_leaks=0',  # Python and MXNet exit without freeing everything
        'OMP_NUM_THREADS': '2',
        'PYTHONPATH': str(ROOT),
        **variables,
    }
    command = [sys.executable, '-W', 'ignore', '-c', program, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
