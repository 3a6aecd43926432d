"""Training on small images, in memory: what train_cifar.py has of its own."""

import argparse
from dataclasses import replace
from typing import Any, List, Mapping, Optional, Tuple

from training.assemble import feeders
from training.data import load_dataset
from training.data.dataset import ImageDataset
from training.flags.open_atac import network
from training.processes.ranks import Ranks
from training.records.log import epoch_line
from training.tasks.task import RunData, Task

__all__ = ['TASK']


def normalised(dataset: ImageDataset, mean: Optional[str], std: Optional[str]) -> ImageDataset:
    """The images with the mean and the standard deviation that --mean and --std give in place of their own."""
    given = {'mean': mean, 'std': std}
    changes = {name: [float(part) for part in text.split(',')] for name, text in given.items() if text is not None}
    return replace(dataset, preprocessing=replace(dataset.preprocessing, **changes))


def load(settings: argparse.Namespace, devices: int, ranks: Ranks) -> RunData:
    """Both splits of --dataset."""
    train_set, val_set = (
        load_dataset(settings.dataset, split, data_dir=settings.data_dir, workers=settings.num_data_workers)
        for split in ('train', 'test')
    )
    val_set = val_set.with_classes(train_set.class_names)
    train_set, val_set = (normalised(dataset, settings.mean, settings.std) for dataset in (train_set, val_set))
    train, val = feeders(settings, train_set, val_set, devices, ranks)
    return RunData(
        train,
        val,
        train_set.name,
        train_set.class_names,
        train_set.preprocessing,
        len(train.dataset),
        len(val.dataset),
        train_set.unreadable,
    )


def words(settings: argparse.Namespace) -> Tuple[str, str]:
    return settings.dataset, settings.model


def lines(row: Mapping[str, Any]) -> List[str]:
    return [epoch_line(row)]


TASK = Task('cifar', network, load, words, lines, best_figure=lambda top1: top1)
