"""Detectors by name."""

from __future__ import annotations

import difflib
from typing import Any, Dict, Type

from detection.cascade import CascadeRCNN
from detection.detector import Detector
from detection.retinanet import RetinaNet
from detection.trunk import trunk
from model.options import check_options

__all__ = ['KINDS', 'get_detector']

KINDS: Dict[str, Type[Detector]] = {detector.kind: detector for detector in (RetinaNet, CascadeRCNN)}


def get_detector(name: str, classes: int = 80, **options: Any) -> Detector:
    """Return the detector ``KIND_BACKBONE``, uninitialised, such as ``retinanet_dca_se_resnet50_v1b``.

    KIND is ``retinanet`` or ``cascade_rcnn``; BACKBONE any name that :func:`model.get_model` takes and that ends in
    ``resnet*_v1b``. ``options`` are the detector's (see its class) and those of the backbone's ``get_model``; the
    defaults are the published detector's. Nothing is frozen until ``freeze`` is called.

    ``ValueError`` names the part of the name, or the argument, that is at fault, and what is allowed.
    """
    kind = next((kind for kind in KINDS if name.startswith(kind + '_')), None)
    if kind is None:
        near = difflib.get_close_matches(name.split('_')[0], KINDS, 1, 0.3)
        example = f'{near[0] if near else next(iter(KINDS))}_resnet50_v1b'
        raise ValueError(
            f'{name} is not a detector: a name begins with {" or ".join(f"{kind}_" for kind in KINDS)} and goes on '
            f'with the backbone, such as {example}'
        )
    detector, backbone_name = KINDS[kind], name[len(kind) + 1 :]
    own = {key: options.pop(key) for key in tuple(options) if key in detector.options}
    for key in options:
        near = difflib.get_close_matches(key, detector.options, 2, 0.75)
        if near:
            raise ValueError(f'{name} takes no argument {key!r}; did you mean {", ".join(near)}?')
    check_options(name, {'classes': classes})
    check_options(name, own, detector.options)
    try:
        backbone = trunk(backbone_name, **options)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error
    return detector(backbone, backbone_name, classes, **own)
