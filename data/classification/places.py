"""Find out what holds a user's images: a folder, an archive, RecordIO files, or a table of paths and labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

from data.archive import is_compressed
from data.classification.class_folders import load_folder, load_tar, load_zip
from data.classification.decode import Gather
from data.classification.listed_images import load_table
from data.classification.record_parts import load_recordio
from data.classification.sources import ImageSource, folder_sources
from data.classification.streamed import stream_items
from data.classification.tables import TABLE_SUFFIXES
from data.preprocessing import Preprocessing
from environment import UserError

__all__ = ['PLACES', 'load_of', 'open_sources']

# What `load_of` knows, for messages.
PLACES = 'folder of class folders, tar or zip file of one, .rec file, or .csv or .lst file of paths and labels'
TAR_SUFFIXES = ('.tar', '.tar.gz', '.tgz', '.tar.xz', '.tar.bz2')

Load = Callable[[Path, Sequence[str], Preprocessing, Gather], List[Any]]


def load_of(path: Path) -> Optional[Load]:
    """Return what loads splits of the images in `path`; None where it is nothing that holds images."""
    if path.is_dir():
        return load_recordio if any(path.glob('*.rec')) else load_folder
    if not path.is_file():
        return None
    if path.name.lower().endswith(TAR_SUFFIXES):
        return load_tar
    by_suffix = {'.rec': load_recordio, '.zip': load_zip, **dict.fromkeys(TABLE_SUFFIXES, load_table)}
    return by_suffix.get(path.suffix.lower())


def open_sources(path: Path, preprocessing: Preprocessing, classes: Optional[int] = None) -> Tuple[ImageSource, ...]:
    """Return the images to train and to validate on in `path`; a fifth is held out where nothing is.

    Further `classes` than there are have numbers for names. Raises `UserError` for more than these, and for what holds
    no images, is damaged, or may be several things.
    """
    load = load_of(path)
    if load is None:
        raise UserError(f'{path} is not an existing {PLACES}; check the spelling or the path')
    if load is load_folder or (load is load_tar and not is_compressed(path)):
        return folder_sources(path, preprocessing, classes)  # without an object for each of a million images
    train, val = load(path, ['train', 'val'], preprocessing, stream_items)
    if classes is not None and classes < train.classes:
        raise UserError(f'{path} has {train.classes} classes and {classes} are asked for; ask for as many')
    names = (*train.class_names, *map(str, range(train.classes, classes or 0)))
    return tuple(replace(source, class_names=names) for source in (train, val.with_classes(train.class_names)))
