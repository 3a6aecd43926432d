"""Images in files that are only read when a loader asks for them, so that their number is not limited by memory."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence, Union

import numpy as np

from data.classification.decode import Item
from data.classification.sources import ImageSource
from data.preprocessing import Preprocessing
from environment import UserError

__all__ = ['stream_items']


class _Items:
    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    def name(self, i: int) -> str:
        return self.items[i].name

    def read(self, i: int) -> Union[bytes, Path]:
        source = self.items[i].source
        return source() if callable(source) else source


def stream_items(
    items: Sequence[Item], class_names: Sequence[str], name: str, split: str, preprocessing: Preprocessing
) -> ImageSource:
    """Return `items` as a source; `data.classification.decode.decode_items` decodes the same at once.

    Raises `UserError` if there are none.
    """
    if not items:
        raise UserError(f'{name} has no images for the split {split}; check the path')
    labels = np.array([item.label for item in items], dtype=np.int64)
    return ImageSource(_Items(items), labels, np.arange(len(items)), tuple(class_names), name, split, preprocessing)
