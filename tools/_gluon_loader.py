"""Build the pipeline that ours is compared with: Gluon's loader with a transform for each sample, as in open-atac."""

from typing import Any

import mxnet as mx
import numpy as np

from data.classification.dataset import ImageDataset
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing

__all__ = ['gluon_loader', 'noise']


def noise(count: int) -> ImageDataset:
    """Return random images of 32 x 32 pixels in ten classes; neither pipeline's speed depends on their content."""
    images = np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    names = tuple(map(str, range(10)))
    return ImageDataset(images, labels, names, 'noise', 'train', Preprocessing(32, CIFAR_MEAN, CIFAR_STD))


def gluon_loader(dataset: ImageDataset, batch_size: int, workers: int) -> Any:
    """Return a loader that pads, crops at random, mirrors half, scales, normalises and batches, in worker processes."""
    from gluoncv.data import transforms as gcv_transforms
    from mxnet import gluon
    from mxnet.gluon.data.vision import transforms

    per_sample = transforms.Compose(
        [
            gcv_transforms.RandomCrop(32, pad=4),
            transforms.RandomFlipLeftRight(),
            transforms.ToTensor(),
            transforms.Normalize(dataset.preprocessing.mean, dataset.preprocessing.std),
        ]
    )
    samples = gluon.data.ArrayDataset(mx.nd.array(dataset.images, dtype='uint8'), dataset.labels.astype(np.int32))
    return gluon.data.DataLoader(
        samples.transform_first(per_sample), batch_size, shuffle=True, last_batch='discard', num_workers=workers
    )
