"""Draw photos to try things on: simple shapes in class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

__all__ = ['write_photos']

SHAPES = {'circles': 'ellipse', 'lines': 'line', 'squares': 'rectangle'}


def write_photos(folder: Path, images: int, side: int = 48) -> None:
    """Write `images` JPEG files in three class folders: bright shapes on a dark, noisy background."""
    random = np.random.RandomState(0)
    for number in range(images):
        name = sorted(SHAPES)[number % 3]
        image = Image.fromarray(random.randint(0, 80, (side, side, 3)).astype('uint8'))
        left, top = (int(value) for value in random.randint(4, side // 2 - 4, 2))
        size = int(random.randint(side // 3, side // 2))
        colour = tuple(int(value) for value in random.randint(150, 255, 3))
        more = {'width': 3} if name == 'lines' else {}
        getattr(ImageDraw.Draw(image), SHAPES[name])((left, top, left + size, top + size), fill=colour, **more)
        (folder / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / name / f'{number:03}.jpg', quality=95)
