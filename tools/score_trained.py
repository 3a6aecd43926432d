"""Score trained networks in three precisions and on damaged images, and time them: accuracy over milliseconds.

    python tools/score_trained.py --dataset FOLDER -o results/claims/scores.json       # all networks in params/cifar10
    python tools/score_trained.py runs/a runs/b --dataset FOLDER -o scores.json
    python tools/score_trained.py --scores scores.json --draw accuracy.svg
    python tools/score_trained.py --scores scores.json --update page.md         # between markers of the table 'scores'

Every precision runs in the project's engine, image by image on one thread, calibrated on training images. Times are
medians of rounds in which all networks take turns. Images are damaged as in CIFAR-10-C at severity 3; the calibration
error is the expected one over 15 bins (Guo et al., arXiv 1706.04599).
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from common.files import make_folder, write_json
from common.schema import read_json
from common.usage import described
from inference.choices import PRECISIONS
from training.config.flags import number, output_file
from training.config.settings import Parser

SCORES = _bootstrap.ROOT / 'results' / 'claims' / 'scores.json'
TABLE = 'scores'


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='score_trained.py', **described(__doc__))
    parser.add_argument('params', nargs='*', metavar='PARAMS', help='parameter files or run folders')
    parser.add_argument('--name', default='cifar10', help='without PARAMS: all networks in this folder of params/')
    parser.add_argument('--dataset', help='the images, as for validate.py: test images are scored')
    parser.add_argument('--limit', type=number(int, 1), help='score only this many images, for a trial')
    parser.add_argument('--repeats', type=number(int, 1), default=7, help='measurements of each time')
    parser.add_argument('-o', '--output', type=output_file, metavar='FILE', help='write the figures to this file')
    parser.add_argument('--scores', type=Path, default=SCORES, metavar='FILE', help='figures for the next three flags')
    parser.add_argument('--update', type=Path, metavar='FILE', help='update the table in this Markdown file')
    parser.add_argument('--check', type=Path, metavar='FILE', help='fail if the table in this file is out of date')
    parser.add_argument('--draw', type=output_file, metavar='SVG', help='draw accuracy over time')
    args = parser.parse_args(argv)
    if args.update and args.check:
        raise UsageError('--update and --check are both given; give one of them')
    if bool(args.dataset) != bool(args.output):
        raise UsageError('--dataset and -o belong together: what to score, and where to write the figures')
    if not (args.dataset or args.update or args.check or args.draw):
        raise UsageError('nothing to do; give --dataset and -o, or --update, --check or --draw')
    return args


answer_flags(__name__, parse)
require_mxnet()

import matplotlib
import mxnet as mx
import numpy as np
from _damage import DAMAGES, damaged

import kernels.engine
from _readme import settle
from data.classification.by_name import load_splits
from data.classification.dataset import ImageDataset
from environment.cpu import lacks, processor
from inference import optimize
from inference.network import LoadedNetwork, load_network
from inference.predict import softmax
from training.report.chart import PALETTE

CALIBRATION_IMAGES = 256
BINS = 15
BATCH = 50
SPLITS = ('train', 'test')
TURN = 0.2  # seconds of a measurement


class Scored(NamedTuple):
    """The logits (N, K) of a network for images with these labels (N,)."""

    logits: np.ndarray
    labels: np.ndarray

    @property
    def top1(self) -> float:
        return float((self.logits.argmax(axis=1) == self.labels).mean())

    @property
    def calibration_error(self) -> float:
        """Return the mean distance of accuracy from confidence over bins of equal width, weighted by their images."""
        probabilities = softmax(self.logits)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == self.labels
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        gaps = [abs(right[bins == i].sum() - confidence[bins == i].sum()) for i in range(BINS)]
        return float(sum(gaps) / len(right))


def answers(net: Any, network: LoadedNetwork, images: np.ndarray, labels: np.ndarray) -> Scored:
    pieces = [network.preprocessing.batch(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return Scored(np.concatenate([net(mx.nd.array(piece)).asnumpy() for piece in pieces]), labels)


def figures_of(
    network: LoadedNetwork, test: ImageDataset, train: ImageDataset
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return a network's figures, and its forms for single images by precision."""
    size = network.preprocessing.size
    calibration = network.preprocessing.batch(train.limited(CALIBRATION_IMAGES).images)
    top1, forms, refused = {}, {}, {}
    for precision in PRECISIONS:
        if precision == 'float16':
            continue  # of GPUs
        if lacks(precision):
            refused[precision] = f'the processor lacks {", ".join(lacks(precision))}'
            continue
        given = {'calibration': calibration} if precision == 'int8' else {}
        try:
            many = optimize(network.net, (BATCH, 3, size, size), precision, engine='own', **given)
            forms[precision] = optimize(network.net, (1, 3, size, size), precision, engine='own', **given)
        except UserError as error:
            if precision == 'float32':  # which everything else is compared with
                raise
            refused[precision] = str(error)
            continue
        scored = answers(many, network, test.images, test.labels)
        top1[precision] = scored.top1
        if precision == 'float32':
            error_of_confidence = scored.calibration_error
            damages = {kind: answers(many, network, damaged(test.images, kind), test.labels).top1 for kind in DAMAGES}
    figures = {
        'network': network.name,
        'seed': network.manifest.get('seed'),
        'top1': top1,
        'refused': refused,
        'calibration_error': error_of_confidence,
        'damaged': damages,
    }
    return figures, forms


def time_all(forms: Sequence[Dict[str, Any]], size: int, repeats: int) -> List[Dict[str, float]]:
    """Return the milliseconds of one image for each network and precision: medians of rounds in turn."""
    image = mx.nd.array(np.random.RandomState(0).standard_normal((1, 3, size, size)))
    taken: List[Dict[str, List[float]]] = [{precision: [] for precision in each} for each in forms]
    for _ in range(repeats):
        for each, times in zip(forms, taken):
            for precision, net in each.items():
                count, start = 0, time.perf_counter()
                while count == 0 or time.perf_counter() - start < TURN:
                    net(image).wait_to_read()
                    count += 1
                times[precision].append(1000 * (time.perf_counter() - start) / count)
    return [{precision: statistics.median(values) for precision, values in times.items()} for times in taken]


def score(paths: Sequence[str], dataset: str, limit: Optional[int], repeats: int) -> Dict[str, Any]:
    rows, forms = [], []
    known: Dict[Any, List[ImageDataset]] = {}
    for path in paths:
        network = load_network(path, task='classification')
        if network.preprocessing not in known:
            known[network.preprocessing] = load_splits(dataset, SPLITS, preprocessing=network.preprocessing)
        train, test = known[network.preprocessing]
        if network.class_names is not None:
            test = test.with_classes(network.class_names)
        figures, own = figures_of(network, test.limited(limit), train)
        rows.append(figures)
        forms.append(own)
        print(f'{network.name}: {figures["top1"]}', flush=True)
    for row, times in zip(rows, time_all(forms, network.preprocessing.size, repeats)):
        row['milliseconds'] = times
    return {
        'images': len(test.limited(limit)),
        'processor': processor().name,
        'instructions': kernels.engine.chosen(),
        'rows': rows,
    }


def table_of(content: Dict[str, Any]) -> str:
    kinds = list(content['rows'][0]['damaged'])
    precisions = ('float32', 'bfloat16', 'int8')
    head = ['network', *precisions, *(f'ms, {p}' for p in precisions), 'calibration error', *kinds]
    lines = [f'| {" | ".join(head)} |', f'| --- |{" ---: |" * (len(head) - 1)}']
    for row in content['rows']:
        cells = [f'`{row["network"]}`']
        cells += [f'{100 * row["top1"][p]:.2f}' if p in row['top1'] else '–' for p in precisions]
        cells += [f'{row["milliseconds"][p]:.3f}' if p in row['milliseconds'] else '–' for p in precisions]
        cells += [f'{100 * row["calibration_error"]:.1f}', *(f'{100 * row["damaged"][kind]:.1f}' for kind in kinds)]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def draw(content: Dict[str, Any], path: str) -> None:
    """Draw a point for each network and precision: top-1 over the time of an image."""
    matplotlib.use('svg')
    matplotlib.rcParams.update({'svg.hashsalt': 'accuracy', 'svg.fonttype': 'none', 'font.size': 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8))
    marks = {'float32': 'o', 'bfloat16': 's', 'int8': '^'}
    for place, row in enumerate(content['rows']):
        colour = PALETTE[place % len(PALETTE)] if place < len(PALETTE) else '#24292f'
        known = [p for p in marks if p in row['top1']]
        x, y = ([row[what][p] * factor for p in known] for what, factor in (('milliseconds', 1), ('top1', 100)))
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.5)
        for p, one, other in zip(known, x, y):
            axes.plot(one, other, marks[p], color=colour, markersize=6)
        axes.annotate(row['network'], (x[0], y[0]), textcoords='offset points', xytext=(7, 3), color=colour)
    for p, mark in marks.items():
        axes.plot([], [], mark, color='#57606a', label=p)
    axes.set_xlabel('milliseconds for one image, one thread')
    axes.set_ylabel('top-1, %')
    axes.margins(x=0.25, y=0.12)
    axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncol=len(marks), frameon=False)  # clear of the points
    axes.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format='svg', metadata={'Date': None})


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    if args.dataset:
        folder = _bootstrap.ROOT / 'params' / args.name
        paths = args.params or [str(path) for path in sorted(folder.glob('*/seed-*.params'))]
        if not paths:
            raise UsageError(f'--name {args.name}: there are no parameters in {folder}; give PARAMS')
        make_folder(Path(args.output).parent)
        write_json(args.output, score(paths, args.dataset, args.limit, args.repeats))
    page = args.update or args.check
    if page or args.draw:
        try:
            content = read_json(Path(args.output or args.scores), {'images': int, 'rows': [object], ...: object})
        except (OSError, ValueError) as error:
            raise UserError(f'{args.output or args.scores} cannot be read: {error}; score networks first') from error
        if page:
            command = f'python tools/score_trained.py --update {page}'
            settle(page, {TABLE: table_of(content)}, args.check is not None, command)
        if args.draw:
            draw(content, args.draw)


if __name__ == '__main__':
    run_main(main)
