"""Detectors small enough for tests, and images of bright rectangles that they learn to find."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import mxnet as mx
import numpy as np
from mxnet import nd

from detection import get_detector

#: Every detector, as small as it gets.
SMALL: Dict[str, Dict[str, Any]] = {
    'retinanet': {'channels': 32, 'head_convolutions': 1},
    'cascade_rcnn': {'channels': 32, 'width': 64, 'proposals': 64, 'samples': 64},
}
KINDS = tuple(SMALL)


def small(kind: str, backbone: str = 'resnet18_v1b', classes: int = 2, seed: int = 0, **options: Any) -> Any:
    """Return a detector whose values depend only on the seed."""
    det = get_detector(f'{kind}_{backbone}', classes=classes, **{**SMALL[kind], **options})
    mx.random.seed(seed)
    np.random.seed(seed)  # MXNet's Xavier draws from either
    det.initialize(mx.init.MSRAPrelu())
    return det


def outspoken(det: Any) -> Any:
    """Return a detector with larger weights in its last layers, whose scores differ as those of a trained one do."""
    if det.kind == 'retinanet':
        last = {det.head.class_output: 0.8, det.head.box_output: 0.1}
    else:
        last = {
            det.rpn_head.objectness: 0.1,
            **{layer: 0.1 for head in det.heads for layer in (head.logits, head.code)},
        }
    for layer, spread in last.items():
        layer.weight.set_data(nd.random.normal(0, spread, shape=layer.weight.shape))
    return det


def rectangles(random: np.random.RandomState, count: int = 4, side: int = 64) -> Tuple[nd.NDArray, Any, Any, Any]:
    """Return images with one rectangle each in the colour of its class, and their sizes, boxes and labels."""
    images = random.normal(0, 0.3, (count, 3, side, side)).astype(np.float32)
    boxes, labels = np.zeros((count, 1, 4), np.float32), np.zeros((count, 1), np.float32)
    for i in range(count):
        w, h = random.randint(side // 4, side // 2 + 1, 2)
        x, y = random.randint(0, side - w), random.randint(0, side - h)
        labels[i, 0] = random.randint(2)
        images[i, int(labels[i, 0]), y : y + h, x : x + w] += 3
        boxes[i, 0] = [x, y, x + w - 1, y + h - 1]
    return nd.array(images), np.full((count, 2), side, np.float32), boxes, labels
