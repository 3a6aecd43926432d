"""The flags of validate.py that say what a network is scored on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from _precision_flags import Speed
from data.choices import SPLITS
from training.config.fields import Group, flag
from training.config.flags import number, output_file

__all__ = ['Annotated', 'Data', 'Scoring']


@dataclass(frozen=True)
class Data(Group):
    """The data set, and how much of it."""

    title = 'data'

    dataset: Optional[str] = flag('--dataset', help="as for train_cifar.py (default: the manifest's)")
    data_dir: Optional[str] = flag(
        '--data-dir', help="where CIFAR's archives are or will be downloaded; for a detector, COCO's folder"
    )
    split: str = flag('--split', choices=SPLITS, default='test', help='which images; val and test differ if both exist')
    batch_size: Optional[int] = flag(
        '--batch-size', type=number(int, 1), help='images per device and step (default: 128; for a detector 1)'
    )
    limit: Optional[int] = flag(
        '--limit', type=number(int, 1), help='score only this many images, spread evenly over the dataset'
    )
    num_data_workers: Optional[int] = flag(
        '-j', '--num-data-workers', type=number(int, 1), help='threads that decode image files'
    )


@dataclass(frozen=True)
class Annotated(Group):
    """Images in COCO's format, and a file for a detector's boxes."""

    annotations: Optional[str] = flag('--annotations', metavar='JSON', help='of the images to score on, in COCO format')
    images: Optional[str] = flag('--images', metavar='FOLDER', help='these images')
    results: Optional[str] = flag(
        '--results', type=output_file, metavar='FILE', help="write all boxes there, in COCO's results format"
    )


class Scoring(NamedTuple):
    """The settings by which a network of either task is scored."""

    data: Data
    annotated: Annotated
    speed: Speed
