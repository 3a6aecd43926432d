"""The figures of every epoch as TensorBoard events, on request."""

from pathlib import Path
from typing import Any, Dict

from environment import import_extra

__all__ = ['TensorBoard']

TAGS = {
    'train_loss': 'loss/training',
    'val_loss': 'loss/validation',
    'train_accuracy': 'accuracy/training',
    'val_top1': 'accuracy/validation',
    'val_top5': 'accuracy/validation top-5',
    'lr': 'learning rate',
    'images_per_second': 'images per second',
}


class TensorBoard:
    """Writes rows of the history into `folder`. Raises `SetupError` with the command to install the
    package.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = import_extra('tensorboardX').SummaryWriter(str(folder))

    def add(self, row: Dict[str, Any]) -> None:
        for column, tag in TAGS.items():
            self._writer.add_scalar(tag, row[column], row['step'])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
