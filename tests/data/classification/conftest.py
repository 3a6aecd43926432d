"""Runs on small images of noise."""

from __future__ import annotations

from data.classification.imagenet import imagenet_preprocessing, record_sources
from data.classification.sources import folder_sources
from tests.data.loaders import loaders_of as make_loaders_of


def of_records(train, val=None, classes=None, train_idx=None, val_idx=None, batch_size=2, crop_ratio=0.875, **feeding):
    """Return the loaders of both parts of a run on small images."""
    preprocessing = imagenet_preprocessing(8, crop_ratio)
    sources = record_sources(train, val or train, preprocessing, classes, train_idx, val_idx)
    return make_loaders_of(*sources, batch_size, **feeding)


def of_folders(folder, classes=None, **feeding):
    return make_loaders_of(*folder_sources(folder, imagenet_preprocessing(8), classes), 2, **feeding)
