"""Parse the entries of a COCO file one by one, or say why an entry is left out."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from common.schema import is_below, shown
from data.coco.categories import Id, is_id
from data.coco.problems import Faults
from environment import UserError

__all__ = ['Entry', 'Thing', 'box_text', 'read_images', 'read_objects']

LONGEST = (1 << 31) - 1  # side of an image that any format has
THIN = 0.01  # pixels; less of a side is lost in float32, far from the corner of a large image


class Entry(NamedTuple):
    """An image: its file below the folder, and its size in pixels."""

    name: str
    width: int
    height: int


class Thing(NamedTuple):
    """An object: x, y, width and height of its box, its label, its area in pixels, and whether it is a crowd."""

    box: Tuple[float, float, float, float]
    label: int
    area: float
    crowd: bool


def box_text(box: Sequence[float]) -> str:
    """Format four numbers for a message."""
    return '[' + ', '.join(f'{number:g}' for number in box) + ']'


def read_images(entries: Sequence[Any], folder: Path, faults: Faults) -> Dict[Id, Entry]:
    """Return {id: image} for the images that are in the folder. Raises `UserError` if there is no such folder."""
    try:
        files = {entry.name for entry in os.scandir(folder)}  # one call in place of one for each image
    except OSError as error:
        raise UserError(f'cannot read the folder of images {folder}: {error.strerror}; name another') from error
    images: Dict[Id, Entry] = {}
    for entry in entries:
        number = entry.get('id') if isinstance(entry, dict) else None
        image = _image(entry) if is_id(number) else None
        if image is None:
            faults.add('images without a number, file name or size', shown(entry))
        elif number in images:
            faults.add('images with the number of another', image.name)
        elif image.name not in files and not _is_inside(folder, image.name):
            faults.add('images whose file name leads out of the folder', image.name)
        elif image.name not in files and not os.path.isfile(os.path.join(folder, image.name)):
            faults.add('images whose file is missing', image.name)
        else:
            images[number] = image
    return images


def _image(entry: Mapping[str, Any]) -> Optional[Entry]:
    """Return the image of an entry; None if it has no file name or size."""
    name, sides = entry.get('file_name'), [_side(entry.get(key)) for key in ('width', 'height')]
    if not isinstance(name, str) or not name or None in sides:
        return None
    return Entry(name, *sides)


def _side(value: Any) -> Optional[int]:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        side = int(value)
    except (ValueError, OverflowError):
        return None
    return side if 1 <= side <= LONGEST else None


def _is_inside(folder: Path, name: str) -> bool:
    root = os.path.join(os.path.abspath(folder), '')
    return is_below(name[len(root) :] if name.startswith(root) else name)


def _number(value: Any) -> Optional[float]:
    """Return a number of the file as a finite or infinite float or NaN; None if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # hundreds of digits
        return None


def read_objects(
    entries: Sequence[Any],
    images: Mapping[Id, Entry],
    categories: Collection[Id],
    labels: Mapping[Id, int],
    faults: Faults,
) -> Dict[Id, List[Thing]]:
    """Return {id of an image: its objects} for the valid annotations whose category has one of `labels`."""
    objects: Dict[Id, List[Thing]] = {}
    for entry in entries:
        box = _box(entry)
        if box is None:
            faults.add('annotations without a box of four numbers', shown(entry))
            continue
        number, category = entry.get('image_id'), entry.get('category_id')
        if not is_id(number) or number not in images:
            faults.add('annotations of images that are not there', f'image {shown(number)}')
            continue
        image = images[number]
        if not is_id(category) or category not in categories:
            faults.add('annotations of unknown categories', f'category {shown(category)} in {image.name}')
        elif category in labels:
            box = _within(box, image, faults)
            crowd = entry.get('iscrowd') or 0
            if box is None:
                continue
            if crowd not in (0, 1):
                faults.add('annotations with another iscrowd than 0 and 1', f'{shown(crowd)} in {image.name}')
                continue
            area = _area(entry, box, image, faults)
            objects.setdefault(number, []).append(Thing(box, labels[category], area, bool(crowd)))
    return objects


def _area(entry: Mapping[str, Any], box: Sequence[float], image: Entry, faults: Faults) -> float:
    """Return an annotation's area, or that of its box if it has none or an invalid one."""
    area = _number(entry.get('area'))
    if area is not None and math.isfinite(area) and area > 0:
        return area
    if entry.get('area') is not None:
        faults.add('areas that are no number above 0 and taken from the box', f'{shown(entry["area"])} in {image.name}')
    return box[2] * box[3]


def _box(entry: Any) -> Optional[List[float]]:
    box = entry.get('bbox') if isinstance(entry, dict) else None
    numbers = [_number(each) for each in box] if isinstance(box, list) else []
    return None if len(numbers) != 4 or None in numbers else numbers


def _within(box: List[float], image: Entry, faults: Faults) -> Optional[List[float]]:
    """Return the part of a box that lies in its image; None if there is none."""
    x, y, w, h = box
    where = f'{box_text(box)} in {image.name}'
    if not all(map(math.isfinite, box)) or w < THIN or h < THIN:
        faults.add('empty boxes', where)
        return None
    if x > image.width - THIN or y > image.height - THIN or x + w < THIN or y + h < THIN:
        faults.add('boxes outside the image', where)
        return None
    # Half a pixel is no more than rounding.
    if x < -0.5 or y < -0.5 or x + w > image.width + 0.5 or y + h > image.height + 0.5:
        faults.add('boxes that reach out of the image and are cut', where)
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, image.width), min(y + h, image.height)
        return [left, top, right - left, bottom - top]
    return box
