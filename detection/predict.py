"""What a detector says of an image, and boxes as pictures."""

from __future__ import annotations

import colorsys
import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from data.coco.orientation import UPRIGHT, told

__all__ = ['Detection', 'draw']


@dataclass(frozen=True, repr=False)
class Detection:
    """What a detector finds on one image.

    Attributes:
        image: the path as it was given.
        boxes: (K, 4) float32 x1, y1, x2, y2 in pixels of the image as it is stored; scores, labels: (K,), best first.
        pixels: (H, W, 3) uint8 RGB as stored; None if the image could not be read.
        error: why it could not be read.
        orientation: that its EXIF data state, 1 to 8, which boxes and pixels do not follow.
        titles: what to call each label.
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
        """Return what is in each box."""
        return [self.titles[label] if self.titles else str(label) for label in self.labels.tolist()]

    @property
    def note(self) -> Optional[str]:
        """For users: that the boxes are of the image as it is stored, if it is shown in another way."""
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
        """Return the answer without what takes much memory."""
        return dataclasses.replace(self, pixels=None)

    def lines(self) -> List[str]:
        """Return what is printed of it: score, class, x1, y1, x2, y2."""
        sides = [' '.join(f'{side:.0f}' for side in box) for box in self.boxes.tolist()]
        found = zip(self.scores.tolist(), self.names, sides)
        return [f'  {100 * score:6.2f} %  {name}  {box}' for score, name, box in found]

    def to_dict(self) -> Dict[str, Any]:
        """Return what is written of it as JSON."""
        if self.error is not None:
            return {'image': self.image, 'error': self.error}
        found = zip(self.names, self.scores.tolist(), self.boxes.tolist())
        boxes = [{'class': name, 'score': score, 'box': [round(side, 2) for side in box]} for name, score, box in found]
        return {'image': self.image, 'boxes': boxes}

    def picture(self) -> np.ndarray:
        """Return the image with its boxes, (H, W, 3) uint8 RGB."""
        return draw(self, self.titles)


def _colour(label: int, classes: int) -> Tuple[int, int, int]:
    """Return a bright colour of its own for each class."""
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(label / max(classes, 1), 1.0, 0.85))


def draw(detection: Detection, titles: Sequence[str]) -> np.ndarray:
    """Return the image (H, W, 3) uint8 RGB with the boxes, each with its class and score in per cent.

    GluonCV's cv_plot_bbox writes words of any image's size as small, and with one colour for the first class and the
    last; hence our own few lines.
    """
    picture = np.ascontiguousarray(detection.pixels).copy()
    thick = max(1, round(min(picture.shape[:2]) / 300))
    size = max(0.4, min(picture.shape[:2]) / 1000)
    # The best ones last, so that their words stay readable.
    for box, score, label in reversed(list(zip(detection.boxes, detection.scores, detection.labels.tolist()))):
        colour = _colour(label, len(titles))
        left, top, right, bottom = (int(round(float(side))) for side in box)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, thick)
        words = f'{titles[label]} {100 * score:.0f}'
        (width, height), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        base = top if top >= height + below else top + height + below
        cv2.rectangle(picture, (left, base - height - below), (left + width, base), colour, cv2.FILLED)
        cv2.putText(
            picture, words, (left, base - below + 1), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA
        )
    return picture
