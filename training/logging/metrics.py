"""The metrics of each kind of task: the columns of a run's history that depend on it."""

from dataclasses import dataclass
from typing import Any, Callable, Container, Mapping, NamedTuple, Optional, Tuple

__all__ = [
    'AVERAGE',
    'OWN',
    'kept_weights',
    'CLASSIFICATION',
    'DETECTION',
    'SEVERAL',
    'Curve',
    'Scoring',
    'best_words',
    'scoring_of',
]


Row = Mapping[str, Any]  # of a history


class Curve(NamedTuple):
    """A quantity over the epochs: its name, its unit, and its value in a row of the history."""

    name: str
    unit: str
    value: Callable[[Row], float]


# Endings of the columns of runs with an average of the weights: the figure of either.
AVERAGE, OWN = 'average', 'own'


@dataclass(frozen=True)
class Scoring:
    """The metrics of a kind of task: the columns of its history, and how they are reported and drawn.

    Attributes:
        training: columns for the images as they were trained on, besides the loss.
        validation: {name in manifests and --json: column}.
        best: name of the figure whose highest value determines the best epoch.
        word, title: its name in the log, and on pages and pictures.
        losses: drawn next to each other.
        panel: drawn next to each other below the label `panel_label`; the best epoch is marked on the last.
        whole: whether the panel ranges from 0 to 100.
        compared: drawn for several runs together; the first also in a picture of its own.
    """

    training: Tuple[str, ...]
    validation: Mapping[str, str]
    best: str
    word: str
    title: str
    losses: Tuple[Curve, ...]
    panel_label: str
    panel: Tuple[Curve, ...]
    whole: bool
    compared: Tuple[Curve, ...]

    @property
    def column(self) -> str:
        """Return the column of the figure that determines the best epoch."""
        return self.validation[self.best]

    @property
    def best_column(self) -> str:
        """Return the column of the highest value up to an epoch."""
        return f'best_{self.best}'

    @property
    def columns(self) -> Tuple[str, ...]:
        """Return the columns of the history, in order."""
        return (
            'epoch',  # from 1
            'step',  # steps done at its end
            'lr',  # of its last step
            'train_loss',  # mean over the images as they were trained on
            *self.training,
            *self.validation.values(),
            self.best_column,  # up to this epoch
            'images_per_second',  # of training
            'seconds',  # of training, and of validation
            'val_seconds',
        )


def _error(name: str, column: str) -> Curve:
    return Curve(name, '%', lambda row: 100 * (1 - row[column]))


def _precision(name: str, column: str) -> Curve:
    return Curve(name, '%', lambda row: 100 * row[column])


def _loss(name: str, column: str) -> Curve:
    return Curve(name, '', lambda row: row[column])


# Accuracies are 0 to 1.
CLASSIFICATION = Scoring(
    training=('train_accuracy',),
    validation={'loss': 'val_loss', 'top1': 'val_top1', 'top5': 'val_top5'},
    best='top1',
    word='Acc',
    title='top-1',
    losses=(_loss('training', 'train_loss'), _loss('validation', 'val_loss')),
    panel_label='error (%)',
    panel=(_error('training', 'train_accuracy'), _error('validation', 'val_top1')),
    whole=False,
    compared=(
        _error('validation error', 'val_top1'),
        _error('training error', 'train_accuracy'),
        _loss('validation loss', 'val_loss'),
    ),
)
# Of images with several labels, or none: the mean over classes of average precision, and of F1.
SEVERAL = Scoring(
    training=(),
    validation={'loss': 'val_loss', 'map': 'val_map', 'f1': 'val_f1'},
    best='map',
    word='mAP',
    title='mAP',
    losses=(_loss('training', 'train_loss'), _loss('validation', 'val_loss')),
    panel_label='%',
    panel=(_precision('F1', 'val_f1'), _precision('mAP', 'val_map')),
    whole=True,
    compared=(_precision('mAP', 'val_map'), _precision('F1', 'val_f1'), _loss('validation loss', 'val_loss')),
)
# COCO's average precisions, 0 to 1; -1 where there is no object of that size. Here, as histories are drawn without
# what detection needs.
DETECTION = Scoring(
    training=(),
    validation={name: f'val_{name}' for name in ('ap', 'ap50', 'ap75', 'aps', 'apm', 'apl')},
    best='ap',
    word='AP',
    title='AP',
    losses=(_loss('training', 'train_loss'),),
    panel_label='average precision (%)',
    panel=(_precision('AP50', 'val_ap50'), _precision('AP', 'val_ap')),
    whole=True,
    compared=(_precision('AP', 'val_ap'),),
)
_KNOWN = (CLASSIFICATION, SEVERAL, DETECTION)


def kept_weights(row: Row, scoring: Scoring) -> Optional[str]:
    """Return whether the scores in a row are those of the averaged or the plain weights; None without an average."""
    figures = [row.get(f'{scoring.column}_{which}') for which in (AVERAGE, OWN)]
    if None in figures:
        return None
    return AVERAGE if figures[0] >= figures[1] else OWN


def best_words(scoring: Scoring, row: Row) -> str:
    """Return the figure that makes the best epoch in words, as 'top-1 45.00 % (error 55.00 %)'.

    What pages and tables call it first, then what is drawn.
    """
    words = f'{scoring.title} {100 * row[scoring.column]:.2f} %'
    return f'{words} (error {100 - 100 * row[scoring.column]:.2f} %)' if scoring is CLASSIFICATION else words


def scoring_of(columns: Container[str]) -> Scoring:
    """Return the scoring of a history with these columns. Raises `KeyError` naming a column that none has."""
    scoring = next((each for each in _KNOWN if each.column in columns), CLASSIFICATION)
    for name in scoring.columns:
        if name not in columns:
            raise KeyError(name)
    return scoring
