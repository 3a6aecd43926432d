"""The report of a classification: accuracy, curves, what is confused with what, the hardest images, explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from common.html import Markup, escape, image, table
from training.checkpoints.position import Position
from training.class_scores import ClassScores, of_confusion
from training.report.findings import Example, Findings
from training.report.run_report import Row, RunReport, percent
from training.report.sections import Chart, Section

__all__ = ['ClassificationReport']

NUMBERED = 25  # classes whose confusions are shown as numbers
PICTURED = 200  # and as a picture; of more, the pairs alone
PAIRS = 12  # most confused pairs
EXPLAINED = 4  # of the hardest images
SMALL = 64  # images of up to so many pixels are enlarged as they are, and stored without loss
NOT_LOOKED = '<p>The images were not looked at, see above.</p>'

STYLE = """
table.confusion { font-size: .8rem; margin: 0; }
table.confusion td { text-align: right; padding: .2rem .3rem; border: 0; min-width: 2.4em; }
table.confusion th { padding: .2rem .3rem; border: 0; font-weight: 400; }
table.confusion thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
@media (max-width: 30rem) { table.confusion { font-size: .72rem; } table.confusion td { padding: .2rem .1rem; } }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
.beside > div { max-width: 100%; min-width: 0; }
.confusion td.right { font-weight: 600; outline: 1px solid var(--line); }
img.matrix { max-width: 40rem; }
.strip { display: flex; gap: .3rem; }
.strip div { flex: 1 1 0; min-width: 0; }
.strip small { display: block; text-align: center; color: var(--faint); }
"""


def confusion_matrix(findings: Findings, names: Sequence[str]) -> Markup:
    """Return labels (rows) by predictions (columns): as numbers, a picture or, for very many classes, empty."""
    matrix = findings.confusion
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = '<p class="faint">Each row is a label, each column what was predicted; shades are shares of the row.</p>'
    if len(names) > PICTURED:
        return Markup('')
    if len(names) > NUMBERED:
        side = max(1, 600 // len(names))
        grey = np.rint(255 * (1 - np.sqrt(shares))).astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)
        return Markup(rows + image(grey, f'confusion matrix of {len(names)} classes', css='pixels matrix'))
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = [f'<thead><tr><td></td>{head}</tr></thead>']
    for i, name in enumerate(names):
        cells = []
        for j in range(len(names)):
            kind = ' class="right"' if i == j else ''
            heat = f'background:rgba(var(--heat),{0.85 * np.sqrt(shares[i, j]):.2f})'
            cells.append(f'<td{kind} style="{heat}">{matrix[i, j] or ""}</td>')
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return Markup(f'{rows}<div class="wide"><table class="confusion">{"".join(lines)}</table></div>')


def confused_pairs(findings: Findings, names: Sequence[str]) -> Markup:
    totals = findings.confusion.sum(axis=1)
    rows = [
        (names[label], names[predicted], images, percent(images / totals[label], 1))
        for label, predicted, images in findings.most_confused(PAIRS)
    ]
    if not rows:
        return Markup('<p>Nothing was confused.</p>')
    return table(rows, ('label', 'taken for', 'images', 'of the label'), numbers=(2, 3))


def class_table(findings: Findings, names: Sequence[str]) -> Markup:
    """Return precision, recall, F1 and support of each class; a dash if there is nothing to divide by."""
    taken, scores = findings.confusion.sum(axis=0), of_confusion(findings.confusion)

    def share(value: float, whole: int) -> str:
        return percent(value, 1) if whole else '–'

    rows = [
        (names[i], share(scores.precision[i], taken[i]), share(scores.recall[i], images),
         share(scores.f1[i], taken[i] + images), images)
        for i, images in enumerate(scores.support.tolist())
    ]  # fmt: skip
    rows += mean_rows(scores)
    return table(rows, ('class', 'precision', 'recall', 'F1', 'images'), numbers=range(1, 5))


def mean_rows(scores: ClassScores) -> List[Tuple[str, str, str, str, int]]:
    """Return the last rows of a table by class: means over the classes, and over the images."""
    images = int(scores.support.sum())
    parts = ('mean over classes', scores.macro()), ('mean over images', scores.weighted())
    return [(name, *(percent(value, 1) for value in figures), images) for name, figures in parts]


def picture(pixels: np.ndarray, alt: str) -> Markup:
    """Return a picture of an image; small images are shown pixel by pixel."""
    small = max(pixels.shape[:2]) <= SMALL
    return image(pixels, alt, not small, 'pixels' if small else None)


def verdict(example: Example, names: Sequence[str]) -> Markup:
    """Return the label of an image and what was predicted, with the probabilities."""
    label = f'<b>{escape(names[example.label])}</b> ({percent(example.of_label, 1)})'
    if example.predicted == example.label:
        return Markup(label)
    predicted = f'<b>{escape(names[example.predicted])}</b> ({percent(example.of_predicted, 1)})'
    return Markup(f'{label}, taken for {predicted}')


def thumbnail(example: Example, names: Sequence[str]) -> Markup:
    """Return an image with its label and what was predicted."""
    caption = f'<figcaption>{verdict(example, names)}</figcaption>'
    return Markup(f'<figure>{picture(example.pixels, names[example.label])}{caption}</figure>')


@dataclass
class ClassificationReport(RunReport):
    """`look` gives the findings, or None if there is no time for it; it is asked once, when all else is done.

    `explain` gives for each of some images pictures (name, (H, W, 3) uint8), the image itself first, of the network as
    the run saved it; `val_images` is how many there are in all processes.
    """

    class_names: Sequence[str] = ()
    val_images: int = 0
    look: Optional[Callable[[], Optional[Findings]]] = None
    explain: Optional[Callable[[Position, Sequence[Example]], Sequence[Sequence[Tuple[str, np.ndarray]]]]] = None
    found: Optional[Findings] = field(default=None, init=False)

    style = STYLE

    def charts(self) -> List[Chart]:
        errors = [
            ('training', lambda row: 100 * (1 - row['train_accuracy'])),
            ('validation', lambda row: 100 * (1 - row['val_top1'])),
        ]
        if len(self.class_names) > 10:  # of a handful of classes, the first five tell nothing
            errors.append(('validation, first five', lambda row: 100 * (1 - row['val_top5'])))
        losses = [('training', lambda row: row['train_loss']), ('validation', lambda row: row['val_loss'])]
        return [Chart('Loss', '', losses), Chart('Error', '%', errors), *super().charts()[1:]]

    def figures(self, rows: Sequence[Row]) -> List[Tuple[str, str]]:
        last, best = rows[-1], max(rows, key=lambda row: row['val_top1'])
        return [
            (percent(last['val_top1']), f'top-1, epoch {last["epoch"]}'),
            (percent(best['val_top1']), f'best top-1, epoch {best["epoch"]}'),
            # Of a handful of classes, the first five tell nothing.
            *([(percent(last['val_top5']), 'top-5')] if len(self.class_names) > 10 else []),
            (f'{last["val_loss"]:.4f}', 'validation loss'),
            *super().figures(rows),
        ]

    def results(self, position: Position) -> List[Section]:
        return [
            Section('What is confused with what', self.confusion),
            Section('Hardest images', self.hardest),
            Section('Where the network looks', lambda: self.explanations(position)),
        ]

    def confusion(self) -> str:
        self.found = self.look()
        if self.found is None:
            return '<p>The run was asked to stop before the images were looked at.</p>'
        count = self.found.count
        partly = f' of {self.val_images}, those of this process' if count < self.val_images else ''
        told = f'<p>{self.found.correct} of {count} images{partly} are right.</p>'
        matrix = confusion_matrix(self.found, self.class_names)
        pairs = f'<p class="faint">Most confused</p>{confused_pairs(self.found, self.class_names)}'
        per_class = class_table(self.found, self.class_names)
        folded = '' if len(self.class_names) > NUMBERED else ' open'
        classes = f'<details{folded}><summary>By class</summary>{per_class}</details>'
        return f'{told}<div class="beside"><div>{matrix}</div><div>{pairs}</div></div>{classes}'

    def hardest(self) -> str:
        if self.found is None:
            return NOT_LOOKED
        shown = (thumbnail(each, self.class_names) for each in self.found.hardest)
        return f'<div class="small grid">{"".join(shown)}</div>'

    def explanations(self, position: Position) -> str:
        if self.found is None:
            return NOT_LOOKED
        chosen = [*self.found.recognised, *self.found.hardest[:EXPLAINED]]
        figures = []
        for example, pictures in zip(chosen, self.explain(position, chosen)):
            label = self.class_names[example.label]
            shown = ''.join(
                f'<div>{picture(pixels, f"{label}, {name}")}<small>{escape(name)}</small></div>'
                for name, pixels in pictures
            )
            caption = f'<figcaption>{verdict(example, self.class_names)}</figcaption>'
            figures.append(f'<figure><div class="strip">{shown}</div>{caption}</figure>')
        told = (
            'Grad-CAM by stage: the brighter, the more a place speaks for what the network says. '
            'Images that it recognises come first, then the hardest.'
        )
        return f'<p class="faint">{told}</p><div class="grid">{"".join(figures)}</div>'
