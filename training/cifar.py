"""Training on small images, in memory: what train_cifar.py has of its own."""

import argparse
from typing import Any, List, Mapping, Tuple

from training.assemble import feeders
from training.data import load_dataset
from training.log import epoch_line
from training.open_atac import network
from training.ranks import Ranks
from training.task import RunData, Task

__all__ = ['TASK']


def load(settings: argparse.Namespace, devices: int, ranks: Ranks) -> RunData:
    """Both splits of --dataset."""
    train_set, val_set = (
        load_dataset(settings.dataset, split, data_dir=settings.data_dir, workers=settings.num_data_workers)
        for split in ('train', 'test')
    )
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
