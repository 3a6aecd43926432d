"""Splits of images that a table lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, List, Sequence

import numpy as np

from data.classification.decode import Gather, Item, by_hash_sentence, split_by_hash
from data.classification.tables import read_table
from data.preprocessing import Preprocessing

__all__ = ['load_table']


def load_table(path: Path, splits: Sequence[str], preprocessing: Preprocessing, gather: Gather) -> List[Any]:
    """Load splits of the images that a `.csv`, `.tsv` or `.lst` file lists; see `data.classification.tables`.

    Where it says nothing of parts, a fifth of each class is held out; where images may have several labels, of all.
    """
    table = read_table(path)
    by_hash = table.parts is None
    one_each = table.labels if table.labels.ndim == 1 else np.zeros(len(table.labels), dtype=np.int64)
    otherwise = by_hash_sentence(one_each) if table.labels.ndim == 1 else ': every fifth image is held out'
    told = table.sentence(otherwise if by_hash and list(splits) != ['all'] else '')
    items = [Item(place, Path(place), label) for place, label in zip(table.paths, table.labels)]
    datasets = []
    for split in splits:
        if by_hash:
            keep = split_by_hash(one_each, table.written, split, table.name)
        else:
            part = 'train' if split == 'train' else table.held_out(split)
            keep = np.isin(table.parts, ['train', part] if split == 'all' else [part])
        chosen = [items[i] for i in np.flatnonzero(keep)]
        dataset = gather(chosen, table.class_names, table.name, split, preprocessing)
        datasets.append(replace(dataset, by_hash=by_hash and split != 'all', told=(told,)))
    return datasets
