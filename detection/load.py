"""A trained detector ready for use, from the manifest beside its parameters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import mxnet as mx

from common.schema import shown
from common.text import printable
from data.coco.categories import Classes, is_id
from detection.preprocessing import DetectionPreprocessing
from detection.zoo import KINDS, get_detector
from environment import UserError
from model import read_manifest
from model.parameters.load import described, not_built, read_params, set_params

__all__ = ['TASK', 'LoadedDetector', 'is_detector', 'load_detector']

TASK = 'detection'  # in manifests


@dataclass(frozen=True)
class LoadedDetector:
    """Attributes:
    net: a detector, see `detection.get_detector`.
    name, options: `get_detector(name, **options)` built it.
    preprocessing: what it was trained with.
    classes: what the labels stand for, or None if nobody has told.
    manifest: the whole manifest; empty where there is none.
    """

    net: Any
    name: str
    options: Dict[str, Any]
    preprocessing: DetectionPreprocessing
    classes: Optional[Classes]
    manifest: Dict[str, Any]

    @property
    def class_names(self) -> Optional[Tuple[str, ...]]:
        return None if self.classes is None else self.classes.names

    def titles(self) -> Tuple[str, ...]:
        """What to call each label: its name where there is one, told apart from others of that name."""
        return tuple(map(str, range(self.net.classes))) if self.classes is None else self.classes.titles()


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
    try:
        known = manifest.get('preprocessing')
        preprocessing = DetectionPreprocessing() if known is None else DetectionPreprocessing.from_dict(known)
    except (TypeError, ValueError) as error:
        raise UserError(f'the manifest beside {params} is wrong: {error}; restore it') from error
    return LoadedDetector(net, name, merged, preprocessing, _classes(manifest, net.classes, params), manifest)


def _classes(manifest: Mapping[str, Any], count: int, params: os.PathLike) -> Optional[Classes]:
    """The classes of a manifest; None if it has none, or --classes speaks of another detector."""
    names, ids = manifest.get('class_names'), manifest.get('categories')
    if names is None or len(names) != count:
        return None
    if ids is None:  # written before ids were
        return Classes(tuple(map(printable, names)))
    if not isinstance(ids, list) or len(ids) != count or not all(map(is_id, ids)) or len(set(ids)) != count:
        raise UserError(
            f'the manifest beside {params} is wrong: categories is {shown(ids)}; allowed: {count} different ids, one '
            'for each of class_names; restore it'
        )
    return Classes(tuple(map(printable, names)), tuple(ids))
