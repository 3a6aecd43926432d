"""Ask the network about images: its predictions, and pictures of where it looked."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from inference.explain.explanation import overlay
from inference.explain.gradcam import GradCAM
from inference.network import LoadedNetwork
from inference.serving.requests import Upload
from inference.serving.worker import Question

__all__ = ['Asking', 'Shown']

HEIGHT = 320  # pixels of a picture


class Shown(NamedTuple):
    """A picture of an answer: what it shows, and the content of a PNG file, or None if there can be no picture."""

    what: str
    png: Optional[bytes]


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode('.png', pixels[..., ::-1])[1].tobytes()


class Asking:
    """What the worker calls, in the one thread that owns the network. Only `read` may be called from any thread."""

    def __init__(self, network: LoadedNetwork, looked_into: Optional[Any] = None) -> None:
        self._network, self._looked_into = network, looked_into
        self._cam: Optional[GradCAM] = None

    def example(self) -> Question:
        """Return a question that tries whether the network works, and warms it up."""
        return Question(self._network.preprocessing.read(np.zeros((64, 64, 3), np.uint8)), 1, 1.0)

    def read(self, upload: Upload) -> Any:
        """Return the image as the network takes it. Raises `ImageError`."""
        return self._network.preprocessing.read(upload.content)

    def __call__(self, questions: List[Question]) -> List[Tuple[Any, Optional[Shown]]]:
        first, images = questions[0], [question.image for question in questions]
        names = [''] * len(images)
        answers = self._network.answers(names, images, first.top, first.threshold, None)
        if not first.explain:
            return [(answer.without_pixels(), None) for answer in answers]
        return [(answer.without_pixels(), self._shown(image, answer)) for image, answer in zip(images, answers)]

    def _shown(self, image: Any, answer: Any) -> Shown:
        if hasattr(answer, 'boxes'):
            return Shown('The boxes that were found.', _png(_fitting(answer.picture())))
        if self._looked_into is None:
            return Shown('An exported network cannot be inspected; serve the run for heat maps.', None)
        if self._cam is None:
            self._cam = GradCAM(self._looked_into)
        heat = self._cam(self._network.preprocessing.batch(image[np.newaxis]))
        name = self._network.titles(heat.logits.shape[1])[int(heat.classes[0])]
        return Shown(
            f'Where the network looked for {name}.', _png(overlay(image, heat.maps[self._cam.stages[-1]][0], HEIGHT))
        )


def _fitting(pixels: np.ndarray) -> np.ndarray:
    """Scale the picture down if it is larger than the page shows it."""
    scale = 2 * HEIGHT / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
