"""Data sets in COCO's format: a JSON file of images, annotations and categories, and a folder of images.

What is wrong with the annotations is counted, not fatal: training goes on with the rest. GluonCV's own reader knows
COCO's 80 categories only and drops what is wrong without a word.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from detection.data.report import SMALLEST, Faults, Report
from environment import UsageError, UserError
from environment.files import expanded
from environment.form import read_json

__all__ = ['FOLDER', 'CocoDataset', 'CocoImage', 'locate', 'read_coco']

FOLDER = '~/.mxnet/datasets/coco'


@dataclass(frozen=True)
class CocoImage:
    """An image and its objects.

    Attributes:
        id: its number in the JSON file.
        path: of its file; width, height: in pixels.
        boxes: (M, 4) float32, x1, y1, x2, y2 with x2 = x1 + width - 1.
        labels: (M,) int64, places in the data set's categories.
        areas: (M,) float64, of the objects, by which they are small, medium or large.
        crowd: (M,) bool; crowds are neither trained on nor missed.
    """

    id: Any
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class CocoDataset:
    """Images with boxes. `categories` are the numbers of the classes in the file, in the order of the labels."""

    images: Sequence[CocoImage]
    class_names: Tuple[str, ...]
    categories: Tuple[int, ...]
    name: str
    report: Report

    def __len__(self) -> int:
        return len(self.images)

    def limited(self, limit: Optional[int]) -> CocoDataset:
        """So many images, spread evenly."""
        if limit is None or limit >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, limit).round().astype(int)
        return replace(self, images=[self.images[i] for i in chosen])

    def for_training(self) -> CocoDataset:
        """Without crowds, boxes of less than a pixel, and images on which nothing or too little is to be seen.

        `UserError` if nothing is left.
        """
        faults = Faults()
        kept = [image for image in (_trained_on(image, faults) for image in self.images) if image is not None]
        if not kept:
            raise UserError(f'{self.report.source} has no image with an object to train on; {self.report.sentence()}')
        report = Report(
            self.report.source,
            {**self.report.counts, **faults.counts},
            {**self.report.examples, **faults.examples},
        )
        return replace(self, images=kept, report=report)


def _trained_on(image: CocoImage, faults: Faults) -> Optional[CocoImage]:
    if min(image.width, image.height) < SMALLEST:
        faults.add(f'images of less than {SMALLEST} pixels', image.path.name)
        return None
    sides = image.boxes[:, 2:] - image.boxes[:, :2] + 1
    tiny = (sides < 1 - 1e-3).any(1)  # a width of one pixel may have lost its last bits
    for fault, which in (('boxes of crowds', image.crowd), ('boxes of less than a pixel', tiny & ~image.crowd)):
        for box in image.boxes[which]:
            faults.add(fault, f'{_text(box)} in {image.path.name}')
    kept = ~(image.crowd | tiny)
    if not kept.any():
        faults.add('images without objects', image.path.name)
        return None
    if kept.all():
        return image
    return replace(
        image,
        boxes=image.boxes[kept],
        labels=image.labels[kept],
        areas=image.areas[kept],
        crowd=image.crowd[kept],
    )


def _text(box: Sequence[float]) -> str:
    return '[' + ', '.join(f'{number:g}' for number in box) + ']'


def locate(folder: Union[str, os.PathLike], part: str) -> Tuple[Path, Path]:
    """The JSON file and the folder of images of `part`, 'train' or 'val', by COCO's names of 2017, or the same without
    the year.
    """
    folder = expanded(folder)
    for year in ('2017', ''):
        annotations = folder / 'annotations' / f'instances_{part}{year}.json'
        if annotations.exists():
            return annotations, folder / f'{part}{year}'
    raise UserError(
        f'there is no annotations/instances_{part}2017.json or instances_{part}.json in {folder}; give the folder with '
        f'--data-dir, or the JSON file and its images'
    )


def read_coco(
    annotations: Union[str, os.PathLike],
    folder: Union[str, os.PathLike],
    class_names: Optional[Sequence[str]] = None,
) -> CocoDataset:
    """The data set that a JSON file describes, with the images in `folder`.

    Args:
        class_names: the categories to take, in the order of the labels; default: all, in the order of their numbers.

    Raises:
        UserError: a file or folder that is missing, a file that is not of COCO's format, or one without any image.
        UsageError: a class that the file does not know.
    """
    annotations, folder = Path(annotations), Path(folder)
    content = _content(annotations)
    categories = _categories(content['categories'], annotations, class_names)
    faults = Faults()
    files = _files(folder)
    images = _images(content['images'], folder, files, faults)
    objects = _objects(content['annotations'], images, categories, faults)
    data = [_image(number, entry, folder, objects.get(number, [])) for number, entry in images.items()]
    report = Report(annotations.name, dict(faults.counts), faults.examples)
    if not data:
        raise UserError(f'{annotations} has no image that is in {folder}; {report.sentence()}')
    chosen = sorted((label, number, name) for number, (name, label) in categories.items() if label is not None)
    names, numbers = tuple(name for *_, name in chosen), tuple(number for _, number, _ in chosen)
    return CocoDataset(data, names, numbers, annotations.stem, report)


def _content(path: Path) -> Dict[str, List[Any]]:
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}; name a JSON file in COCO format') from error
    except ValueError as error:
        raise UserError(f'{path} is not a COCO file: {error}; name one that is') from error
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(
                f"{path} is not a COCO file: it has no list '{key}'; it needs images, annotations and categories, as "
                'instances_train2017.json has them'
            )
    return content


def _categories(
    entries: List[Any], path: Path, wanted: Optional[Sequence[str]]
) -> Dict[Any, Tuple[str, Optional[int]]]:
    """{number in the file: (name, label)}; the label is None for a category that is not wanted."""
    try:
        named = sorted((int(entry['id']), str(entry['name'])) for entry in entries)
    except (KeyError, TypeError, ValueError):
        named = []
    if not named or len({number for number, _ in named}) != len(named):
        raise UserError(f'{path} is not a COCO file: its categories are not a list of different id, each with a name')
    if wanted is not None:
        numbers = {name: number for number, name in named}
        for name in wanted:
            if name not in numbers:
                raise UsageError(f"{path} has no category '{name}'; it has {', '.join(n for _, n in named)}")
        labels = {numbers[name]: label for label, name in enumerate(wanted)}
    else:
        labels = {number: label for label, (number, _) in enumerate(named)}
    return {number: (name, labels.get(number)) for number, name in named}


def _files(folder: Path) -> Any:
    """The names in the folder: one call in place of one for each image."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise UserError(f'cannot read the folder of images {folder}: {error.strerror}; name another') from error


def _images(entries: List[Any], folder: Path, files: Any, faults: Faults) -> Dict[Any, Tuple[str, int, int]]:
    """{number: (file name, width, height)} of the images that are there."""
    images: Dict[Any, Tuple[str, int, int]] = {}
    for entry in entries:
        try:
            number, name = entry['id'], str(entry['file_name'])
            width, height = int(entry['width']), int(entry['height'])
            hash(number)
        except (KeyError, TypeError, ValueError, OverflowError):
            faults.add('images without a number, file name or size', json.dumps(entry)[:80])
            continue
        if min(width, height) < 1 or isinstance(number, bool) or not isinstance(number, (int, str)):
            faults.add('images without a number, file name or size', json.dumps(entry)[:80])
        elif number in images:
            faults.add('images with the number of another', name)
        elif name not in files and not (folder / name).is_file():
            faults.add('images whose file is missing', name)
        else:
            images[number] = name, width, height
    return images


def _objects(
    entries: List[Any], images: Mapping[Any, Tuple[str, int, int]], categories: Mapping[Any, Any], faults: Faults
) -> Dict[Any, List[Tuple[List[float], int, float, bool]]]:
    """{number of an image: [(box, label, area, crowd)]} of the annotations that mean something."""
    objects: Dict[Any, List[Tuple[List[float], int, float, bool]]] = {}
    for number, category, box, entry in _fields(entries, faults):
        if number not in images:
            faults.add('annotations of images that are not there', f'image {number}')
            continue
        name, width, height = images[number]
        where = f'{_text(box)} in {name}'
        if category not in categories:
            faults.add('annotations of unknown categories', f'category {category} in {name}')
            continue
        label = categories[category][1]
        if label is None:
            continue
        x, y, w, h = box
        if not all(map(math.isfinite, box)) or w <= 0 or h <= 0:
            faults.add('empty boxes', where)
            continue
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            faults.add('boxes outside the image', where)
            continue
        # Half a pixel is no more than rounding.
        if x < -0.5 or y < -0.5 or x + w > width + 0.5 or y + h > height + 0.5:
            faults.add('boxes that reach out of the image and are cut', where)
            left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
            x, y, w, h = left, top, right - left, bottom - top
        area = entry.get('area')
        known = isinstance(area, (int, float)) and math.isfinite(area) and area > 0
        crowd = bool(entry.get('iscrowd', False))
        objects.setdefault(number, []).append(([x, y, w, h], label, area if known else w * h, crowd))
    return objects


def _fields(entries: List[Any], faults: Faults) -> Iterator[Tuple[Any, Any, List[float], Dict[str, Any]]]:
    """Image, category and box of each annotation that has them."""
    for entry in entries:
        try:
            box = [float(number) for number in entry['bbox']]
            number, category = entry['image_id'], entry['category_id']
            hash((number, category))
        except (KeyError, TypeError, ValueError, AttributeError):
            box = []
        if len(box) == 4:
            yield number, category, box, entry
        else:
            faults.add('annotations without a box of four numbers', json.dumps(entry)[:80])


def _image(number: Any, entry: Tuple[str, int, int], folder: Path, objects: List[Any]) -> CocoImage:
    name, width, height = entry
    boxes = np.array([box for box, *_ in objects], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    return CocoImage(
        number,
        folder / name,
        width,
        height,
        boxes.astype(np.float32),
        np.array([label for _, label, _, _ in objects], dtype=np.int64),
        np.array([area for _, _, area, _ in objects], dtype=np.float64),
        np.array([crowd for *_, crowd in objects], dtype=bool),
    )
