"""What tells how good a network is: the columns of a run's history that depend on the kind of task."""

from dataclasses import dataclass
from typing import Mapping, Sequence, Tuple

__all__ = ['CLASSIFICATION', 'DETECTION', 'Scoring', 'scoring_of']


@dataclass(frozen=True)
class Scoring:
    """`training` are columns of the images as they were trained on, beside the loss; `validation` is {name in manifests
    and --json: column}; `best` is the name of the figure whose highest value makes the best epoch; `word` is what the
    log calls it.
    """

    training: Tuple[str, ...]
    validation: Mapping[str, str]
    best: str
    word: str

    @property
    def column(self) -> str:
        """Of the figure that makes the best epoch."""
        return self.validation[self.best]

    @property
    def best_column(self) -> str:
        """Of the highest value up to an epoch."""
        return f'best_{self.best}'

    @property
    def columns(self) -> Tuple[str, ...]:
        """Those of the history, in their order."""
        return (
            'epoch',  # from 0
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


# Accuracies are 0 to 1.
CLASSIFICATION = Scoring(
    ('train_accuracy',), {'loss': 'val_loss', 'top1': 'val_top1', 'top5': 'val_top5'}, 'top1', 'Acc'
)
# COCO's average precisions, 0 to 1; -1 where there is no object of that size.
DETECTION = Scoring((), {name: f'val_{name}' for name in ('ap', 'ap50', 'ap75', 'aps', 'apm', 'apl')}, 'ap', 'AP')


def scoring_of(columns: Sequence[str]) -> Scoring:
    """The one that a history with these columns is of; `KeyError` naming a column that none has."""
    scoring = DETECTION if DETECTION.column in columns else CLASSIFICATION
    for name in scoring.columns:
        if name not in columns:
            raise KeyError(name)
    return scoring
