"""ImageNet for `train_imagenet.py`: where the images are, and how they are loaded."""

from __future__ import annotations

import math
import os
import time
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Optional, Tuple, Union

from data.balanced import balanced
from data.choices import INTERPOLATIONS
from data.classification.decoder import Decoding
from data.classification.image_loader import ImageLoader
from data.classification.loader import Loader
from data.classification.sources import ImageSource, noise_source, record_source
from data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from data.recordio.index import read_class_names
from data.recordio.parts import pieces_beside
from data.sampler import Sampler
from environment import UsageError

__all__ = [
    'ImagenetData',
    'image_loaders',
    'imagenet_preprocessing',
    'images_per_second',
    'noise_sources',
    'record_sources',
]

PathLike = Union[str, 'os.PathLike[str]']
#: Sources of training images and of validation images.
Sources = Tuple[ImageSource, ImageSource]


@dataclass(frozen=True)
class ImagenetData:
    """The data of a run.

    Attributes:
        train, val: loaders; both have the preprocessing `train.dataset.preprocessing`.
        classes, class_names: of both.
    """

    train: ImageLoader
    val: ImageLoader
    classes: int
    class_names: Tuple[str, ...]


def imagenet_preprocessing(
    input_size: int = 224, crop_ratio: float = 0.875, interpolation: str = INTERPOLATIONS[0]
) -> Preprocessing:
    """Return the preprocessing that scales to `input_size / crop_ratio`, rounded up, and crops the centre."""
    if not 0 < crop_ratio <= 1:
        raise UsageError(f'--crop-ratio {crop_ratio} must lie above 0 and be at most 1')
    resize = math.ceil(input_size / crop_ratio)
    return Preprocessing(input_size, IMAGENET_MEAN, IMAGENET_STD, resize, interpolation)


def record_sources(
    train: PathLike,
    val: PathLike,
    preprocessing: Preprocessing,
    classes: Optional[int] = None,
    train_idx: Optional[PathLike] = None,
    val_idx: Optional[PathLike] = None,
) -> Sources:
    """Return the images of two RecordIO files; default indices have the same names ending in .idx.

    Raises `UserError` for files that are missing, truncated, do not fit their index, or have labels beyond the
    `classes` (default: as many as the training images have).
    """
    train_source = record_source(train, train_idx, 'train', preprocessing, classes)
    val_source = record_source(val, val_idx, 'val', preprocessing, train_source.classes)
    left_out = ', '.join([*pieces_beside(Path(train)), *pieces_beside(Path(val))])
    told = (f'{train} is for training, {val} for validation' + (f'; skipped: {left_out}' if left_out else ''),)
    train_source = replace(train_source, told=told)
    named = [bool(read_class_names(Path(path))) for path in (train, val)]
    if all(named):
        return train_source, val_source.with_classes(train_source.class_names)
    # Labels have the same meaning in both, so that either's names apply to both.
    names = val_source.class_names if named[1] else train_source.class_names
    return replace(train_source, class_names=names), replace(val_source, class_names=names)


def noise_sources(images: int, classes: int, preprocessing: Preprocessing) -> Sources:
    """Return noise instead of images, which needs no files, for measuring speed."""
    train, val = (noise_source(images, classes, split, preprocessing) for split in ('train', 'val'))
    return train, val


def image_loaders(
    train: ImageSource,
    val: ImageSource,
    sampler: Sampler,
    decoding: Decoding,
    wrap_val: bool = False,
    by_class: bool = False,
    accumulate: int = 1,
) -> ImagenetData:
    """Return loaders of training and validation images.

    Training is shuffled, augmented as `train` asks, and in whole batches; validation yields every image once, in padded
    batches.

    Args:
        train: the training images.
        val: the validation images.
        sampler: batch size, seed, and worker; order and last batch are decided here.
        decoding: threads, cache and tolerance for damaged images, for training and for validation each.
        wrap_val: validation as in open-atac, see `last` of `data.sampler`; `UsageError` with several workers, or if
            there are fewer images than in a batch.
        by_class: show all classes equally often in training.
        accumulate: how many batches make one training step.
    """
    batch_size, size = sampler.batch_size, sampler.size
    if wrap_val and size > 1:
        raise UsageError(f'--wrap-val is for one process, and there are {size}; leave it out')
    if wrap_val and len(val) < batch_size:
        raise UsageError(
            f'--wrap-val is for whole batches, and one of {batch_size} needs more than {len(val)}; leave it out'
        )
    order = replace(sampler, shuffle=True, last='discard').grouped(accumulate)
    train_loader = ImageLoader(train, balanced(order, train.labels) if by_class else order, True, decoding)
    if len(train_loader) == 0:
        raise UsageError(
            f'--batch-size makes {batch_size} images per step and worker, and {size} workers share the '
            f'{len(train)} training images; give a smaller one'
        )
    # Evaluation's images are cut already, so '256' has no meaning for them.
    val_cache = 'auto' if decoding.cache == '256' else decoding.cache
    val_loader = ImageLoader(
        val,
        replace(sampler, seed=0, shuffle=False, last='wrap' if wrap_val else 'pad', repeats=1),
        decoding=replace(decoding, cache=val_cache, other_cache=train_loader.cache),
    )
    return ImagenetData(train_loader, val_loader, train.classes, train.class_names)


def images_per_second(loader: Loader, batches: int, epoch: int = 0, warm_up: int = 1) -> float:
    """Return the speed of the data alone: `batches` batches from a cold start, over as many epochs as needed.

    `warm_up` batches before that fill caches; batches prepared beyond the end are not counted.
    """
    if batches < 1 or warm_up < 0 or len(loader) == 0:
        raise ValueError(f'batches {batches} must be 1 or more, warm_up {warm_up} 0 or more, and an epoch not empty')
    with closing(loader.batches(epoch)) as iterator:
        for _ in islice(iterator, warm_up):
            pass
    seen, images, start = 0, 0, time.perf_counter()
    while True:
        with closing(loader.batches(epoch)) as iterator:
            for _, _, _, n_valid in islice(iterator, batches - seen):
                seen, images = seen + 1, images + n_valid
            if seen == batches:
                return images / (time.perf_counter() - start)
        epoch += 1
