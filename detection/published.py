"""The detectors of the DCANet paper, and their published figures."""

from __future__ import annotations

from typing import Dict, NamedTuple

__all__ = ['PUBLISHED', 'SIZE', 'Published']

#: Height and width that images of 1333 x 800 pixels have with their padding.
SIZE = (800, 1344)


class Published(NamedTuple):
    """Box AP on COCO val2017, per cent, as the README of 13952522076/DCANet and the paper print it."""

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float


PUBLISHED: Dict[str, Published] = {
    'retinanet_resnet50_v1b': Published(36.2, 55.9, 38.5, 19.4, 39.8, 48.3),
    'retinanet_se_resnet50_v1b': Published(37.4, 57.8, 39.8, 20.6, 40.8, 50.3),
    'retinanet_dca_se_resnet50_v1b': Published(37.7, 58.2, 40.1, 20.8, 40.9, 50.4),
    'cascade_rcnn_resnet50_v1b': Published(40.6, 58.9, 44.2, 22.4, 43.7, 54.7),
    'cascade_rcnn_gc_resnet50_v1b': Published(41.1, 59.7, 44.6, 23.6, 44.1, 54.3),
    'cascade_rcnn_dca_gc_resnet50_v1b': Published(41.4, 60.2, 44.7, 22.8, 45.0, 54.2),
}
