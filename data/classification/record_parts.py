"""Splits of images that are packed in MXNet's RecordIO files (`.rec` with `.idx`)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np

from data.classification.decode import Gather, Item, by_hash_sentence, split_by_hash
from data.images import ImageError
from data.preprocessing import Preprocessing
from data.recordio.framing import DamagedRecord
from data.recordio.index import CLASSES, class_count, read_class_names
from data.recordio.parts import find_records
from data.recordio.records import RecordFile
from environment import UserError

__all__ = ['load_recordio']


def _image(file: RecordFile, i: int) -> bytes:
    try:
        return bytes(file.read(i).image)
    except DamagedRecord as error:
        raise ImageError(
            f'{file.name(i)} is damaged: {error}; python scripts/make_recordio.py {file.path} FOLDER --leave-out packs '
            'the intact ones into a new file'
        ) from error


def load_recordio(path: Path, splits: Sequence[str], preprocessing: Preprocessing, gather: Gather) -> List[Any]:
    """Load splits of the files that belong to `path`: see `find_records`. A single file is split by a hash.

    Classes are named by the lines of `classes.txt` beside the files, or else by their numbers.
    """
    found = find_records(path)
    by_hash = len(found.parts) == 1
    used = {file for split in splits for file in found.files(split)}
    opened = {file: RecordFile(file) for file in sorted(used.union(found.parts['train']))}
    names = read_class_names(found.parts['train'][0])
    labels = np.concatenate([opened[file].labels for file in found.parts['train']]).astype(np.int64)
    # What is held out may lack the last classes; the part to train on says how many there are.
    classes = len(names) or class_count(labels, str(path))
    unused = [part for part, files in found.parts.items() if 'train' in splits and not used.intersection(files)]
    otherwise = by_hash_sentence(labels) if by_hash and list(splits) != ['all'] else ''
    told = found.sentence(unused, otherwise)
    datasets = []
    for split in splits:
        items: List[Item] = []
        for file in (opened[each] for each in found.files(split)):
            items += [Item(file.name(i), partial(_image, file, i), label) for i, label in _labelled(file, names)]
        if by_hash:
            keep = split_by_hash([item.label for item in items], [str(i) for i in range(len(items))], split, str(path))
            items = [item for item, kept in zip(items, keep) if kept]
        count = max([classes, *(item.label + 1 for item in items)])
        class_names = [*names, *map(str, range(len(names), count))]
        dataset = gather(items, class_names, str(path), split, preprocessing)
        datasets.append(replace(dataset, by_hash=by_hash and split != 'all', told=(told,)))
    return datasets


def _labelled(file: RecordFile, names: Sequence[str]) -> List[Tuple[int, int]]:
    """Return (place, label) of each record. Raises `UserError` for a label beyond the classes that are named."""
    labels = file.labels.astype(np.int64)
    if names and labels.max() >= len(names):
        i = int(labels.argmax())
        raise UserError(
            f'{file.name(i)} has the label {labels[i]}, and {file.path.with_name(CLASSES)} names {len(names)} classes; '
            'mend that file or remove it'
        )
    return list(enumerate(labels.tolist()))
