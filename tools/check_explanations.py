"""Test heat maps: does covering the hottest part of an image cost a network more than covering another part?

python tools/check_explanations.py --params runs/photos album/
python tools/check_explanations.py --params runs/se --params runs/dca --limit 100 --share 0.1 album/
python tools/check_explanations.py --params runs/photos --fill mean --stage 1 --stage 3 --json deletion.json album/
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import sys
from typing import Any, Dict, List, Optional, Sequence

from common.files import write_json
from common.text import printable
from common.usage import described
from training.config.fields import add_section, typed
from training.config.flags import number, output_file
from training.config.settings import Parser

sys.path.append(str(_bootstrap.ROOT / 'scripts'))  # its flags are those of explain.py

from _network_flags import Networks, check_network_flags, networks_from
from inference.choices import FILLS


def make_parser() -> Parser:
    parser = Parser(prog='check_explanations.py', **described(__doc__))
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, folders, globs; -: paths on stdin')
    parser.add_argument('--limit', type=number(int, 2), help='most images to take, spread evenly over those given')
    parser.add_argument(
        '--share', type=number(float, 0, 1, open_low=True, open_high=True), default=0.2, help='share of pixels to cover'
    )
    parser.add_argument('--fill', choices=FILLS, default='blur', help='what covered pixels are filled with')
    parser.add_argument(
        '--stage',
        action='append',
        metavar='STAGE',
        help='stage (1, 2, ...) or block (layer3.0); repeat it for further ones (default: the last stage)',
    )
    parser.add_argument('--seed', type=number(int, 0), default=0, help='seed of the random covers')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    add_section(parser, Networks)
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    check_network_flags(typed(Networks, vars(args)))
    return args


answer_flags(__name__, parse)
require_mxnet()

import numpy as np

from data.images import ImageError
from inference.explain.deletion import Deletion, deletion
from inference.explain.gradcam import GradCAM
from inference.network import LoadedNetwork
from inference.sources import image_files


def pixels_of(files: Sequence[str], network: LoadedNetwork) -> np.ndarray:
    """Return the readable images, (N, H, W, 3), and print an error on stderr for each of the others."""
    pixels = []
    for file in files:
        try:
            pixels.append(network.preprocessing.fit(file))
        except ImageError as error:
            print(f'error: {printable(str(error))}', file=sys.stderr)
    if len(pixels) < 2:
        raise UserError(f'{len(pixels)} images can be read; give at least two, and some hundreds for reliable figures')
    return np.stack(pixels)


def figures_of(network: LoadedNetwork, params: str, found: Deletion, share: float, fill: str) -> Dict[str, Any]:
    covers = {}
    for cover, lost in found.lost.items():
        covers[cover] = {'lost': float(lost.mean()), 'standard_error': float(lost.std() / len(lost) ** 0.5)}
        if cover != 'hottest':
            covers[cover]['hottest_loses_more'] = found.beats(cover)
    return {
        'network': network.name,
        'params': params,
        'images': len(found.score),
        'stage': found.stage,
        'share': share,
        'fill': fill,
        'score': float(found.score.mean()),
        'centre_share': float(found.centre.mean()),
        'covers': covers,
    }


def report(figures: Dict[str, Any]) -> None:
    print(
        f'{figures["network"]}: {figures["images"]} images, {figures["stage"]}, mean score {figures["score"]:.3f}; '
        f'{100 * figures["centre_share"]:.1f} % of the heat in the centre quarter (spread evenly: 25 %)'
    )
    for cover, row in figures['covers'].items():
        beaten = row.get('hottest_loses_more')
        told = '' if beaten is None else f'  less than the hottest in {100 * beaten:.0f} % of the images'
        print(f'  {cover:9}  lost {row["lost"]:6.3f} +- {row["standard_error"]:.3f}{told}')


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    files_of_params, networks = networks_from(typed(Networks, vars(args)))
    files = list(image_files(args.images))
    if args.limit is not None and len(files) > args.limit:
        files = [files[i * len(files) // args.limit] for i in range(args.limit)]
    done: List[Dict[str, Any]] = []
    for params, network in zip(files_of_params, networks):
        pixels = pixels_of(files, network)
        for stage in args.stage or [None]:
            try:
                cam = GradCAM(network.net, None if stage is None else [stage])
            except ValueError as error:
                raise UsageError(f'--stage: {error}') from error
            found = deletion(cam, pixels, network.preprocessing, share=args.share, fill=args.fill, seed=args.seed)
            done.append(figures_of(network, params, found, args.share, args.fill))
            report(done[-1])
    if args.json:
        write_json(args.json, done)
    return 0


if __name__ == '__main__':
    run_main(main)
