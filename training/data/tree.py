"""The layout of a dataset in folders: class folders, directly or below train/ and a held-out part."""

from __future__ import annotations

from typing import Dict, Iterable, Optional, TypeVar

__all__ = ['HELD_OUT', 'TRAIN', 'held_out_part', 'without_outer_folder']

TRAIN = 'train'
#: What the part that is not trained on may be called.
HELD_OUT = ('val', 'valid', 'validation', 'test')

T = TypeVar('T')


def held_out_part(tops: Iterable[str], split: str = 'val') -> Optional[str]:
    """Which of the top folders is held out; None if there is none.

    Of several it is the one to validate on, or for the split 'test' the one to test on.
    """
    present = set(tops)
    order = ('test', *HELD_OUT) if split == 'test' else HELD_OUT
    return next((name for name in order if name in present), None)


def without_outer_folder(tree: Dict[str, T]) -> Dict[str, T]:
    """{path with slashes: anything} without the one folder around everything, as tar files often have it.

    Such a folder is the dataset's own name, unless it is its only class.
    """
    tops = {path.split('/', 1)[0] for path in tree}
    if len(tops) == 1 and all(path.count('/') > 1 for path in tree):
        second = {path.split('/')[1] for path in tree}
        if len(second) > 1 or TRAIN in second:
            return {path.split('/', 1)[1]: content for path, content in tree.items()}
    return tree
