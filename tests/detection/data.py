"""Make tiny data sets in COCO's format: bright rectangles in three colours on noise."""

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from PIL import Image

NAMES = ('red', 'green', 'blue')
SIZES = ((64, 48), (48, 64), (64, 64))  # width, height


def picture(random: np.random.RandomState, size: Tuple[int, int], boxes: Sequence[Sequence[int]], labels: Any) -> Any:
    width, height = size
    pixels = random.randint(0, 60, (height, width, 3)).astype(np.uint8)
    for (x, y, w, h), label in zip(boxes, labels):
        pixels[y : y + h, x : x + w, label] = 250
    return Image.fromarray(pixels)


def write_part(folder: Path, part: str, count: int, seed: int) -> Dict[str, List[Any]]:
    """Write images into FOLDER/PART, and FOLDER/annotations/instances_PART.json, whose content is returned."""
    random = np.random.RandomState(seed)
    (folder / part).mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    content: Dict[str, List[Any]] = {
        'images': [],
        'annotations': [],
        # The IDs have gaps and another order, as in COCO.
        'categories': [{'id': 7, 'name': 'blue'}, {'id': 2, 'name': 'red'}, {'id': 3, 'name': 'green'}],
    }
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        labels = random.randint(0, 3, random.randint(1, 4))
        boxes = []
        for _ in labels:
            w, h = random.randint(10, 30, 2).tolist()
            boxes.append([int(random.randint(0, width - w)), int(random.randint(0, height - h)), w, h])
        picture(random, (width, height), boxes, labels).save(folder / part / f'{number}.png')
        image = {'id': 100 + number, 'file_name': f'{number}.png', 'width': width, 'height': height}
        content['images'].append(image)
        for box, label in zip(boxes, labels.tolist()):
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': image['id'],
                    'category_id': (2, 3, 7)[label],
                    'bbox': box,
                    'area': box[2] * box[3],
                    'iscrowd': 0,
                }
            )
    write_json(folder, part, content)
    return content


def write_json(folder: Path, part: str, content: Any) -> Path:
    path = folder / 'annotations' / f'instances_{part}.json'
    path.write_text(json.dumps(content))
    return path


def write_coco(folder: Path, train: int = 10, val: int = 5) -> Path:
    """Write a --data-dir."""
    write_part(folder, 'train', train, 0)
    write_part(folder, 'val', val, 1)
    return folder
