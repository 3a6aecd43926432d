"""The report of a detector: average precision over the epochs, and what it finds on some images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from common.html import escape, image
from training.checkpoints.position import Position
from training.logging.metrics import DETECTION
from training.report.run_report import Row, RunReport, percent
from training.report.sections import Chart, Section

__all__ = ['DetectionReport', 'found_and_annotated']

SHOWN = 8  # validation images
THRESHOLD = 0.3  # of the scores of the boxes that are drawn
THRESHOLD_WORDS = f'{100 * THRESHOLD:.0f} %'
BEST = 5  # boxes of an image on which none reaches it
SIDE = 480  # of the pictures, in pixels at most
NAMES = {'ap': 'AP', 'ap50': 'AP50', 'ap75': 'AP75', 'aps': 'AP small', 'apm': 'AP medium', 'apl': 'AP large'}

FOUND = 'found'
# File, (H, W, 3) uint8 with what was found, and as annotated; what the first shows, FOUND if boxes reach the threshold.
Pictures = List[Tuple[str, np.ndarray, np.ndarray, str]]


@dataclass
class DetectionReport(RunReport):
    """`look` gives pictures of the detector as the run saved it; it is asked once, when all else is done."""

    look: Optional[Callable[[Position], Pictures]] = None

    def charts(self) -> List[Chart]:
        def of(column: str) -> Callable[[Row], float]:
            return lambda row: 100 * row[column]

        lines = [(NAMES[name], of(DETECTION.validation[name])) for name in ('ap', 'ap50', 'ap75')]
        loss, *others = super().charts()
        return [loss, Chart('Average precision', '%', lines), *others]

    def figures(self, rows: Sequence[Row]) -> List[Tuple[str, str]]:
        last, best = rows[-1], max(rows, key=lambda row: row[DETECTION.column])
        known = [(NAMES[name], last[column]) for name, column in DETECTION.validation.items() if last[column] >= 0]
        (name, value), *others = known or [(NAMES['ap'], 0.0)]
        return [
            (percent(value), f'{name}, epoch {last["epoch"]}'),
            (percent(best[DETECTION.column]), f'best AP, epoch {best["epoch"]}'),
            *((percent(value), name) for name, value in others),
            *super().figures(rows),
        ]

    def results(self, position: Position) -> List[Section]:
        return [Section('What it finds', lambda: self.pictures(position))]

    def pictures(self, position: Position) -> str:
        figures, low = [], False
        for name, found, annotated, shown in self.look(position):
            low = low or shown != FOUND
            pair = ''.join(
                f'<figure>{image(pixels, f"{name}, {what}", lossy=True)}<figcaption>{escape(name)}, {what}</figcaption>'
                '</figure>'
                for what, pixels in ((shown, found), ('annotated', annotated))
            )
            figures.append(pair)
        told = f'Validation images: boxes that score {THRESHOLD_WORDS} at least; beside them those annotated.'
        if low:
            told += (
                f' Where none does, the {BEST} best are drawn, with their scores, if there are any: more epochs help.'
            )
        return f'<p class="faint">{told}</p><div class="charts grid">{"".join(figures)}</div>'


def found_and_annotated(params: Any, dataset: Any, context: Any) -> Pictures:
    """Make pictures of some images of a `CocoDataset`. The detector is built again from its parameters."""
    from detection.predict import Detection, draw
    from inference.network import load_network

    network = load_network(params, ctx=context)
    titles = dataset.classes.titles()
    pictures = []
    for known in dataset.limited(SHOWN).images:
        (found,) = network.predict([str(known.path)], threshold=0.0, ctx=context)
        if found.pixels is None:
            continue  # told by the training already
        shown, count = what_is_shown(found.scores)
        annotated = Detection(found.image, known.boxes, np.ones(len(known.boxes)), known.labels, found.pixels)
        drawn = draw(found.first(count), titles), draw(annotated, titles, scored=False)
        pictures.append((known.path.name, *map(shrunk, drawn), shown))
    return pictures


def what_is_shown(scores: np.ndarray) -> Tuple[str, int]:
    """Return what a picture of boxes with these scores, the best first, shows of them, and how many."""
    enough = int((scores >= THRESHOLD).sum())
    if enough:
        return FOUND, enough
    few = min(BEST, len(scores))
    best = f'the best {few} boxes' if few > 1 else 'the best box'
    return (f'nothing scores {THRESHOLD_WORDS}; {best}', few) if few else ('nothing is found at all', 0)


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return the picture with sides of `SIDE` pixels at most."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.BICUBIC)
    return np.asarray(picture)
