"""Datasets by name or by path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Union

from environment import UsageError
from training.data.cifar import CIFAR, load_cifar
from training.data.dataset import ImageDataset
from training.data.digits import load_digits
from training.data.folder import load_folder, load_tar
from training.data.recordio import load_recordio

__all__ = ['DATASETS', 'SPLITS', 'load_dataset']

DATASETS = (*CIFAR, 'digits')
SPLITS = ('train', 'test', 'all')
TAR_SUFFIXES = ('.tar', '.tar.gz', '.tgz', '.tar.xz', '.tar.bz2')


def load_dataset(
    name: Union[str, os.PathLike],
    split: str,
    data_dir: Optional[Union[str, os.PathLike]] = None,
    size: int = 32,
    workers: Optional[int] = None,
) -> ImageDataset:
    """Load a dataset into memory.

    Args:
        name: 'cifar10'; 'cifar100' (its 100 fine labels); 'cifar100_coarse' (its 20 superclasses, which is
            what open-atac trained and scored under the name of CIFAR-100); 'digits'; or a path: a folder of
            class folders, directly or below train/ and test/ (or val/), a tar file of such a folder, or a
            RecordIO file (.rec with its .idx) or a folder with train.rec and val.rec.
        split: 'train', 'test' (held-out), or 'all'. Where the data come in one piece, every fifth image of
            each class is held out, chosen by the hash of its name.
        data_dir: where CIFAR's archives or unpacked files are, or are to be put; default
            ~/.mxnet/datasets/<name>.
        size: pixels; images of a folder, tar or RecordIO file are brought to this size (the named ones have
            32).
        workers: threads that decode image files; default: one per processor.

    Raises:
        UserError: data missing, damaged or not downloadable; the sentence says what to do.
    """
    if split not in SPLITS:
        raise UsageError(f'split {split!r} must be one of {", ".join(SPLITS)}')
    name = os.fspath(name)
    if name in CIFAR:
        return load_cifar(CIFAR[name], split, data_dir)
    if name == 'digits':
        return load_digits(split)
    path = Path(name).expanduser()
    if path.is_dir():
        if any(path.glob('*.rec')):
            return load_recordio(path, split, size, workers)
        return load_folder(path, split, size, workers)
    if path.is_file() and path.suffix == '.rec':
        return load_recordio(path, split, size, workers)
    if path.is_file() and path.name.endswith(TAR_SUFFIXES):
        return load_tar(path, split, size, workers)
    raise UsageError(
        f'--dataset {name} is neither one of {", ".join(DATASETS)} nor an existing folder of class folders, '
        'tar file of one, or .rec file; check the spelling or the path'
    )
