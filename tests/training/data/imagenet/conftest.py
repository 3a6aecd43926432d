"""Small photographs of nothing, and RecordIO files of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
import pytest
from PIL import Image

from training.data.imagenet import fed, folder_sources, imagenet_preprocessing, record_sources
from training.data.recordio.framing import pack
from training.data.recordio.index import index_text


def make_jpeg(seed: int, height: int = 24, width: int = 32, **options) -> bytes:
    """Smooth colours, so that JPEG keeps them: a gradient, a blob and a little noise."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [
        255 * (0.2 + 0.6 * (random.rand() * y + random.rand() * x)) + 5 * random.randn(height, width) for _ in '123'
    ]
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, 'JPEG', quality=92, **options)
    return content.getvalue()


def write_rec(path: Path, images: Sequence[bytes], labels: Optional[Sequence[float]] = None) -> List[int]:
    """A file as scripts/make_recordio.py makes it; the offsets of its records."""
    offsets, content = [], b''
    for i, image in enumerate(images):
        offsets.append(len(content))
        content += pack(np.array([i % 3 if labels is None else labels[i]]), i, image)
    path.write_bytes(content)
    path.with_suffix('.idx').write_bytes(index_text(range(len(images)), offsets))
    return offsets


@pytest.fixture(scope='session')
def jpegs() -> List[bytes]:
    return [make_jpeg(i, 20 + 3 * i % 17, 24 + 5 * i % 19) for i in range(23)]


@pytest.fixture
def rec(tmp_path: Path, jpegs: List[bytes]) -> Path:
    """23 images of 3 classes."""
    write_rec(tmp_path / 'train.rec', jpegs)
    return tmp_path / 'train.rec'


def of_records(train, val=None, classes=None, train_idx=None, val_idx=None, batch_size=2, crop_ratio=0.875, **feeding):
    """Both parts of a run on small images, fed."""
    preprocessing = imagenet_preprocessing(8, crop_ratio)
    sources = record_sources(train, val or train, preprocessing, classes, train_idx, val_idx)
    return fed(*sources, batch_size, **feeding)


def of_folders(folder, classes=None, **feeding):
    return fed(*folder_sources(folder, imagenet_preprocessing(8), classes), 2, **feeding)
