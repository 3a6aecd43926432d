"""Compile the inference engine for this machine.

    python -m kernels.engine [--optional]

Takes about twenty seconds, once. The exit status is 1 if that fails; with `--optional` only the reason is printed.
"""

from __future__ import annotations

import argparse

import environment
from common.errors import UserError
from kernels.engine import build


def main() -> None:
    parser = argparse.ArgumentParser(prog='python -m kernels.engine', description=__doc__.splitlines()[0])
    parser.add_argument('--optional', action='store_true', help='succeed without it too, saying why')
    args = parser.parse_args()
    try:
        build()
    except (UserError, OSError) as error:
        if not args.optional:
            raise
        print(f'{error}; optimized networks run in MXNet without it')


if __name__ == '__main__':
    environment.run_main(main)
