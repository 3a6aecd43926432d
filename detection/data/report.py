"""What is wrong with annotations, counted: a data set is used without what is wrong, and its user is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping

__all__ = ['LEFT_OUT', 'NOT_TRAINED', 'PUT_RIGHT', 'SMALLEST', 'Faults', 'Report']

SMALLEST = 32  # pixels of the shorter side of an image to train on (mmdetection)
# What a report counts, in its order: what is left out altogether, what is put right, what training does without.
LEFT_OUT = (
    'images without a number, file name or size',
    'images with the number of another',
    'images whose file is missing',
    'annotations of images that are not there',
    'annotations of unknown categories',
    'annotations without a box of four numbers',
    'empty boxes',
    'boxes outside the image',
)
PUT_RIGHT = ('boxes that reach out of the image and are cut',)
NOT_TRAINED = (
    'boxes of crowds',
    'boxes of less than a pixel',
    f'images of less than {SMALLEST} pixels',
    'images without objects',
)


@dataclass(frozen=True)
class Report:
    """What is wrong with the annotations of `source`: how often, and the first example of each."""

    source: str
    counts: Mapping[str, int]
    examples: Mapping[str, str]

    def lines(self) -> List[str]:
        """A line for each kind of fault, for a log; none if all is well."""
        kinds = ((LEFT_OUT, 'left out'), (PUT_RIGHT, 'put right'), (NOT_TRAINED, 'not trained on'))
        return [
            f'{self.source}: {self.counts[fault]} {fault}, {what} (such as {self.examples[fault]})'
            for faults, what in kinds
            for fault in faults
            if self.counts.get(fault)
        ]

    def sentence(self) -> str:
        """All counts, for the end of an error."""
        counts = ', '.join(f'{count} {fault}' for fault, count in self.counts.items())
        return f'left out are {counts}' if counts else 'name a file with annotations'


class Faults:
    """The counts of a report in the making."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = Counter()
        self.examples: Dict[str, str] = {}

    def add(self, fault: str, example: str) -> None:
        self.counts[fault] += 1
        self.examples.setdefault(fault, example)
