"""Export a trained network: for MXNet alone, optimized, and as ONNX, each run and compared before it is trusted.

python scripts/export.py --params RUN/best.params -o exported
"""

from __future__ import annotations

import _bootstrap  # noqa: F401
from environment import require_mxnet, run_main

require_mxnet()

import argparse
import json
from typing import Optional, Sequence

import numpy as np
from _network_flags import add_network_flags, network_from

from environment import UsageError, UserError
from environment.files import atomic_write
from inference.export import KINDS, export
from inference.optimizer import PRECISIONS
from inference.preprocessing import Preprocessing
from inference.sources import image_files
from training.options import number
from training.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='export.py', description=__doc__.partition('\n\n')[0])
    add_network_flags(parser)
    group = parser.add_argument_group('export')
    group.add_argument('-o', '--output', required=True, metavar='FOLDER', help='where to; the folder can be moved')
    group.add_argument('--kinds', default=','.join(KINDS), help='what to write, with commas')
    group.add_argument('--precision', choices=PRECISIONS, default='float32', help='of the optimized network')
    group.add_argument('--batch-size', type=number(int, 1), default=1, help='images that the optimized one is made for')
    group.add_argument(
        '--images',
        nargs='+',
        metavar='IMAGE',
        help='files, folders or globs: to compare on, and for int8 to calibrate with (default, but for int8: embedded '
        'digits)',
    )
    group.add_argument('--limit', type=number(int, 1), default=128, help='use so many of --images at most')
    parser.add_argument('--json', metavar='FILE', help='write the differences there')
    args = parser.parse_args(argv)
    args.kinds = list(dict.fromkeys(args.kinds.split(',')))
    for kind in args.kinds:
        if kind not in KINDS:
            raise UsageError(f'--kinds has {kind!r}; allowed: {", ".join(KINDS)}')
    if args.precision == 'int8' and not args.images:
        raise UsageError('--precision int8 needs --images: some hundred real images to calibrate with')
    return args


def digits(preprocessing: Preprocessing, count: int = 8) -> np.ndarray:
    """Real images that every installation has."""
    from sklearn.datasets import load_digits

    grey = (load_digits().images[:count] * (255 / 16)).astype(np.uint8)
    large = [np.kron(image, np.ones((8, 8), np.uint8)) for image in grey]
    return preprocessing.batch(np.stack([preprocessing.fit(np.stack([image] * 3, axis=2)) for image in large]))


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    network, _ = network_from(args)
    if args.images:
        files = list(image_files(args.images))[: args.limit]
        if not files:
            raise UserError(f'--images {" ".join(args.images)} names no image; give files, folders or globs')
        images = network.preprocessing.batch(np.stack([network.preprocessing.fit(file) for file in files]))
    else:
        images = digits(network.preprocessing)
    proof = export(
        network,
        args.output,
        images,
        args.kinds,
        args.precision,
        args.batch_size,
        images if args.precision == 'int8' and 'optimized' in args.kinds else None,
    )
    print(f'{network.name} in {args.output}')
    for kind, figures in proof.items():
        print(
            f'{kind:<10} largest difference {figures["difference"]:.1e} of the largest logit, same class on '
            f'{100 * figures["same_class"]:.1f} % of {figures["images"]} images'
        )
    if args.json:
        atomic_write(args.json, lambda file: file.write((json.dumps(proof, indent=2) + '\n').encode()))
    return 0


if __name__ == '__main__':
    run_main(main)
