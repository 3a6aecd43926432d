"""Count what is wrong with annotations. The rest of a data set is used, and its user is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Tuple

from common.text import brief

__all__ = ['CROWDS', 'LEFT_OUT', 'NOT_TRAINED', 'PUT_RIGHT', 'SMALLEST', 'Faults', 'Report']

SMALLEST = 32  # pixels of the shorter side of an image to train on (mmdetection)
# What a report counts, in its order: what is left out altogether, what is put right, what training does without.
LEFT_OUT = (
    'images without a number, file name or size',
    'images with the number of another',
    'images whose file is missing',
    'images whose file name leads out of the folder',
    'annotations of images that are not there',
    'annotations of unknown categories',
    'annotations without a box of four numbers',
    'annotations with another iscrowd than 0 and 1',
    'empty boxes',
    'boxes outside the image',
)
PUT_RIGHT = (
    'boxes that reach out of the image and are cut',
    'areas that are no number above 0 and taken from the box',
)
CROWDS = 'boxes of crowds (iscrowd)'
NOT_TRAINED = (
    CROWDS,
    'boxes of less than a pixel',
    f'images of less than {SMALLEST} pixels',
    'images without objects',
)


@dataclass(frozen=True)
class Report:
    """What is wrong with the annotations of `source`: how often, and the first example of each kind.

    Attributes:
        annotations: number of annotations in the file.
        notes: sentences about what is not wrong but might not be expected.
    """

    source: str
    counts: Mapping[str, int]
    examples: Mapping[str, str]
    annotations: int = 0
    notes: Tuple[str, ...] = ()

    def with_faults(self, faults: Faults) -> Report:
        """Return a report with further faults."""
        return replace(self, counts={**self.counts, **faults.counts}, examples={**self.examples, **faults.examples})

    def with_note(self, note: str) -> Report:
        """Return a report with a further note."""
        return replace(self, notes=(*self.notes, note))

    def lines(self) -> List[str]:
        """Return a line for each kind of fault and each note, for a log; none if all is well."""
        kinds = ((LEFT_OUT, 'left out'), (PUT_RIGHT, 'put right'), (NOT_TRAINED, 'not trained on'))
        lines = [
            f'{self.counts[fault]} {fault}, {what} (such as {self.examples[fault]})'
            for faults, what in kinds
            for fault in faults
            if self.counts.get(fault)
        ]
        return [f'{self.source}: {line}' for line in (*lines, *self.notes)]

    def sentence(self) -> str:
        """Say why no object is left, for the end of an error."""
        if not self.annotations:
            return 'it has no annotations; name a file that has some'
        for fault, count in self.counts.items():
            if count == self.annotations and not fault.startswith('images '):
                what = fault[len('annotations ') :] if fault.startswith('annotations ') else fault
                return f'all {count} annotations are {what}; name a file with others'
        return self.left_out()

    def left_out(self) -> str:
        """List all counts, for the end of an error."""
        counts = ', '.join(f'{count} {fault}' for fault, count in self.counts.items())
        return f'skipped: {counts}' if counts else 'it lists none; name a file that does'


class Faults:
    """The counts of a report in the making."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = Counter()
        self.examples: Dict[str, str] = {}

    def add(self, fault: str, example: str) -> None:
        self.counts[fault] += 1
        if fault not in self.examples:
            self.examples[fault] = brief(example)
