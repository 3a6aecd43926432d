"""A trained network ready for use: parameters, preprocessing and class names, from the manifest beside the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from data.preprocessing import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from environment import UsageError, UserError
from model import get_model, input_size, load_params
from model.parameters.load import described, not_built

__all__ = ['LoadedNetwork', 'load_network', 'published_preprocessing']


@dataclass(frozen=True)
class LoadedNetwork:
    """Attributes:
    net: (N, 3, H, W) float32 -> (N, classes) logits.
    name, options: `get_model(name, **options)` built it.
    preprocessing: what it was trained with.
    class_names: one for each output, or None if nobody has told.
    manifest: the whole manifest; empty where there is none.
    """

    net: Any
    name: str
    options: Dict[str, Any]
    preprocessing: Preprocessing
    class_names: Optional[Tuple[str, ...]]
    manifest: Dict[str, Any]


def published_preprocessing(name: str) -> Preprocessing:
    """What networks of this name are trained with as long as nobody says otherwise: CIFAR's or ImageNet's."""
    size = input_size(name)
    if size <= 64:
        return Preprocessing(size, CIFAR_MEAN, CIFAR_STD)
    return Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, resize=round(size / 0.875))


def load_network(
    params: Union[str, os.PathLike],
    model: Optional[str] = None,
    options: Optional[Dict[str, Any]] = None,
    classes: Optional[int] = None,
    class_names: Optional[Sequence[str]] = None,
    preprocessing: Optional[Preprocessing] = None,
    ctx: Any = None,
) -> LoadedNetwork:
    """Build the network that `params` belongs to and load it.

    The manifest beside `params` says all about it; what is given here goes before it. Files without a manifest
    (GluonCV's, open-atac's) need `model`, and `classes` where they differ from the network's default.

    Args:
        options: further arguments of `get_model`. Those of the manifest count only if the model is the manifest's.
        ctx: a device or several.

    Raises:
        UserError: file missing, damaged, of another network, or its manifest incomplete.
        UsageError: no model known, or none such.
    """
    params, manifest, name, merged = described(params, model, 'network')
    alone = model is None and not options and classes is None and class_names is None
    if 'task' in manifest and name == manifest.get('model'):
        raise UserError(f'{params} is of a network for {manifest["task"]}; give the parameters of a classifier')
    names = class_names if class_names is not None else manifest.get('class_names')
    if classes is None:
        classes = len(class_names) if class_names is not None else manifest.get('classes')
    if classes is not None:
        merged['classes'] = classes
    merged.update(options or {})
    try:
        net = get_model(name, **merged)
    except (TypeError, ValueError) as error:
        raise not_built(params, error, alone) from error
    load_params(net, params, ctx=ctx)
    if names is not None and len(names) != merged.get('classes', len(names)):
        if class_names is not None:
            raise UsageError(f'there are {len(names)} class names for {merged["classes"]} classes; give one for each')
        names = None  # --classes speaks of another network than the manifest
    try:
        known = preprocessing or (
            Preprocessing.from_dict(manifest['preprocessing'])
            if 'preprocessing' in manifest
            else published_preprocessing(name)
        )
    except ValueError as error:
        raise UserError(f'the manifest beside {params} is wrong: {error}; restore it') from error
    return LoadedNetwork(net, name, merged, known, None if names is None else tuple(names), manifest)
