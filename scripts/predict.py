"""Classify image files with saved parameters: the most probable classes of each.

python scripts/predict.py --params RUN/best.params photo.jpg other.png
"""

from __future__ import annotations

import _bootstrap  # noqa: F401
from environment import require_mxnet, run_main

require_mxnet()

import argparse
import csv
import io
import json
import sys
from functools import partial
from typing import BinaryIO, List, Optional, Sequence

from _network_flags import add_network_flags, network_from

from environment.files import atomic_write
from inference.predict import Prediction, predict
from training.options import number
from training.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='predict.py', description=__doc__.partition('\n\n')[0])
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--top', type=number(int, 1), default=5, help='classes to name')
    parser.add_argument('--batch-size', type=number(int, 1), default=32, help='images per step')
    parser.add_argument('--json', metavar='FILE', help='write the predictions there')
    parser.add_argument('--csv', metavar='FILE', help='write image, rank, class, probability, error there')
    add_network_flags(parser)
    return parser.parse_args(argv)


def as_csv(predictions: Sequence[Prediction]) -> str:
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['image', 'rank', 'class', 'probability', 'error'])
    for prediction in predictions:
        if prediction.error is not None:
            writer.writerow([prediction.image, '', '', '', prediction.error])
        for rank, (name, probability) in enumerate(prediction.classes, 1):
            writer.writerow([prediction.image, rank, name, f'{probability:.6f}', ''])
    return text.getvalue()


def as_json(predictions: Sequence[Prediction]) -> str:
    rows = []
    for prediction in predictions:
        row = {'image': prediction.image}
        if prediction.error is not None:
            row['error'] = prediction.error
        else:
            row['classes'] = [{'class': name, 'probability': p} for name, p in prediction.classes]
        rows.append(row)
    return json.dumps(rows, indent=2, ensure_ascii=False) + '\n'


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode('utf-8'))


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    network, devices = network_from(args)
    done: List[Prediction] = []
    for prediction in predict(network, args.images, args.top, args.batch_size, ctx=devices[0]):
        done.append(prediction)
        if prediction.error is not None:
            print(f'error: {prediction.error}', file=sys.stderr)
            continue
        print(prediction.image)
        for name, probability in prediction.classes:
            print(f'  {100 * probability:6.2f} %  {name}')
    for path, text in ((args.json, as_json(done)), (args.csv, as_csv(done))):
        if path:
            atomic_write(path, partial(_write, text=text))
    return 1 if any(prediction.error is not None for prediction in done) else 0


if __name__ == '__main__':
    run_main(main)
