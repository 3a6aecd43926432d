"""Datasets held in memory as uint8, and batches drawn from them as pure functions of (seed, epoch, image)."""

from training.data.augment import Augment
from training.data.dataset import ImageDataset
from training.data.feeder import Feeder
from training.data.load import DATASETS, load_dataset, load_splits

__all__ = ['DATASETS', 'Augment', 'Feeder', 'ImageDataset', 'load_dataset', 'load_splits']
