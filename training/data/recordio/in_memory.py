"""Images packed in MXNet's RecordIO files (`.rec` with `.idx`), brought to one size and held in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from environment import UserError
from inference.preprocessing import Preprocessing
from training.data.dataset import ImageDataset
from training.data.decode import Item, decode_items, held_out_by_hash
from training.data.recordio.framing import DamagedRecord
from training.data.recordio.index import CLASSES, read_class_names
from training.data.recordio.records import RecordFile
from training.data.tree import HELD_OUT, TRAIN, held_out_part

__all__ = ['load_recordio']

TRAIN_FILE = f'{TRAIN}.rec'


def _choose(path: Path, split: str) -> Tuple[List[Path], bool]:
    """The files that make up `split`, and whether every fifth image of them has to be held out first."""
    folder = path if path.is_dir() else path.parent
    present = [name for name in HELD_OUT if (folder / f'{name}.rec').is_file()]
    held_out = [folder / f'{name}.rec' for name in [held_out_part(present, split)] if name]
    beside = [folder / f'{name}.rec' for name in present]
    train = folder / TRAIN_FILE
    if path.is_dir() and not train.is_file():
        raise UserError(f'{path} has .rec files but no {TRAIN_FILE}; name one of them instead of the folder')
    if not train.is_file() or not held_out or (path.is_file() and path not in (train, *beside)):
        return [path if path.is_file() else train], True
    if path.is_file() and path in beside and split in ('val', 'test'):
        held_out = [path]
    return {'train': [train], 'all': [train, *held_out]}.get(split, held_out), False


def _image(file: RecordFile, i: int) -> bytes:
    try:
        return bytes(file.read(i).image)
    except DamagedRecord as error:
        raise UserError(
            f'{file.name(i)} is damaged: {error}; python scripts/make_recordio.py {file.path} FOLDER --leave-out packs '
            'the intact ones into a new file'
        ) from error


def load_recordio(path: Path, split: str, preprocessing: Preprocessing, workers: Optional[int] = None) -> ImageDataset:
    """A split of `train.rec` and `val.rec` (`test.rec`, ...), or of a file that stands alone.

    Classes are named by the lines of `classes.txt` beside the files, and without it by their numbers.
    """
    files, hold_out = _choose(path, split)
    names = read_class_names(files[0])
    items, classes = [], len(names)
    for number, file in enumerate(map(RecordFile, files)):
        labels = file.labels.astype(np.int64)
        if names and labels.max() >= len(names):
            i = int(labels.argmax())
            raise UserError(
                f'{file.name(i)} has the label {labels[i]}, and {files[number].with_name(CLASSES)} names {len(names)} '
                'classes; mend that file or remove it'
            )
        classes = max(classes, int(labels.max()) + 1)
        keep = np.ones(len(labels), dtype=bool)
        if hold_out and split != 'all':
            for label in np.unique(labels):
                members = np.flatnonzero(labels == label)
                keep[members] = np.array(held_out_by_hash([str(i) for i in members])) == (split != 'train')
        items += [Item(file.name(i), partial(_image, file, i), int(labels[i])) for i in np.flatnonzero(keep).tolist()]
    if split in ('val', 'test') and not hold_out and not names:
        # The held-out part may lack the last classes; the training part says how many there are.
        classes = max(classes, int(RecordFile(files[0].with_name(TRAIN_FILE)).labels.max()) + 1)
    class_names = [*names, *map(str, range(len(names), classes))]
    dataset = decode_items(items, class_names, str(path), split, preprocessing, workers)
    return replace(dataset, by_hash=hold_out and split != 'all')
