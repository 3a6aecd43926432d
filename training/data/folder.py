"""Folders of class folders, on the disk or in a tar file."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional, Sequence, Union

from environment import UserError
from inference.images import SUFFIXES, images_below, is_image
from inference.preprocessing import Preprocessing
from training.data.dataset import ImageDataset
from training.data.decode import Item, decode_items, held_out_by_hash
from training.data.tree import HELD_OUT, TRAIN, held_out_part, without_outer_folder

__all__ = ['load_folder', 'load_tar']

# {path below the dataset, with slashes: path on the disk or content}
Tree = Dict[str, Union[Path, bytes]]


def _select(tree: Tree, name: str, split: str, preprocessing: Preprocessing, workers: Optional[int]) -> ImageDataset:
    """Find classes and split in the paths of `tree` and decode what belongs to `split`."""
    tops = {path.split('/', 1)[0] for path in tree}
    if TRAIN in tops:
        held_out = [part for part in [held_out_part(tops, split)] if part]
        parts = {'train': [TRAIN], 'all': [TRAIN, *held_out]}.get(split, held_out)
        if not parts:
            raise UserError(
                f'{name} has a folder {TRAIN} but none of {", ".join(HELD_OUT)}; add one, or move the class '
                f'folders of {TRAIN} one level up to have every fifth image held out'
            )
        paths = [path for part in parts for path in sorted(tree) if path.startswith(part + '/')]
        inner = {path: path.split('/', 1)[1] for path in paths}
        # The training part says which classes there are.
        class_names = sorted(
            {path.split('/')[1] for path in tree if path.startswith(TRAIN + '/') and path.count('/') > 1}
        )
    else:
        paths = sorted(tree)
        inner = {path: path for path in paths}
        class_names = sorted({path.split('/')[0] for path in paths if '/' in path})
    if not class_names:
        raise UserError(
            f'{name} has no class folders with images ({", ".join(sorted(SUFFIXES))}); it must hold one '
            f'folder for each class, directly or below train/ and val/'
        )
    label = {class_name: i for i, class_name in enumerate(class_names)}
    chosen: List[str] = []
    for class_name, members in _by_class(paths, inner, name, label).items():
        if TRAIN in tops or split == 'all':
            chosen += members
        else:
            held = held_out_by_hash([path[len(class_name) + 1 :] for path in members])
            chosen += [path for path, is_held in zip(members, held) if is_held == (split != 'train')]
    items = [Item(f'{name}/{path}', tree[path], label[inner[path].split('/', 1)[0]]) for path in chosen]
    by_hash = TRAIN not in tops and split != 'all'
    return replace(decode_items(items, class_names, name, split, preprocessing, workers), by_hash=by_hash)


def _by_class(paths: Sequence[str], inner: Dict[str, str], name: str, label: Dict[str, int]) -> Dict[str, List[str]]:
    members: Dict[str, List[str]] = {}
    for path in paths:
        class_name, slash, _ = inner[path].partition('/')
        if not slash:
            raise UserError(f'{name}/{path} lies outside the class folders; move it into one or remove it')
        if class_name not in label:
            raise UserError(
                f'{name}/{path} belongs to the class {class_name!r}, which has no folder below '
                f'{name}/{TRAIN}; add that folder or remove this one'
            )
        members.setdefault(class_name, []).append(path)
    return members


def load_folder(root: Path, split: str, preprocessing: Preprocessing, workers: Optional[int] = None) -> ImageDataset:
    """Images of `root`/CLASS/**, or of `root`/train/CLASS/** and `root`/val (test, ...)/CLASS/**.

    Classes are sorted by name. Hidden files and files that do not end like an image are no part of it.
    """
    tree: Tree = {path: root / path for path in images_below(root)}
    return _select(tree, str(root), split, preprocessing, workers)


def load_tar(archive: Path, split: str, preprocessing: Preprocessing, workers: Optional[int] = None) -> ImageDataset:
    """The same from a tar file, read in memory; one folder around everything is allowed."""
    tree: Tree = {}
    try:
        with tarfile.open(archive, 'r|*') as tar:
            for member in tar:
                path = str(PurePosixPath(member.name))
                if member.isfile() and is_image(path):
                    tree[path] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f'{archive} is no intact tar file ({error}); get it again') from error
    return _select(without_outer_folder(tree), str(archive), split, preprocessing, workers)
