"""Test whether heat maps show what a network looks at: cover the hottest part of an image, and see how the score drops.

This is the deletion test of Petsiuk, Das, Saenko, "RISE", arXiv 1806.07421, at one size. Covered pixels are blurred
beyond recognition, or replaced by the data set's mean colour (the network's zero). Blurring only removes information; a
colour also adds edges, most of all for scattered pixels. The hottest pixels are compared with equally many others:

- ``coldest``: those with the least heat,
- ``scattered``: drawn individually at random, so that every object is damaged a little,
- ``shifted``: the mask of the hottest, rolled around by a random offset: same shape, other place,
- ``other``: the hottest pixels of another image, which separates the object from a habit of looking at the centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence, Union

import numpy as np
from mxnet import gluon
from PIL import Image, ImageFilter

from data.preprocessing import Preprocessing
from inference.choices import FILLS
from inference.explain.gradcam import GradCAM, enlarged
from inference.predict import softmax

__all__ = ['COVERS', 'Deletion', 'centre_share', 'deletion', 'hottest']

COVERS = ('hottest', 'coldest', 'scattered', 'shifted', 'other')
BLUR = 1 / 8  # the standard deviation, as a share of the image's side


@dataclass(frozen=True)
class Deletion:
    """The result of :func:`deletion`.

    Attributes:
        stage: whose heat maps were used.
        score: (N,), the probability of each image's class before anything is covered.
        lost: {cover: (N,)}, by how much that probability drops with this fifth of the image covered.
        centre: (N,), the share of the heat in the centre, see :func:`centre_share`.
    """

    stage: str
    score: np.ndarray
    lost: Dict[str, np.ndarray]
    centre: np.ndarray

    def beats(self, cover: str) -> float:
        """Return the share of images whose score drops more by the hottest pixels than by ``cover``."""
        return float((self.lost['hottest'] > self.lost[cover]).mean())


def hottest(heat: np.ndarray, share: float, random: np.random.RandomState) -> np.ndarray:
    """Return the hottest ``share`` of the pixels of (H, W), as booleans; ``random`` breaks ties."""
    order = np.lexsort((random.permutation(heat.size), -heat.ravel()))
    mask = np.zeros(heat.size, bool)
    mask[order[: round(share * heat.size)]] = True
    return mask.reshape(heat.shape)


def centre_share(heat: np.ndarray) -> float:
    """Return the share of the heat (H, W) in a centred box of half its height and width; 0.25 if spread evenly."""
    height, width = heat.shape
    box = heat[height // 4 : height - height // 4, width // 4 : width - width // 4]
    total = float(heat.sum())
    return float(box.sum()) / total if total > 0 else 0.25


def _masks(maps: Sequence[np.ndarray], share: float, random: np.random.RandomState) -> Dict[str, np.ndarray]:
    """Return (N, H, W) booleans for each cover, from heat maps of the images' size."""
    hot = np.stack([hottest(heat, share, random) for heat in maps])
    height, width = hot.shape[1:]
    offsets = [(random.randint(height), random.randint(width)) for _ in hot]
    return {
        'hottest': hot,
        'coldest': np.stack([hottest(-heat, share, random) for heat in maps]),
        'scattered': np.stack([hottest(random.uniform(size=heat.shape), share, random) for heat in maps]),
        'shifted': np.stack([np.roll(mask, offset, axis=(0, 1)) for mask, offset in zip(hot, offsets)]),
        # Half-way round, which is another class if images are sorted by class.
        'other': np.roll(hot, len(hot) // 2, axis=0),
    }


def _filler(fill: str, preprocessing: Preprocessing) -> Callable[[np.ndarray], np.ndarray]:
    """Return ``(H, W, 3) uint8 -> (3, H, W) float32``: what replaces covered pixels, as network input."""
    if fill not in FILLS:
        raise ValueError(f'fill is {fill!r}; allowed are {", ".join(FILLS)}')
    if fill == 'mean':
        return lambda pixels: np.zeros((3, *pixels.shape[:2]), np.float32)

    def blurred(pixels: np.ndarray) -> np.ndarray:
        radius = BLUR * min(pixels.shape[:2])
        return preprocessing.batch(np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))[None])[
            0
        ]

    return blurred


def deletion(
    net: Union[gluon.HybridBlock, GradCAM],
    pixels: np.ndarray,
    preprocessing: Preprocessing,
    classes: Optional[Sequence[int]] = None,
    stage: Optional[str] = None,
    share: float = 0.2,
    fill: str = 'blur',
    seed: int = 0,
    probabilities: Callable[[np.ndarray], np.ndarray] = softmax,
) -> Deletion:
    """Cover ``share`` of each image in every way of ``COVERS``, and compare how much the scores drop.

    Args:
        net: the network, or its :class:`GradCAM`.
        pixels: (N, H, W, 3) uint8 of the network's size, at least two images.
        preprocessing: the network's.
        classes: for each image, the class whose probability is the score (default: the network's own answer).
        stage: the stage whose heat maps are used, by its name in :class:`GradCAM` (default: the last).
        share: share of the pixels to cover.
        fill: what covered pixels are filled with, see ``FILLS``.
        seed: seed of the random covers.
        probabilities: makes probabilities of the logits (N, K).
    """
    if len(pixels) < 2 or not 0 < share < 1:
        raise ValueError(
            f'{len(pixels)} images and a share of {share}: two images and a share within 0 and 1 are needed'
        )
    filler = _filler(fill, preprocessing)
    cam = net if isinstance(net, GradCAM) else GradCAM(net)
    stage = stage or cam.stages[-1]
    if stage not in cam.stages:
        raise ValueError(f'stage is {stage!r}; allowed are {", ".join(cam.stages)}')
    images = preprocessing.batch(pixels)
    heat = cam(images, classes)
    maps = [enlarged(each, pixels.shape[1:3]) for each in heat.maps[stage]]
    fillings = np.stack([filler(each) for each in pixels])
    chosen = np.asarray(heat.classes, int)[:, None]

    def scores(logits: np.ndarray) -> np.ndarray:
        return np.take_along_axis(probabilities(logits), chosen, axis=1)[:, 0]

    before = scores(heat.logits)
    lost = {
        cover: before - scores(cam.answer(np.where(masks[:, None], fillings, images)))
        for cover, masks in _masks(maps, share, np.random.RandomState(seed)).items()
    }
    return Deletion(stage, before, lost, np.array([centre_share(each) for each in maps]))
