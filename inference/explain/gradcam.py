"""Grad-CAM: where in the image a network finds evidence for a class.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", arXiv 1610.02391.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import numpy as np
from mxnet import gluon
from PIL import Image

from inference.explain.hooks import ActivationHooks
from inference.explain.stages import attach_stages

__all__ = ['GradCAM', 'HeatMaps', 'enlarged']

BATCH = 16


@dataclass(frozen=True)
class HeatMaps:
    """The result of :class:`GradCAM`.

    Attributes:
        logits: (N, classes), the network's answers.
        classes: (N,), the class of each image that its maps are for.
        maps: by stage, (N, h, w), 0 and above, at the stage's own resolution.
    """

    logits: np.ndarray
    classes: np.ndarray
    maps: Dict[str, np.ndarray]


def enlarged(heat: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return a map (h, w) at another size (H, W), bilinear."""
    image = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.BILINEAR))


class GradCAM:
    """``relu(sum_c a_c A_c)`` with ``a_c`` the mean over space of d logit / d A_c (equations 1 and 2).

    A is the map (C, h, w) at the end of a stage. At the last stage of a network that ends in a global mean and one
    dense layer, this is CAM (Zhou et al., arXiv 1512.04150) up to a factor; inner stages have no such counterpart.

    Args:
        net: any classifier (N, 3, H, W) -> (N, classes) that has values, hybridized or not; it is read once, here, and
            left unchanged.
        stages: numbers of stages or paths of blocks (default: every stage, see
            :func:`inference.explain.stages.attach_stages`).
    """

    def __init__(self, net: gluon.HybridBlock, stages: Optional[Sequence[str]] = None) -> None:
        self._hooks = ActivationHooks(net, attach_stages(net, stages), differentiable=True)
        self.stages = list(self._hooks.names)

    def answer(self, images: np.ndarray) -> np.ndarray:
        """Return the logits (N, classes) for ``images`` (N, 3, H, W) float32."""
        batches = range(0, len(images), BATCH)
        return np.concatenate([self._hooks.answer(images[start : start + BATCH]) for start in batches])

    def __call__(self, images: np.ndarray, classes: Optional[Sequence[int]] = None) -> HeatMaps:
        """Return heat maps for ``images`` (N, 3, H, W) float32, preprocessed for the network.

        Args:
            images: the images.
            classes: the class to explain for each of them (default: the network's own answer).

        Raises:
            ValueError: a class is unknown, or the output of a stage is not a map.
        """
        for name, shape in zip(self.stages, self._hooks.shapes(images.shape)):
            if len(shape) != 4:
                raise ValueError(f'{name} returns an array of shape {shape}, which is not a map (N, C, H, W)')
        logits, chosen, maps = [], [], []
        for start in range(0, len(images), BATCH):
            some = None if classes is None else list(classes)[start : start + BATCH]
            answer, activations, gradients = self._hooks.differentiate(images[start : start + BATCH], some)
            if some is not None and not all(0 <= number < answer.shape[1] for number in some):
                raise ValueError(f'classes {some} must be from 0 to {answer.shape[1] - 1}')
            logits.append(answer)
            chosen.append(answer.argmax(axis=1) if some is None else np.asarray(some))
            maps.append(
                [
                    np.maximum(np.einsum('nc,nchw->nhw', gradient.mean(axis=(2, 3)), activation), 0)
                    for activation, gradient in zip(activations, gradients)
                ]
            )
        return HeatMaps(
            np.concatenate(logits),
            np.concatenate(chosen),
            {name: np.concatenate([batch[place] for batch in maps]) for place, name in enumerate(self.stages)},
        )
