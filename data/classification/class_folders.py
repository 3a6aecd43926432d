"""Folders of class folders, on the disk or in an archive."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, List, Mapping, Sequence

from data.archive import Slices, is_compressed, tar_contents, tar_places
from data.classification.decode import Gather, Item, Source, by_hash_sentence, split_by_hash
from data.layout import Layout, folder_layout
from data.preprocessing import Preprocessing
from data.zip_archive import ZipImages, zip_layout

__all__ = ['load_folder', 'load_tar', 'load_zip']


def _select(
    layout: Layout,
    tree: Mapping[str, Source],
    splits: Sequence[str],
    preprocessing: Preprocessing,
    gather: Gather,
) -> List[Any]:
    """Return the splits of a data set whose images, by path or content, are in `tree`."""
    by_hash, told = not layout.parts, []
    parts = {split: _parts(layout, split) for split in splits}
    if by_hash:
        labels = layout.members('train')[1]
        told = [layout.sentence(otherwise=by_hash_sentence(labels) if splits != ['all'] else '')]
    else:
        used = {part for chosen in parts.values() for part in chosen}
        told = [layout.sentence(unused=[part for part in layout.parts if 'train' in splits and part not in used])]
    datasets = []
    for split, chosen in parts.items():
        paths, labels = [], []
        for part in chosen:
            more = layout.members(part)
            paths, labels = paths + more[0], labels + more[1]
        if by_hash:
            inner = [path[len(layout.outer) :].partition('/')[2] for path in paths]
            keep = split_by_hash(labels, inner, split, layout.name)
            paths, labels = [p for p, kept in zip(paths, keep) if kept], [n for n, kept in zip(labels, keep) if kept]
        items = [Item(f'{layout.name}/{path}', tree[path], label) for path, label in zip(paths, labels)]
        dataset = gather(items, layout.class_names, layout.name, split, preprocessing)
        datasets.append(replace(dataset, by_hash=by_hash and split != 'all', told=tuple(told)))
    return datasets


def _parts(layout: Layout, split: str) -> List[str]:
    """Return the parts of the layout that make up a split."""
    if not layout.parts or split == 'train':
        return ['train']
    if split != 'all':
        return [layout.held_out(split)]
    return ['train', layout.held_out()] if len(layout.parts) > 1 else ['train']


def load_folder(root: Path, splits: Sequence[str], preprocessing: Preprocessing, gather: Gather) -> List[Any]:
    """Return images of `root`/CLASS/**, or of `root`/train/CLASS/** and `root`/val (test, ...)/CLASS/**; see `Layout`.

    Classes are sorted by name. Hidden files and files without an image's extension are not part of it.
    """
    layout = folder_layout(root)
    return _select(layout, {path: root / path for path in layout.paths}, splits, preprocessing, gather)


def load_tar(archive: Path, splits: Sequence[str], preprocessing: Preprocessing, gather: Gather) -> List[Any]:
    """Return the same from a tar file. Encoded images of a compressed one are held in memory."""
    if is_compressed(archive):
        return _select(*tar_contents(archive), splits, preprocessing, gather)
    layout, places = tar_places(archive)
    slices = Slices(archive, list(places.values()))
    tree = {path: partial(slices.read, i) for i, path in enumerate(places)}
    return _select(layout, tree, splits, preprocessing, gather)


def load_zip(archive: Path, splits: Sequence[str], preprocessing: Preprocessing, gather: Gather) -> List[Any]:
    """Return the same from a zip file."""
    layout, members = zip_layout(archive)
    images = ZipImages(archive, members)
    tree = {path: partial(images.read, i) for i, path in enumerate(layout.paths)}
    return _select(layout, tree, splits, preprocessing, gather)
