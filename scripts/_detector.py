"""What validate.py and predict.py do with a trained detector in place of a classifier."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from _network_flags import DEFAULT_MODE, devices_from, numbers
from common.files import atomic_write, check_writable, make_folder, write_json
from common.text import printable
from data.coco.dataset import FOLDER, locate, read_coco
from data.coco.orientation import UPRIGHT, told
from detection.evaluate import found_by
from detection.load import LoadedDetector, load_detector
from detection.loader import DetectionLoader
from detection.metrics import FIGURES, average_precision, class_precision, write_results
from detection.predict import Detection, detect, draw
from detection.preprocessing import DetectionPreprocessing
from environment import UsageError, UserError
from inference.choices import THRESHOLD
from model.hybridization import apply_mode
from training.config.model_options import with_options, with_plugins

__all__ = ['detector_from', 'predict_boxes', 'validate']

PARTS = {'test': 'val', 'val': 'val', 'train': 'train'}


def detector_from(args: argparse.Namespace) -> Tuple[LoadedDetector, List[Any]]:
    """The detector that the flags name, in its mode, and its devices."""
    devices = devices_from(args)
    with_plugins(args.plugin)
    network = load_detector(args.params, args.model, with_options({}, args.option), args.classes, devices)
    changes = {
        'short': args.short,
        'max_size': args.max_size,
        'mean': numbers('--mean', args.mean),
        'std': numbers('--std', args.std),
        'interpolation': args.interpolation,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    try:
        known = DetectionPreprocessing.from_dict({**network.preprocessing.to_dict(), **changes})
    except ValueError as error:
        raise UsageError(f'--short, --max-size, --mean or --std: {error}') from error
    apply_mode(network.net, args.mode or DEFAULT_MODE)
    return dataclasses.replace(network, preprocessing=known), devices


def validate(args: argparse.Namespace) -> int:
    """COCO's figures of a detector on a data set in COCO's format."""
    network, devices = detector_from(args)
    if args.split not in PARTS:
        raise UsageError(f'--split is {args.split}; for a detector {", ".join(PARTS)} are allowed')
    annotations, images = args.annotations, args.images
    if annotations is None or images is None:
        located = locate(args.data_dir or FOLDER, PARTS[args.split])
        annotations, images = annotations or located[0], images or located[1]
    everything = read_coco(annotations, images, classes=network.classes).for_scoring()
    if len(everything.class_names) != network.net.classes:
        raise UserError(
            f'{annotations} has {len(everything.class_names)} categories, and the detector of {args.params} knows '
            f'{network.net.classes} classes; give the data set it was trained for'
        )
    dataset = everything.limited(args.limit)
    loader = DetectionLoader(
        dataset,
        network.preprocessing,
        (args.batch_size or 1) * len(devices),
        threads=args.num_data_workers or 2,
        max_bad=len(dataset) // 100,
    )
    start = time.perf_counter()
    found = found_by(network.net, loader, devices)
    seconds = time.perf_counter() - start
    figures, classes = average_precision(dataset, found), class_precision(dataset, found)
    print(f'{network.name} on {dataset.name}: {len(found)} images')
    print('  '.join(f'{_title(name)} {_percent(figures[name])}' for name in FIGURES))
    for name, row in classes.items():
        print(f'  {printable(name)}: AP {_percent(row["ap"])}  AP50 {_percent(row["ap50"])}')
    for line in (*dataset.report.lines(), *(f'left out: {sentence}' for sentence in loader.bad.sentences)):
        print(printable(line))
    if args.results:
        write_results(args.results, dataset, found)
    if args.json:
        rows = {
            'params': args.params,
            'model': network.name,
            'dataset': dataset.name,
            'count': len(found),
            **figures,
            'classes': classes,
            'annotations': dict(dataset.report.counts),
            'unreadable': list(loader.bad.sentences),
            'seconds': seconds,
            'images_per_second': len(found) / seconds,
        }
        write_json(args.json, rows)
    return 0


def _title(name: str) -> str:
    return name.replace('ap', 'AP', 1)


def _percent(value: float) -> str:
    return 'none there' if value < 0 else f'{100 * value:.2f} %'


def predict_boxes(args: argparse.Namespace, files: Sequence[str]) -> int:
    """Print the boxes of images, and draw them into --draw."""
    network, devices = detector_from(args)
    if args.draw:
        make_folder(Path(args.draw))
    if args.json:  # which may be in that folder
        check_writable(args.json)
    threshold = THRESHOLD if args.threshold is None else args.threshold
    titles = network.titles()
    rows: List[Dict[str, Any]] = []
    taken: Set[str] = set()
    turned = False  # whether an image has an orientation, which is told once
    with tqdm(total=len(files), unit=' images', disable=not sys.stderr.isatty()) as bar:
        for detection in detect(network, files, threshold, args.batch_size or 1, devices[0]):
            bar.update()
            rows.append(_row(detection, titles))
            if detection.error is not None:
                tqdm.write(f'error: {printable(detection.error)}', file=sys.stderr)
                continue
            if detection.orientation != UPRIGHT and not turned:
                turned = True
                tqdm.write(printable(told(detection.image, detection.orientation)), file=sys.stderr)
            if not args.quiet:
                lines = [detection.image, *(_line(box) for box in rows[-1]['boxes'])]
                tqdm.write('\n'.join(map(printable, lines)))
            if args.draw:
                path = Path(args.draw) / _free_name(Path(detection.image).stem, taken)
                picture = draw(detection, titles)
                _save(path, picture)
    if args.json:
        write_json(args.json, rows)
    return 1 if any('error' in row for row in rows) else 0


def _row(detection: Detection, titles: Sequence[str]) -> Dict[str, Any]:
    if detection.error is not None:
        return {'image': detection.image, 'error': detection.error}
    boxes: Iterable[Any] = zip(detection.boxes.tolist(), detection.scores.tolist(), detection.labels.tolist())
    return {
        'image': detection.image,
        'boxes': [
            {'class': titles[label], 'score': score, 'box': [round(side, 2) for side in box]}
            for box, score, label in boxes
        ],
    }


def _line(box: Dict[str, Any]) -> str:
    sides = ' '.join(f'{side:.0f}' for side in box['box'])
    return f'  {100 * box["score"]:6.2f} %  {box["class"]}  {sides}'


def _free_name(stem: str, taken: Set[str]) -> str:
    """A file name that no other image of this command has."""
    name, count = f'{stem}.png', 1
    while name in taken:
        count += 1
        name = f'{stem}-{count}.png'
    taken.add(name)
    return name


def _save(path: Path, picture: np.ndarray) -> None:
    done, content = cv2.imencode('.png', picture[..., ::-1])
    if not done:
        raise UserError(f'{path} cannot be written as a PNG file of {picture.shape[1]} x {picture.shape[0]} pixels')
    atomic_write(path, lambda file: file.write(content.tobytes()))
