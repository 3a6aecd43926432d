"""ImageNet-size data: images in RecordIO files or folders, decoded by threads while the network trains.

source.py, cache.py   images by their number: encoded, and kept in memory decoded
transform.py          the random changes
feeder.py             batches, which threads prepare ahead
data.py               training and validation data of a run
"""

from training.data.imagenet.data import (
    ImagenetData,
    fed,
    imagenet_preprocessing,
    images_per_second,
    noise_sources,
    record_sources,
)
from training.data.imagenet.feeder import ImageFeeder
from training.data.imagenet.source import folder_sources
from training.data.imagenet.transform import ImagenetAugment

__all__ = [
    'ImageFeeder',
    'ImagenetAugment',
    'ImagenetData',
    'fed',
    'folder_sources',
    'imagenet_preprocessing',
    'images_per_second',
    'noise_sources',
    'record_sources',
]
