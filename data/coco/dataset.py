"""Read data sets in COCO's format: a JSON file of images, annotations and categories, and a folder of images.

Faults in annotations are counted, not fatal: training uses the rest. GluonCV's own reader knows only COCO's 80
categories, and drops faulty entries silently.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from common.files import expanded
from common.schema import read_json
from common.text import printable
from data.coco.categories import Classes, Id, choose, listed, match, read_categories
from data.coco.entries import Entry, Thing, box_text, read_images, read_objects
from data.coco.problems import CROWDS, SMALLEST, Faults, Report
from data.split_names import held_out, split_of
from environment import UserError

__all__ = ['FOLDER', 'CocoDataset', 'CocoImage', 'locate', 'read_coco']

FOLDER = '~/.mxnet/datasets/coco'
ROBOFLOW = '_annotations.coco.json'  # in each folder of images


@dataclass(frozen=True)
class CocoImage:
    """An image and its objects.

    Attributes:
        id: its id in the JSON file.
        path: of its file; width, height: in pixels.
        boxes: (M, 4) float32, x1, y1, x2, y2 with x2 = x1 + width - 1.
        labels: (M,) int64, indices of the data set's classes.
        areas: (M,) float64, of the objects, by which they count as small, medium or large.
        crowd: (M,) bool; crowds are neither trained on nor counted as missed.
    """

    id: Id
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class CocoDataset:
    """Images with boxes.

    Attributes:
        classes: the meaning of the labels: all categories of the file, a selection, or a detector's.
        categories: the id in the file of each label; None for a detector's class that the file lacks.
        name, report: of the file.
    """

    images: Sequence[CocoImage]
    classes: Classes
    categories: Tuple[Optional[Id], ...]
    name: str
    report: Report

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> Tuple[str, ...]:
        return self.classes.names

    def limited(self, limit: Optional[int]) -> CocoDataset:
        """Keep `count` images, evenly spaced."""
        if limit is None or limit >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, limit).round().astype(int)
        return replace(self, images=[self.images[i] for i in chosen])

    def for_training(self) -> CocoDataset:
        """Remove crowds, boxes of less than a pixel, and images with nothing or too little to see.

        Classes without a remaining object are noted. Raises `UserError` if nothing remains.
        """
        faults = Faults()
        kept = [image for image in (_trained_on(image, faults) for image in self.images) if image is not None]
        report = self.report.with_faults(faults)
        if not kept:
            raise UserError(f'{report.source} has no image with an object for training; {report.sentence()}')
        trained = replace(self, images=kept, report=report)
        return trained._noted('no object to train on is of {}; drop others than classes with --categories')

    def for_scoring(self) -> CocoDataset:
        """Return the same data set with a note on classes without an object, whose average precision is undefined."""
        return self._noted('no object is of {}, whose AP is not known there (-1)')

    def _noted(self, note: str) -> CocoDataset:
        """Add a note that names the classes without an object, if any."""
        found = {int(label) for image in self.images for label in image.labels[~image.crowd]}
        missing = [title for label, title in enumerate(self.classes.titles()) if label not in found]
        return replace(self, report=self.report.with_note(note.format(listed(missing)))) if missing else self


def _trained_on(image: CocoImage, faults: Faults) -> Optional[CocoImage]:
    if min(image.width, image.height) < SMALLEST:
        faults.add(f'images of less than {SMALLEST} pixels', image.path.name)
        return None
    sides = image.boxes[:, 2:] - image.boxes[:, :2] + 1
    tiny = (sides < 1 - 1e-3).any(1)  # a width of one pixel may have lost its last bits
    for fault, which in ((CROWDS, image.crowd), ('boxes of less than a pixel', tiny & ~image.crowd)):
        for box in image.boxes[which]:
            faults.add(fault, f'{box_text(box)} in {image.path.name}')
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


def locate(folder: Union[str, os.PathLike], part: str) -> Tuple[Path, Path]:
    """Find the JSON file and image folder of `part`, 'train' or 'val', by their usual names (see `data.split_names`).

    They are annotations/instances_train2017.json and train2017/, as in COCO, or train/_annotations.coco.json; in the
    folder itself, or in the only folder within it that has such files. COCO's of 2017 precede those without a year. If
    nothing is called val, test takes its place.

    Raises:
        UserError: there is nothing, or more than one candidate.
    """
    folder = expanded(folder)
    found = _places(folder)
    inside = [] if found else [places for places in map(_places, _folders_in(folder)) if places]
    if len(inside) == 1:
        found = inside[0]
    places = found.get((held_out(found) if part == 'val' else None) or part, {})
    chosen = next((places[around] for around in (('', '2017'), ('', '')) if around in places), None)
    chosen = chosen or [place for each in places.values() for place in each]
    if not chosen:
        raise UserError(
            f'there is no annotations/instances_{part}2017.json or instances_{part}.json, nor {part}/{ROBOFLOW}, in '
            f'{folder}; give the folder with --data-dir, or the JSON file and its images'
        )
    if len(chosen) > 1:
        names = ' and '.join(str(file) for file, _ in chosen)
        raise UserError(f'{names} could both be the {part} part; give the JSON file and its images by their flags')
    return chosen[0]


# {part: {what stands around its name: [(JSON file, folder of images)]}}
Places = Dict[str, Dict[Tuple[str, str], List[Tuple[Path, Path]]]]


def _places(folder: Path) -> Places:
    """Return the parts that lie in a folder."""
    found: Places = {}
    folders = {path.name: path for place in (folder / 'images', folder) for path in _folders_in(place)}
    splits = {name: split_of(name) for name in folders}
    for file in sorted((folder / 'annotations').glob('instances_*.json')):
        name = file.stem.partition('_')[2]
        split = split_of(name)
        if split is not None:
            alike = next((folders[other] for other in folders if splits[other] == split), folder / name)
            found.setdefault(split[0], {}).setdefault(split[1], []).append((file, folders.get(name, alike)))
    for name, split in splits.items():
        file = folders[name] / ROBOFLOW
        if split is not None and file.is_file():
            found.setdefault(split[0], {}).setdefault(split[1], []).append((file, folders[name]))
    return found


def _folders_in(folder: Path) -> List[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which knows what is a folder without asking for each image
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def read_coco(
    annotations: Union[str, os.PathLike],
    folder: Union[str, os.PathLike],
    chosen: Optional[Sequence[str]] = None,
    classes: Optional[Classes] = None,
) -> CocoDataset:
    """Read the data set described by a JSON file, with its images in `folder`.

    Images and categories are identified by their IDs, which are numbers or strings.

    Args:
        annotations: the JSON file.
        folder: the folder of the images.
        chosen: names or IDs of the categories to use, in the order of the labels (default: all, in the order of IDs).
        classes: a detector's classes, in place of `chosen`: the labels are its own, whichever of them the file has.

    Raises:
        UserError: a file or folder is missing, the file is not in COCO's format, or it has no image or no class of the
            detector.
        UsageError: the file lacks a chosen category.
    """
    annotations, folder = Path(annotations), Path(folder)
    content = _content(annotations)
    categories = read_categories(content['categories'], annotations)
    if classes is None:
        classes = Classes(tuple(categories.values()), tuple(categories))
        if chosen is not None:
            classes = choose(categories, chosen, annotations)
    matched = match(categories, classes, annotations)
    faults = Faults()
    images = read_images(content['images'], folder, faults)
    objects = read_objects(content['annotations'], images, categories, matched.labels, faults)
    data = [_image(number, entry, folder, objects.get(number, [])) for number, entry in images.items()]
    notes = matched.notes if chosen is None else ()  # of categories that are not wanted
    report = Report(
        printable(annotations.name), dict(faults.counts), faults.examples, len(content['annotations']), notes
    )
    if not data:
        raise UserError(f'{annotations} has no image that is in {folder}; {report.left_out()}')
    return CocoDataset(data, classes, matched.ids, annotations.stem, report)


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


def _image(number: Id, entry: Entry, folder: Path, things: Sequence[Thing]) -> CocoImage:
    boxes = np.array([thing.box for thing in things], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    return CocoImage(
        number,
        folder / entry.name,
        entry.width,
        entry.height,
        boxes.astype(np.float32),
        np.array([thing.label for thing in things], dtype=np.int64),
        np.array([thing.area for thing in things], dtype=np.float64),
        np.array([thing.crowd for thing in things], dtype=bool),
    )
