"""Datasets by name or by path."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any, List, Optional, Sequence, Union

import numpy as np

from common.files import expanded
from data.bad import Tolerance
from data.choices import INTERPOLATIONS, SPLITS
from data.classification.cifar import CIFAR, load_cifar
from data.classification.dataset import ImageDataset
from data.classification.decode import Gather, decode_items
from data.classification.digits import load_digits
from data.classification.memory import require_memory
from data.classification.places import PLACES, load_of
from data.classification.sources import ImageSource
from data.classification.streamed import stream_items
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from environment import UsageError

__all__ = ['DATASETS', 'default_preprocessing', 'load_dataset', 'load_splits', 'open_dataset', 'scaled']

DATASETS = (*CIFAR, 'digits')


def load_dataset(
    name: Union[str, os.PathLike],
    split: str,
    data_dir: Optional[Union[str, os.PathLike]] = None,
    size: int = 32,
    workers: Optional[int] = None,
    preprocessing: Optional[Preprocessing] = None,
    interpolation: str = INTERPOLATIONS[0],
) -> ImageDataset:
    """Load a split of a dataset into memory.

    Args:
        name: 'cifar10'; 'cifar100' (its 100 fine labels); 'cifar100_coarse' (its 20 superclasses, which is
            what open-atac trained and scored under the name of CIFAR-100); 'digits'; or a path: a folder of
            class folders, directly or below train/ and val/ (or other usual names: see `data.split_names`), a tar or
            zip file of such a folder, a RecordIO file (.rec with its .idx) or a folder with train.rec and val.rec, or
            a table of paths and labels (see `data.classification.tables`).
        split: 'train'; 'val', what training validates on; 'test', the same unless there are both val/ and test/;
            or 'all', 'train' and 'val'. Where the data come in one piece, every fifth image of each class is held
            out, chosen by the hash of its name.
        data_dir: where CIFAR's archives or unpacked files are, or are to be put; default
            ~/.mxnet/datasets/<name>.
        size: pixels; images of a folder, tar or RecordIO file are brought to this size (the named ones have
            32).
        preprocessing: in place of the dataset's own, e.g. that of a trained network; its size takes the place of
            `size` and `interpolation`.
        interpolation: how images of a folder, tar or RecordIO file are scaled, see `data.scaling`.
        workers: threads that decode image files; default: one per processor.

    Raises:
        UserError: data missing, damaged or not downloadable; the sentence says what to do.
    """
    return load_splits(name, [split], data_dir, size, workers, preprocessing, interpolation)[0]


def load_splits(
    name: Union[str, os.PathLike],
    splits: Sequence[str],
    data_dir: Optional[Union[str, os.PathLike]] = None,
    size: int = 32,
    workers: Optional[int] = None,
    preprocessing: Optional[Preprocessing] = None,
    interpolation: str = INTERPOLATIONS[0],
    tolerance: Tolerance = Tolerance(),  # noqa: B008 (it is frozen)
) -> List[ImageDataset]:
    """Return several splits as `load_dataset` does, of files that are only read once.

    Raises `UserError` if one has more damaged images than the `tolerance` allows.
    """
    chosen = preprocessing or replace(default_preprocessing(size), interpolation=interpolation)
    gather = partial(decode_items, workers=workers, tolerance=tolerance)
    return _splits(name, splits, data_dir, chosen, gather, adapt=preprocessing is not None)


def open_dataset(
    name: Union[str, os.PathLike],
    split: str,
    data_dir: Optional[Union[str, os.PathLike]],
    preprocessing: Preprocessing,
) -> Union[ImageDataset, ImageSource]:
    """Return the same as `load_dataset`, but leave images in their files until a loader asks for them.

    Those of the named data sets, which are small, are held in memory nevertheless.
    """
    return _splits(name, [split], data_dir, preprocessing, stream_items, adapt=True)[0]


def _splits(
    name: Union[str, os.PathLike],
    splits: Sequence[str],
    data_dir: Optional[Union[str, os.PathLike]],
    preprocessing: Preprocessing,
    gather: Gather,
    adapt: bool,
) -> List[Any]:
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise UsageError(f'split {unknown[0]!r} must be one of {", ".join(SPLITS)}')
    name = os.fspath(name)
    if name in DATASETS:
        datasets = [_named(name, 'test' if split == 'val' else split, data_dir) for split in splits]
        return [_adapted(dataset, preprocessing) for dataset in datasets] if adapt else datasets
    path = expanded(name)
    load = load_of(path)
    if load is None:
        raise UsageError(
            f'--dataset {name} is neither one of {", ".join(DATASETS)} nor an existing {PLACES}; check the spelling or '
            'the path'
        )
    return load(path, splits, preprocessing, gather)


def _named(name: str, split: str, data_dir: Optional[Union[str, os.PathLike]]) -> ImageDataset:
    return load_digits(split) if name == 'digits' else load_cifar(CIFAR[name], split, data_dir)


def default_preprocessing(size: int) -> Preprocessing:
    """Return CIFAR's statistics for small images, ImageNet's for those of more than 64 pixels."""
    return Preprocessing(size, *((CIFAR_MEAN, CIFAR_STD) if size <= 64 else (IMAGENET_MEAN, IMAGENET_STD)))


def scaled(dataset: ImageDataset, size: int, interpolation: str) -> ImageDataset:
    """Return the images brought to another size."""
    require_memory(dataset.name, len(dataset), size)
    return _adapted(dataset, replace(dataset.preprocessing, size=size, resize=None, interpolation=interpolation))


def _adapted(dataset: ImageDataset, preprocessing: Preprocessing) -> ImageDataset:
    """Return the same images under another preprocessing."""
    old = dataset.preprocessing
    if (preprocessing.size, preprocessing.resize or preprocessing.size) != (old.size, old.resize or old.size):
        images = np.stack([preprocessing.fit(image) for image in dataset.images])
        return replace(dataset, images=images, preprocessing=preprocessing)
    return replace(dataset, preprocessing=preprocessing)
