"""The answers of a detector, and boxes as pictures."""

from __future__ import annotations

import colorsys
import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from data.coco.orientation import UPRIGHT, told

__all__ = ['Detection', 'draw']

_Area = Tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, repr=False)
class Detection:
    """What a detector finds on one image.

    Attributes:
        image: the path as it was given.
        boxes: (K, 4) float32 x1, y1, x2, y2 in pixels of the image as stored; scores, labels: (K,), best first.
        pixels: (H, W, 3) uint8 RGB as stored; None if the image could not be read.
        error: why it could not be read.
        orientation: the orientation in its EXIF data, 1 to 8, which boxes and pixels do not follow.
        titles: the title of each label.
    """

    image: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    pixels: Optional[np.ndarray] = None
    error: Optional[str] = None
    orientation: int = UPRIGHT
    titles: Sequence[str] = ()

    @property
    def names(self) -> List[str]:
        """Return the name of what is in each box."""
        return [self.titles[label] if self.titles else str(label) for label in self.labels.tolist()]

    @property
    def note(self) -> Optional[str]:
        """Return a note for users if viewers show the image in another orientation than the boxes refer to."""
        return None if self.orientation == UPRIGHT else told(self.image, self.orientation)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        if self.error is not None:
            return f'Detection({self.image}: {self.error})'
        found = ', '.join(' '.join(line.split()) for line in self.lines()[:5])
        more = f', and {len(self) - 5} more' if len(self) > 5 else ''
        return f'Detection({self.image}: {found or "nothing"}{more})'

    def without_pixels(self) -> Detection:
        """Return the answer without its pixels, which take much memory."""
        return dataclasses.replace(self, pixels=None)

    def first(self, count: int) -> Detection:
        """Return the answer with only the best `count` boxes."""
        boxes, scores, labels = (values[:count] for values in (self.boxes, self.scores, self.labels))
        return dataclasses.replace(self, boxes=boxes, scores=scores, labels=labels)

    def lines(self) -> List[str]:
        """Return the lines to print: score, class, x1, y1, x2, y2."""
        sides = [' '.join(f'{side:.0f}' for side in box) for box in self.boxes.tolist()]
        found = zip(self.scores.tolist(), self.names, sides)
        return [f'  {100 * score:6.2f} %  {name}  {box}' for score, name, box in found]

    def to_dict(self) -> Dict[str, Any]:
        """Return the answer for JSON."""
        if self.error is not None:
            return {'image': self.image, 'error': self.error}
        found = zip(self.names, self.scores.tolist(), self.boxes.tolist())
        boxes = [{'class': name, 'score': score, 'box': [round(side, 2) for side in box]} for name, score, box in found]
        return {'image': self.image, 'boxes': boxes}

    def picture(self) -> np.ndarray:
        """Return the image with its boxes, (H, W, 3) uint8 RGB."""
        return draw(self, self.titles)


def _colour(label: int, classes: int) -> Tuple[int, int, int]:
    """Return a distinct bright colour for each class."""
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(label / max(classes, 1), 1.0, 0.85))


def _common(first: _Area, second: _Area) -> int:
    """Return the pixels that two areas share."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, wide) * max(0, high)


def _free_area(box: _Area, width: int, height: int, shape: Sequence[int], taken: Sequence[_Area]) -> _Area:
    """Return where to write the caption of a box.

    Above it, in it, below it or beside it, within the picture and away from other captions; if there is no such place,
    where it covers the least of them.
    """
    left, top, right, bottom = box
    places = [(left, top - height), (left, top), (right - width, top - height), (right - width, top)]
    places += [(left, bottom), (right - width, bottom), (left, bottom - height), (right, top), (left - width, top)]
    places += [(left, top + step * height) for step in range(1, 12)]
    areas = []
    for x, y in places:
        x = max(0, min(x, shape[1] - width))
        y = max(0, min(y, shape[0] - height))
        areas.append((x, y, x + width, y + height))
    return min(areas, key=lambda area: sum(_common(area, other) for other in taken))


def draw(detection: Detection, titles: Sequence[str], scored: bool = True) -> np.ndarray:
    """Return the image (H, W, 3) uint8 RGB with the boxes, each with its class and, if `scored`, its score in per cent.

    GluonCV's cv_plot_bbox uses the same small font for images of any size, and the same colour for the first and the
    last class, so it is not used here.
    """
    picture = np.ascontiguousarray(detection.pixels).copy()
    thick = max(1, round(min(picture.shape[:2]) / 300))
    size = max(0.4, min(picture.shape[:2]) / 1000)
    found = list(zip(detection.boxes, detection.scores, detection.labels.tolist()))
    corners = [tuple(int(round(float(side))) for side in box) for box, _, _ in found]
    for (_, _, label), (left, top, right, bottom) in reversed(list(zip(found, corners))):  # the best ones on top
        cv2.rectangle(picture, (left, top), (right, bottom), _colour(label, len(titles)), thick)
    taken: List[_Area] = []
    for (_, score, label), box in zip(found, corners):
        words = f'{titles[label]} {100 * score:.0f}' if scored else titles[label]
        (width, height), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        area = _free_area(box, width, height + below, picture.shape, taken)
        taken.append(area)
        cv2.rectangle(picture, area[:2], area[2:], _colour(label, len(titles)), cv2.FILLED)
        start = (area[0], area[3] - below + 1)
        cv2.putText(picture, words, start, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return picture
