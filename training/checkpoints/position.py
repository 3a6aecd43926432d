"""The position of a run: the next batch, the sums of the current epoch, the epochs before it, and the best score."""

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List

from training.checkpoints.epochs import VERSION, from_one

__all__ = ['POSITION', 'Position', 'Totals']

# The names of best parameters. Runs of earlier releases had figures in them: these are deleted once there are new ones.
_BEST = re.compile(r'(?:[^/\0]+-)?best\.params', re.DOTALL)
# What `Position.tree` returns, as a schema.
POSITION = {
    'epoch': int,
    'batch': int,
    'step': int,
    'totals': {'images': float, 'loss': float, 'correct': float, 'seconds': float},
    'rows': [{...: float}],
    'version?': int,
    'best_files': [_BEST],
    'skipped': int,
    'skipped_in_row': int,
}


@dataclass
class Totals:
    """Sums over the images of the epoch so far, excluding those of skipped steps.

    `seconds` is the time spent training on them. Means over no image are NaN.
    """

    images: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0

    def add(self, images: int, loss: float, correct: float) -> None:
        self.images += images
        self.loss += loss
        self.correct += correct

    @property
    def mean_loss(self) -> float:
        return self.loss / self.images if self.images else math.nan

    @property
    def accuracy(self) -> float:
        return self.correct / self.images if self.images else math.nan


@dataclass
class Position:
    """`epoch` and `batch` are the next ones, from 0, so that they count those done; `step` counts the steps done.

    `rows` is the history (`training.logging.metrics.Scoring.columns`); `best_files` are the names of the best
    parameters that were written, the current one last. `skipped` steps were not finite and had no effect, the last
    `skipped_in_row` without a finite one between them.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    rows: List[Dict[str, Any]] = field(default_factory=list)
    best_files: List[str] = field(default_factory=list)
    skipped: int = 0
    skipped_in_row: int = 0

    def best(self, column: str) -> float:
        """Return the highest value of a column so far, -inf before the first validation."""
        return max((row[column] for row in self.rows), default=-math.inf)

    def close_epoch(self, row: Dict[str, Any]) -> None:
        self.rows.append(row)
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, Totals()

    def go_on(self) -> None:
        """End an epoch that is not validated: the next row of the history includes it."""
        self.epoch, self.batch = self.epoch + 1, 0

    def tree(self) -> Dict[str, Any]:
        """Return the position as dicts, lists, numbers and strings, for a checkpoint."""
        return {**asdict(self), 'version': VERSION}

    @classmethod
    def from_tree(cls, tree: Dict[str, Any]) -> 'Position':
        tree, rows = dict(tree), tree['rows']
        if tree.pop('version', None) is None:
            rows = [from_one(row) for row in rows]
        return cls(**{**tree, 'rows': rows, 'totals': Totals(**tree['totals'])})
