"""Explain networks that are saved in files, for the reports of runs."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, List, Sequence, Tuple, Union

import numpy as np

from inference.network import load_network

__all__ = ['explain_saved']

HEIGHT = 160  # of the pictures, in pixels


def explain_saved(
    params: Union[str, os.PathLike], images: Sequence[np.ndarray], classes: Sequence[int], ctx: Any = None
) -> List[List[Tuple[str, np.ndarray]]]:
    """Return (description, picture (H, W, 3) uint8) for each image: the image, and by stage the heat of its class.

    The network is built from its parameters, in float32, and is independent of the one in training.

    Args:
        params: the parameter file.
        images: (H, W, 3) uint8, of the network's input size.
        classes: one for each image.
        ctx: the device (default: the current one).
    """
    from inference.explain import explain, overlay  # where it is needed, as it takes matplotlib

    network = load_network(params, ctx=ctx)
    as_they_are = replace(network.preprocessing, resize=None)  # the images have been cut already
    explanations = explain(network.net, list(images), as_they_are, network.class_names, classes=list(classes))
    return [
        [('image', pixels), *((name, overlay(each.pixels, heat, HEIGHT)) for name, heat in each.maps.items())]
        for pixels, each in zip(images, explanations)
    ]
