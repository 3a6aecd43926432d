"""A trained detector ready for use, from the manifest beside its parameters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

import mxnet as mx

from detection.data.transforms import DetectionPreprocessing
from detection.zoo import KINDS, get_detector
from environment import UserError
from model import read_manifest
from model.parameters import described, not_built, read_params, set_params

__all__ = ['TASK', 'LoadedDetector', 'is_detector', 'load_detector']

TASK = 'detection'  # in manifests


@dataclass(frozen=True)
class LoadedDetector:
    """Attributes:
    net: a detector, see `detection.get_detector`.
    name, options: `get_detector(name, **options)` built it.
    preprocessing: what it was trained with.
    class_names: one for each label, or None if nobody has told.
    manifest: the whole manifest; empty where there is none.
    """

    net: Any
    name: str
    options: Dict[str, Any]
    preprocessing: DetectionPreprocessing
    class_names: Optional[Tuple[str, ...]]
    manifest: Dict[str, Any]


def is_detector(params: Union[str, os.PathLike], model: Optional[str] = None) -> bool:
    """Whether `model`, or else the manifest beside `params`, speaks of a detector."""
    if model is not None:
        return model.startswith(tuple(f'{kind}_' for kind in KINDS))
    return (read_manifest(params) or {}).get('task') == TASK


def load_detector(
    params: Union[str, os.PathLike],
    model: Optional[str] = None,
    options: Optional[Dict[str, Any]] = None,
    classes: Optional[int] = None,
    ctx: Any = None,
) -> LoadedDetector:
    """Build the detector that `params` belongs to and load it.

    What is given goes before the manifest. A file without one needs `model`, and `classes` where they are not COCO's.

    Args:
        options: further arguments of `get_detector`. Those of the manifest count only if the model is the manifest's.
        ctx: a device or several.

    Raises:
        UserError: file missing, damaged, of another network, or its manifest wrong.
        UsageError: no model known, or none such.
    """
    params, manifest, name, merged = described(params, model, 'detector')
    if classes is not None:
        merged['classes'] = classes
    merged.update(options or {})
    try:
        net = get_detector(name, **merged)
    except (TypeError, ValueError) as error:
        raise not_built(params, error, model is None and not options and classes is None) from error
    set_params(net, read_params(net, params), params, ctx or mx.current_context())
    names = manifest.get('class_names')
    if names is not None and len(names) != net.classes:
        names = None  # --classes speaks of another detector than the manifest
    try:
        preprocessing = DetectionPreprocessing.from_dict(manifest.get('preprocessing', {}))
    except (TypeError, ValueError) as error:
        raise UserError(f'the manifest beside {params} is wrong: {error}; restore it') from error
    return LoadedDetector(net, name, merged, preprocessing, None if names is None else tuple(names), manifest)
