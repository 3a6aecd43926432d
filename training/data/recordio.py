"""Images packed in MXNet's RecordIO files (`.rec` with `.idx`), as `im2rec.py` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
from mxnet import recordio
from mxnet.base import MXNetError

from environment import UserError
from inference.preprocessing import Preprocessing
from training.data.dataset import ImageDataset
from training.data.decode import Item, decode_items, held_out_by_hash

__all__ = ['load_recordio']

TRAIN, HELD_OUT = 'train.rec', ('val.rec', 'test.rec')


def _choose(path: Path, split: str) -> Tuple[List[Path], bool]:
    """The files that make up `split`, and whether every fifth image of them has to be held out first."""
    folder = path if path.is_dir() else path.parent
    held_out = [folder / name for name in HELD_OUT if (folder / name).is_file()][:1]
    train = folder / TRAIN
    if path.is_dir() and not train.is_file():
        raise UserError(f'{path} has .rec files but no {TRAIN}; name one of them instead of the folder')
    if not train.is_file() or not held_out or (path.is_file() and path not in (train, *held_out)):
        return [path if path.is_file() else train], True
    return {'train': [train], 'test': held_out, 'all': [train, *held_out]}[split], False


def _read(path: Path) -> List[Tuple[int, bytes]]:
    """(label, encoded image) of every record, in the order of the index."""
    index = path.with_suffix('.idx')
    if not index.is_file():
        raise UserError(f"{path} has no index {index.name} beside it; make one with MXNet's tools/rec2idx.py")
    records = []
    try:
        # MXNet complains about a damaged index with ValueError or IndexError, about damaged records with its
        # own error.
        reader = recordio.MXIndexedRecordIO(str(index), str(path), 'r')
        for key in reader.keys:
            content = reader.read_idx(key)
            if content is None:
                raise ValueError(f'record {key} is missing')
            header, image = recordio.unpack(content)
            label = np.asarray(header.label).reshape(-1)
            if label.size != 1 or label[0] != int(label[0]) or label[0] < 0:
                raise UserError(
                    f'record {key} of {path} has the label {label.tolist()}; a classification needs one '
                    f'whole number, 0 or more, for each image'
                )
            records.append((int(label[0]), image))
        reader.close()
    except (MXNetError, ValueError, IndexError, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f'{path} or its index is damaged ({reason}); make both again') from error
    return records


def load_recordio(path: Path, split: str, preprocessing: Preprocessing, workers: Optional[int] = None) -> ImageDataset:
    """A split of `train.rec` and `val.rec` (or `test.rec`), or of a file that stands alone.

    Classes are named by their numbers: the format knows no names.
    """
    files, hold_out = _choose(path, split)
    items, classes = [], 0
    for file in files:
        records = _read(file)
        classes = max([classes, *(label + 1 for label, _ in records)])
        keep = [True] * len(records)
        if hold_out and split != 'all':
            for label in {label for label, _ in records}:
                members = [i for i, record in enumerate(records) if record[0] == label]
                for i, held in zip(members, held_out_by_hash([str(i) for i in members])):
                    keep[i] = held == (split == 'test')
        items += [Item(f'record {i} of {file}', image, label) for i, (label, image) in enumerate(records) if keep[i]]
    if split == 'test' and not hold_out:
        # The held-out part may lack the last classes; the training part says how many there are.
        train = path.parent / TRAIN if path.is_file() else path / TRAIN
        classes = max([classes, *(label + 1 for label, _ in _read(train))])
    return decode_items(items, [str(i) for i in range(classes)], str(path), split, preprocessing, workers)
