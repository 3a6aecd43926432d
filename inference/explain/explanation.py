"""Explanations of images: what a network answers, and where it looks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from mxnet import gluon
from PIL import Image

from data.preprocessing import Preprocessing
from inference.explain.gradcam import GradCAM, enlarged
from inference.predict import best, softmax

__all__ = ['Explanation', 'Source', 'explain', 'overlay', 'scaled']

#: An image file, or pixels (H, W, 3) uint8.
Source = Union[str, 'os.PathLike[str]', np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """The answer of one network for one image, explained.

    Attributes:
        image: the name of the image.
        pixels: (H, W, 3) uint8, as the network sees it.
        answers: (class, probability), the most probable first.
        explained: the class that the heat maps are for, and its probability.
        maps: by stage, (h, w), 0 and above.
    """

    image: str
    pixels: np.ndarray
    answers: Tuple[Tuple[str, float], ...]
    explained: Tuple[str, float]
    maps: Dict[str, np.ndarray]


def explain(
    net: Union[gluon.HybridBlock, GradCAM],
    images: Sequence[Source],
    preprocessing: Preprocessing,
    class_names: Optional[Sequence[str]] = None,
    classes: Optional[Sequence[int]] = None,
    stages: Optional[Sequence[str]] = None,
    names: Optional[Sequence[str]] = None,
    top: int = 5,
    probabilities: Callable[[np.ndarray], np.ndarray] = softmax,
) -> List[Explanation]:
    """Explain what ``net`` answers for ``images``.

    Args:
        net: the network, or its :class:`GradCAM`, which saves tracing it again.
        images: the images, as `Preprocessing.fit` takes them.
        preprocessing: the network's.
        class_names: a name for each output (default: their numbers).
        classes: for each image, the class to explain (default: the network's own answer).
        stages: see :class:`GradCAM`.
        names: names of the images (default: the names of their files, or their numbers).
        top: the number of classes to name.
        probabilities: makes probabilities of the logits (N, K).
    """
    if not len(images):
        return []
    cam = net if isinstance(net, GradCAM) else GradCAM(net, stages)
    pixels = np.stack([preprocessing.fit(image) for image in images])
    heat = cam(preprocessing.batch(pixels), classes)
    found = []
    for i, (image, answer) in enumerate(zip(images, probabilities(heat.logits))):
        label = f'image {i + 1}' if isinstance(image, np.ndarray) else os.path.basename(os.fspath(image))
        number = int(heat.classes[i])
        found.append(
            Explanation(
                image=names[i] if names is not None else label,
                pixels=pixels[i],
                answers=best(answer, class_names, top),
                explained=(class_names[number] if class_names else str(number), float(answer[number])),
                maps={stage: maps[i] for stage, maps in heat.maps.items()},
            )
        )
    return found


def scaled(pixels: np.ndarray, size: int = 256) -> np.ndarray:
    """Return the image (H, W, 3) uint8, scaled to a height of ``size`` pixels."""
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((max(1, round(width * size / height)), size), Image.BICUBIC))


def overlay(pixels: np.ndarray, heat: np.ndarray, size: int = 256) -> np.ndarray:
    """Return the heat map (h, w) over the image (H, W, 3) uint8, ``size`` pixels high: (size, W', 3) uint8.

    Colours range from the darkened image itself, without heat, to yellow for the most heat.
    """
    from matplotlib import colormaps

    image = scaled(pixels, size).astype(np.float32) / 255
    shape = image.shape[:2]
    heat = enlarged(heat, shape)
    heat = np.clip(heat / max(float(heat.max()), np.finfo(np.float32).tiny), 0, 1)[..., None]
    colours: Any = colormaps['inferno'](0.15 + 0.8 * heat[..., 0])[..., :3]
    share = 0.75 * heat**0.8
    return np.round(255 * ((1 - share) * 0.75 * image + share * colours)).astype(np.uint8)
