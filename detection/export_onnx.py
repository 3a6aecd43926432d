"""Export a detector as one ONNX file, including suppression, for images on a canvas of fixed size."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from detection.detector import MULTIPLE, Detector
from environment import import_extra
from inference.graph import Graph, parameters_of
from inference.onnx_detection import annotate
from inference.onnx_file import content_of
from inference.onnx_graph import plain_operators
from inference.optimization.fold import fold

__all__ = ['Apart', 'apart', 'detector_content', 'on_canvas', 'square']

_SAME = 1e-3  # of scores: boxes that may be one and the same


def square(longest: int) -> Tuple[int, int]:
    """Return the height and width of a canvas that holds images of sides up to ``longest``."""
    side = -(-longest // MULTIPLE) * MULTIPLE
    return side, side


def detector_content(
    det: Detector, symbol: mx.sym.Symbol, canvas: Tuple[int, int], info: Optional[Mapping[str, Any]] = None
) -> bytes:
    """Return an ONNX file ``(data, sizes) -> (boxes, scores, labels)`` of the detector with this ``symbol``.

    ``data`` is (N, 3, H, W) with the height and width of ``canvas`` and any N, the rest as for MXNet. Raises
    ``SetupError`` if the ``onnx`` extra is missing.
    """
    import_extra('onnx')
    inputs = {'data': (3, *canvas), 'sizes': (2,)}
    graph = Graph.of(symbol, parameters_of(det))
    fold(graph)
    plain_operators(graph, inputs)
    annotate(graph, inputs, det.classes)
    return content_of(graph, inputs, info)


def on_canvas(data: np.ndarray, canvas: Tuple[int, int]) -> np.ndarray:
    """Return images (N, 3, H, W) padded with zeros below and to the right, to the size of the canvas."""
    height, width = data.shape[2:]
    return np.pad(data, ((0, 0), (0, 0), (0, canvas[0] - height), (0, canvas[1] - width)))


class Apart(NamedTuple):
    """How much the answers of two detectors differ.

    Attributes:
        difference: the largest difference of a corner, in pixels, among boxes that both have.
        missed: boxes of the first that the second lacks.
        boxes: of the first.
    """

    difference: float
    missed: int
    boxes: int


def apart(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], near: float) -> Apart:
    """Compare ``(boxes, scores, labels)`` of images; boxes match if class, score and place agree.

    If two boxes have nearly the same score, rounding decides which comes first, and which of two overlapping ones is
    kept. So the order does not matter, and a box that is further than ``near`` pixels from all others counts as missed.
    """
    largest, missed, count = 0.0, 0, 0
    for boxes, scores, labels, others, other_scores, other_labels in zip(*expected, *found):
        free = other_labels >= 0
        for box, score, label in zip(boxes[labels >= 0], scores[labels >= 0], labels[labels >= 0]):
            count += 1
            alike = free & (other_labels == label) & (np.abs(other_scores - score) < _SAME)
            distances = np.where(alike, np.abs(others - box).max(axis=1), np.inf)
            place = int(distances.argmin())
            if distances[place] > near:
                missed += 1
                continue
            free[place] = False
            largest = max(largest, float(distances[place]))
    return Apart(largest, missed, count)
