"""From image files to boxes, and boxes to pictures."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np

from data.coco.orientation import UPRIGHT, read_stored
from data.images import ImageError
from detection.load import LoadedDetector

__all__ = ['Detection', 'detect', 'draw']


@dataclass(frozen=True)
class Detection:
    """What a detector finds on one image.

    Attributes:
        image: the path as it was given.
        boxes: (K, 4) float32 x1, y1, x2, y2 in pixels of the image as it is stored; scores, labels: (K,), best first.
        pixels: (H, W, 3) uint8 RGB as stored; None if the image could not be read.
        error: why it could not be read.
        orientation: that its EXIF data state, 1 to 8, which boxes and pixels do not follow.
    """

    image: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    pixels: Optional[np.ndarray] = None
    error: Optional[str] = None
    orientation: int = UPRIGHT


class _Image(NamedTuple):
    path: str
    pixels: np.ndarray
    orientation: int


def detect(
    network: LoadedDetector, images: Iterable[str], threshold: float = 0.3, batch_size: int = 1, ctx: Any = None
) -> Iterator[Detection]:
    """Yield a `Detection` for each image file, in order, of the boxes whose score is `threshold` at least.

    Images that follow each other and have one size go through the network together, `batch_size` at most.
    """
    waiting: List[_Image] = []

    def finish() -> Iterator[Detection]:
        if waiting:
            yield from _batch(network, waiting, threshold, ctx)
            waiting.clear()

    for image in images:
        try:
            pixels, orientation = read_stored(image)
        except ImageError as error:
            yield from finish()
            empty = np.zeros(0, np.float32)
            yield Detection(image, np.zeros((0, 4), np.float32), empty, empty.astype(np.int64), error=str(error))
            continue
        if waiting and waiting[0].pixels.shape != pixels.shape:
            yield from finish()
        waiting.append(_Image(image, pixels, orientation))
        if len(waiting) == batch_size:
            yield from finish()
    yield from finish()


def _batch(network: LoadedDetector, images: List[_Image], threshold: float, ctx: Any) -> Iterator[Detection]:
    ctx, known = ctx or mx.current_context(), network.preprocessing
    data, sizes = known.batch([known.normalise(known.fit(pixels)) for _, pixels, _ in images])
    outputs = network.net(mx.nd.array(data, ctx=ctx), mx.nd.array(sizes, ctx=ctx))
    for (image, pixels, orientation), boxes, scores, labels in zip(images, *(array.asnumpy() for array in outputs)):
        kept = (labels >= 0) & (scores >= threshold)
        boxes = known.original_boxes(boxes[kept], pixels.shape[1], pixels.shape[0])
        yield Detection(image, boxes, scores[kept], labels[kept].astype(np.int64), pixels, None, orientation)


def _colour(label: int, classes: int) -> Tuple[int, int, int]:
    """A bright colour of its own for each class."""
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(label / max(classes, 1), 1.0, 0.85))


def draw(detection: Detection, titles: Sequence[str]) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB with the boxes, each with its class and score in per cent.

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
