"""COCO's figures of a detector, by COCO's own code (pycocotools), and results in COCO's format."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Union

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from common.files import atomic_write
from data.coco.dataset import CocoDataset

__all__ = ['FIGURES', 'Found', 'average_precision', 'class_precision', 'write_results']

# COCOeval's first six, in its order: over IoU 0.5 to 0.95; at 0.5; at 0.75; of small, medium and large objects.
FIGURES = ('ap', 'ap50', 'ap75', 'aps', 'apm', 'apl')


@dataclass(frozen=True)
class Found:
    """What a detector found on one image: boxes (K, 4) x1, y1, x2, y2 in its pixels, scores (K,), labels (K,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def _corner_and_sides(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height (K, 4) float64, as COCO has them."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1], axis=1)


def _truth(dataset: CocoDataset, indices: Sequence[int]) -> Dict[str, List[Dict[str, Any]]]:
    """Return COCO's tables, in which images are numbered by their index and categories by their label, both from 1."""
    annotations = []
    for index in indices:
        image = dataset.images[index]
        for box, label, area, crowd in zip(
            _corner_and_sides(image.boxes), image.labels.tolist(), image.areas.tolist(), image.crowd.tolist()
        ):
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': index + 1,
                    'category_id': label + 1,
                    'bbox': box.tolist(),
                    'area': area,
                    'iscrowd': int(crowd),
                }
            )
    return {
        'images': [{'id': index + 1} for index in indices],
        'categories': [{'id': label + 1, 'name': name} for label, name in enumerate(dataset.class_names)],
        'annotations': annotations,
    }


def _evaluated(dataset: CocoDataset, found: Mapping[int, Found]) -> Any:
    """COCOeval after its work on the images that are keys of `found`."""
    indices = sorted(found)
    rows = [
        np.column_stack(
            [
                np.full(len(one.scores), index + 1),
                _corner_and_sides(one.boxes),
                np.asarray(one.scores, dtype=np.float64),
                np.asarray(one.labels) + 1,
            ]
        )
        for index, one in ((index, found[index]) for index in indices)
        if len(one.scores)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
        truth = COCO()
        truth.dataset = _truth(dataset, indices)
        truth.createIndex()
        if rows:
            answer = truth.loadRes(np.concatenate(rows))
        else:  # loadRes does not take an empty list
            answer = COCO()
            answer.dataset = {**truth.dataset, 'annotations': []}
            answer.createIndex()
        evaluation = COCOeval(truth, answer, 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def average_precision(dataset: CocoDataset, found: Mapping[int, Found]) -> Dict[str, float]:
    """Return `FIGURES` (0 to 1; -1 if there is no object of that size) of what was `found`, by image index.

    Objects on images that are not keys of `found` do not count.
    """
    return {name: float(value) for name, value in zip(FIGURES, _evaluated(dataset, found).stats)}


def class_precision(dataset: CocoDataset, found: Mapping[int, Found]) -> Dict[str, Dict[str, float]]:
    """Return {title of a class: its 'ap' and 'ap50'}; -1 for a class without objects."""
    precision = _evaluated(dataset, found).eval['precision'][..., 0, -1]  # (IoU, recall, class), all sizes

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    return {
        name: {'ap': mean(precision[:, :, label]), 'ap50': mean(precision[0, :, label])}
        for label, name in enumerate(dataset.classes.titles())
    }


def write_results(path: Union[str, os.PathLike], dataset: CocoDataset, found: Mapping[int, Found]) -> None:
    """Write what was found in COCO's format of results: a list of image_id, category_id, bbox and score.

    The ids are those of the file; boxes of a class that it does not have are left out.
    """
    results = [
        {
            'image_id': dataset.images[index].id,
            'category_id': dataset.categories[int(label)],
            'bbox': [round(number, 3) for number in box],
            'score': round(float(score), 6),
        }
        for index in sorted(found)
        for box, score, label in zip(
            _corner_and_sides(found[index].boxes).tolist(), found[index].scores, found[index].labels
        )
        if dataset.categories[int(label)] is not None
    ]
    atomic_write(path, lambda file: file.write(json.dumps(results).encode()))
