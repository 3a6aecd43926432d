"""The report of a classification with several labels an image: average precision, each class, the hardest images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.html import Markup, escape, table
from data.preprocessing import Preprocessing
from data.shown import pixels_of
from training.checkpoints.position import Position
from training.evaluate import answers
from training.evaluate_several import SeveralScores, binary_cross_entropy, scored
from training.report.classification import NUMBERED, STYLE, picture
from training.report.run_report import Row, RunReport, percent
from training.report.sections import Chart, Section

__all__ = ['SeveralExample', 'SeveralReport', 'find_several']

HARDEST = 16
EXPLAINED = 8
NAMED = 4  # classes of an image


class SeveralExample(NamedTuple):
    """An image, the probability of each class (K,), and its labels (K,) 0 and 1; `predicted` is the likeliest class."""

    pixels: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    predicted: int


class SeveralFindings(NamedTuple):
    """The figures, and the images of the highest loss, that first."""

    scores: SeveralScores
    hardest: Tuple[SeveralExample, ...]


def find_several(
    net: Any,
    loader: Any,
    contexts: Sequence[Any],
    preprocessing: Preprocessing,
    stop: Callable[[], bool] = lambda: False,
) -> Optional[SeveralFindings]:
    """Look at every image of `loader`; None if `stop()` turns true.

    Raises `ValueError` if the network's answers are not numbers.
    """
    everything: List[Tuple[np.ndarray, np.ndarray]] = []
    hardest: List[Tuple[float, int, SeveralExample]] = []
    seen = 0
    for data, logits, labels in answers(net, loader, contexts):
        if stop():
            return None
        if not np.isfinite(logits).all():
            raise ValueError('the network gives NaN or infinity for some of the images')
        everything.append((logits, labels))
        losses = binary_cross_entropy(logits, labels).mean(axis=1)
        for i in np.argsort(-losses, kind='stable')[:HARDEST].tolist():
            probabilities = 0.5 * (1 + np.tanh(0.5 * logits[i]))
            example = SeveralExample(
                pixels_of(data[i], preprocessing), probabilities, labels[i], int(logits[i].argmax())
            )
            hardest.append((float(losses[i]), -(seen + i), example))
        hardest = sorted(hardest, key=lambda entry: entry[:2], reverse=True)[:HARDEST]
        seen += len(labels)
    logits, labels = (np.concatenate(parts) for parts in zip(*everything))
    return SeveralFindings(scored(logits, labels), tuple(entry[2] for entry in hardest))


def class_table(scores: SeveralScores, names: Sequence[str]) -> Markup:
    """Return average precision, precision, recall, F1 and images of each class, and their means."""
    known = scores.classes
    keys = ('ap', 'precision', 'recall', 'f1')
    rows = [
        (row['class'], *('–' if row[key] is None else percent(row[key], 1) for key in keys), row['support'])
        for row in known.rows(names)
    ]
    means = (scores.mean_ap, *known.macro())
    rows.append(('mean over classes', *(percent(value, 1) for value in means), int(known.support.sum())))
    return table(rows, ('class', 'AP', 'precision', 'recall', 'F1', 'images'), numbers=range(1, 6))


def caption(example: SeveralExample, names: Sequence[str]) -> Markup:
    """Return which labels an image has, and which it was given or missed, with the probabilities."""

    def named(chosen: np.ndarray) -> str:
        places = sorted(np.flatnonzero(chosen).tolist(), key=lambda k: -example.probabilities[k])
        shown = [f'{escape(names[k])} ({percent(example.probabilities[k], 0)})' for k in places[:NAMED]]
        return ', '.join([*shown, *([f'{len(places) - NAMED} more'] if len(places) > NAMED else [])])

    there, found = example.labels > 0, example.probabilities > 0.5
    parts = (('right', there & found), ('missed', there & ~found), ('not there', found & ~there))
    return Markup('<br>'.join(f'{what}: {named(chosen)}' for what, chosen in parts if chosen.any()) or 'no label')


@dataclass
class SeveralReport(RunReport):
    """A `training.report.classification.ClassificationReport` for images with several labels, or none."""

    class_names: Sequence[str] = ()
    val_images: int = 0
    look: Optional[Callable[[], Optional[SeveralFindings]]] = None
    explain: Optional[Callable[[Position, Sequence[Any]], Sequence[Sequence[Tuple[str, np.ndarray]]]]] = None
    found: Optional[SeveralFindings] = field(default=None, init=False)

    style = STYLE

    def charts(self) -> List[Chart]:
        losses = [('training', lambda row: row['train_loss']), ('validation', lambda row: row['val_loss'])]
        found = [('mAP', lambda row: 100 * row['val_map']), ('F1', lambda row: 100 * row['val_f1'])]
        return [Chart('Loss', '', losses), Chart('Average precision and F1', '%', found), *super().charts()[1:]]

    def figures(self, rows: Sequence[Row]) -> List[Tuple[str, str]]:
        last, best = rows[-1], max(rows, key=lambda row: row['val_map'])
        return [
            (percent(last['val_map']), f'mAP, epoch {last["epoch"]}'),
            (percent(best['val_map']), f'best mAP, epoch {best["epoch"]}'),
            (percent(last['val_f1']), 'mean F1'),
            (f'{last["val_loss"]:.4f}', 'validation loss'),
            *super().figures(rows),
        ]

    def results(self, position: Position) -> List[Section]:
        return [
            Section('By class', self.by_class),
            Section('Hardest images', self.hardest),
            Section('Where the network looks', lambda: self.explanations(position)),
        ]

    def by_class(self) -> str:
        self.found = self.look()
        if self.found is None:
            return '<p>The run was asked to stop before the images were looked at.</p>'
        folded = '' if len(self.class_names) > NUMBERED else ' open'
        told = '<p class="faint">A class is found in an image if its probability is above 50 %.</p>'
        rows = class_table(self.found.scores, self.class_names)
        return f'{told}<details{folded}><summary>{len(self.class_names)} classes</summary>{rows}</details>'

    def hardest(self) -> str:
        shown = []
        for example in self.found.hardest if self.found else ():
            told = caption(example, self.class_names)
            shown.append(f'<figure>{picture(example.pixels, "a hard image")}<figcaption>{told}</figcaption></figure>')
        return f'<div class="small grid">{"".join(shown)}</div>' if shown else ''

    def explanations(self, position: Position) -> str:
        chosen = list(self.found.hardest[:EXPLAINED]) if self.found else []
        if not chosen:
            return ''
        figures = []
        for example, pictures in zip(chosen, self.explain(position, chosen)):
            label = self.class_names[example.predicted]
            shown = ''.join(
                f'<div>{picture(pixels, f"{label}, {name}")}<small>{escape(name)}</small></div>'
                for name, pixels in pictures
            )
            figures.append(f'<figure><div class="strip">{shown}</div><figcaption>{escape(label)}</figcaption></figure>')
        told = 'Grad-CAM by stage, of the likeliest class of the hardest images.'
        return f'<p class="faint">{told}</p><div class="grid">{"".join(figures)}</div>'
