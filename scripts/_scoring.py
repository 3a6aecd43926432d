"""Score each class of network for validate.py: what is printed, and written as JSON."""

from __future__ import annotations

import math
import os
import time
from functools import singledispatch
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from _by_class import classes_lines
from _network_flags import Found
from _precision import optimized
from _scoring_flags import Scoring
from common.console import timed
from common.text import printable
from data.bad import Tolerance
from data.classification.by_name import DATASETS, open_dataset
from data.classification.dataset import ImageDataset
from data.classification.decoder import Decoding
from data.classification.image_loader import ImageLoader
from data.classification.loader import Loader
from data.classification.sources import ImageSource
from data.coco.dataset import FOLDER, locate, read_coco
from data.sampler import Sampler
from detection.evaluate import found_by
from detection.loader import DetectionLoader
from detection.metrics import FIGURES, average_precision, class_precision, write_results
from detection.network import LoadedDetector
from environment import UsageError, UserError
from inference.network import LoadedNetwork
from training.evaluate import Scores, evaluate
from training.evaluate_several import SeveralScores, evaluate_several

__all__ = ['Score', 'score']

# For damaged images: the default, which no flag changes here.
TOLERANCE = Tolerance(flags=False)
PARTS = {'test': 'val', 'val': 'val', 'train': 'train'}  # of COCO, by --split


class Score(NamedTuple):
    """What is printed, what is written as JSON, and the figures of each class."""

    lines: List[str]
    figures: Dict[str, Any]
    by_class: Sequence[Dict[str, Any]]


@singledispatch
def score(network: LoadedNetwork, found: Found, scoring: Scoring) -> Score:
    """Compute top-1, top-5 and loss on a data set, or mAP and F1 where images may have several labels."""
    devices, data = found.devices, scoring.data
    name = data.dataset or network.manifest.get('dataset')
    if data.dataset is None and name not in DATASETS:
        told = f'whose manifest speaks of {name!r}' if name else 'which have no manifest that names a dataset'
        raise UsageError(f'--dataset is missing; give that of {found.params}, {told}')
    dataset = open_dataset(name, data.split, data.data_dir, network.preprocessing)
    if network.class_names is not None:
        dataset = dataset.with_classes(network.class_names)
    batch = (data.batch_size or 128) * len(devices)
    dataset = dataset.limited(data.limit)
    network = optimized(network, scoring.speed, batch, len(dataset), devices[0], found.may_be_planned)
    loader = _loader(dataset, batch, data.num_data_workers)
    start = time.perf_counter()
    try:
        with timed('scoring'):
            scores = scores_of(network, loader, devices)
    except ValueError as error:
        raise UserError(
            f'{found.params} cannot be scored on {name}: {error}; give the dataset it was trained for'
        ) from error
    seconds = time.perf_counter() - start
    if not math.isfinite(scores.loss):
        raise UserError(
            f'{found.params}: the network answers with NaN or infinity, so there is nothing to score; use '
            'parameters that were saved before training diverged, or another --precision'
        )
    precision = f', optimized for {scoring.speed.precision},' if scoring.speed.precision else ''
    outputs = network.options.get('classes', dataset.classes)
    lines = [
        f'{network.name}{precision} on {name}, split {data.split}: {scores.count} images',
        *score_lines(scores, outputs),
        *classes_lines(scores.classes, dataset.class_names),
    ]
    if network.class_names is None and outputs != dataset.classes:
        lines.append(
            f'{found.params} does not name its {outputs} classes: the {dataset.classes} of {name} were taken for the '
            'first of these, in their order; --class-names FILE says which they are'
        )
    lines += _held_out(dataset, name, data.split)
    unreadable = loader.bad.sentences if isinstance(loader, ImageLoader) else ()
    lines += [*dataset.told, *(f'skipped: {sentence}' for sentence in unreadable)]
    by_class = scores.classes.rows(dataset.class_names)
    figures = {
        'params': found.params,
        'model': network.name,
        'precision': scoring.speed.precision,
        'dataset': name,
        'split': data.split,
        'count': scores.count,
        **({} if network.several else {'top1': scores.top1, 'top5': scores.top5}),
        'loss': scores.loss,
        **scores.classes.figures(),
        'classes': by_class,
        'unreadable': list(unreadable),
        'seconds': seconds,
        'images_per_second': scores.count / seconds,
    }
    return Score(lines, figures, by_class)


def _held_out(dataset: Union[ImageDataset, ImageSource], name: str, split: str) -> List[str]:
    """Return the line on images of which no part is held out but by the hash of their names."""
    if not dataset.by_hash:
        return []
    part = 'what training sees' if split == 'train' else 'the fifth that training holds out'
    return [f'{name} has no held-out part of its own: these are {part}; --split all scores every image']


def _loader(dataset: Union[ImageDataset, ImageSource], batch: int, threads: Optional[int]) -> Loader:
    """Return a loader that yields every image once, for any number of images."""
    sampler = Sampler(batch, last='pad')
    if isinstance(dataset, ImageDataset):
        return Loader(dataset, sampler)
    return ImageLoader(dataset, sampler, decoding=Decoding(threads or os.cpu_count() or 1, tolerance=TOLERANCE))


def scores_of(network: LoadedNetwork, loader: Loader, devices: List[Any]) -> Union[Scores, SeveralScores]:
    """Return the figures of a classifier. Raises `ValueError` if the data are not of its kind."""
    if network.several != loader.dataset.several:
        kinds = ('one label an image', 'several labels an image')
        raise ValueError(f'the network was trained for {kinds[network.several]}, but the data have the other')
    return (evaluate_several if network.several else evaluate)(network.net, loader, devices)


def score_lines(scores: Union[Scores, SeveralScores], outputs: int) -> List[str]:
    """Return the lines to print for all classes together, for a network with this many."""
    if isinstance(scores, SeveralScores):
        return [f'mAP {100 * scores.mean_ap:.2f} %  mean F1 {100 * scores.f1:.2f} %  loss {scores.loss:.4f}']
    # Of a handful of classes, the first five tell nothing.
    top5 = f'top-5 {100 * scores.top5:.2f} %  ' if outputs > 5 else ''
    return [
        f'top-1 {100 * scores.top1:.2f} %  {top5}loss {scores.loss:.4f}',
        f'balanced accuracy {100 * scores.classes.balanced_accuracy:.2f} %',
    ]


@score.register(LoadedDetector)
def score_detector(network: LoadedDetector, found: Found, scoring: Scoring) -> Score:
    """Compute COCO's figures on a data set in COCO's format."""
    devices, data = found.devices, scoring.data
    if data.split not in PARTS:
        raise UsageError(f'--split is {data.split}; for a detector {", ".join(PARTS)} are allowed')
    annotations, images = scoring.annotated.annotations, scoring.annotated.images
    if annotations is None or images is None:
        located = locate(data.data_dir or FOLDER, PARTS[data.split])
        annotations, images = annotations or located[0], images or located[1]
    everything = read_coco(annotations, images, classes=network.classes).for_scoring()
    if len(everything.class_names) != network.net.classes:
        raise UserError(
            f'{annotations} has {len(everything.class_names)} categories, and the detector of {found.params} knows '
            f'{network.net.classes} classes; give the data set it was trained for'
        )
    dataset = everything.limited(data.limit)
    loader = DetectionLoader(
        dataset,
        network.preprocessing,
        Sampler((data.batch_size or network.batch_size) * len(devices)),
        Decoding(data.num_data_workers or 2, tolerance=TOLERANCE),
    )
    start = time.perf_counter()
    with timed('scoring'):
        boxes = found_by(network.net, loader, devices)
    seconds = time.perf_counter() - start
    figures, classes = average_precision(dataset, boxes), class_precision(dataset, boxes)
    lines = [
        f'{network.name} on {dataset.name}: {len(boxes)} images',
        '  '.join(f'{name.replace("ap", "AP", 1)} {_percent(figures[name])}' for name in FIGURES),
        *(f'  {name}: AP {_percent(row["ap"])}  AP50 {_percent(row["ap50"])}' for name, row in classes.items()),
        *dataset.report.lines(),
        *(f'skipped: {sentence}' for sentence in loader.bad.sentences),
    ]
    if scoring.annotated.results:
        write_results(scoring.annotated.results, dataset, boxes)
    rows = {
        'params': found.params,
        'model': network.name,
        'dataset': dataset.name,
        'count': len(boxes),
        **figures,
        'classes': classes,
        'annotations': dict(dataset.report.counts),
        'unreadable': list(loader.bad.sentences),
        'seconds': seconds,
        'images_per_second': len(boxes) / seconds,
    }
    by_class = [
        {'class': name, **{key: None if value < 0 else value for key, value in row.items()}}
        for name, row in classes.items()
    ]
    return Score([printable(line) for line in lines], rows, by_class)


def _percent(value: float) -> str:
    return 'none there' if value < 0 else f'{100 * value:.2f} %'
