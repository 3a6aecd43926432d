"""ImageNet-size data: images in RecordIO files or folders, decoded by threads while the network trains.

framing.py, index.py, records.py   MXNet's file format: bytes, index, random access with checks
source.py, pixels.py, cache.py     images by their number: encoded, decoded, kept in memory
transform.py, prefetch.py          the random changes, and threads that prepare batches ahead
feeder.py, bad.py                  batches; what happens to damaged images
data.py                            training and validation data of a run
"""

from training.data.imagenet.data import ImagenetData, imagenet_data, images_per_second, noise_data
from training.data.imagenet.feeder import ImageFeeder
from training.data.imagenet.transform import ImagenetAugment

__all__ = ['ImageFeeder', 'ImagenetAugment', 'ImagenetData', 'imagenet_data', 'images_per_second', 'noise_data']
