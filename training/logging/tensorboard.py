"""The figures of every epoch as TensorBoard events, on request."""

import time
from pathlib import Path
from typing import Any, Dict

from environment import UserError, import_extra

__all__ = ['TAGS', 'TensorBoard', 'require_tensorboard']

# Columns of the history, and what they are called in TensorBoard.
TAGS = {
    'train_loss': 'loss/training',
    'val_loss': 'loss/validation',
    'train_accuracy': 'accuracy/training',
    'val_top1': 'accuracy/validation',
    'val_top5': 'accuracy/validation top-5',
    'val_map': 'average precision/mean of the classes',
    'val_f1': 'F1/mean of the classes',
    'val_ap': 'average precision/all',
    'val_ap50': 'average precision/IoU 0.5',
    'val_ap75': 'average precision/IoU 0.75',
    'val_aps': 'average precision/small',
    'val_apm': 'average precision/medium',
    'val_apl': 'average precision/large',
    'lr': 'learning rate',
    'images_per_second': 'images per second',
}


def require_tensorboard(folder: Path) -> None:
    """Raise `SetupError` with the command that installs TensorBoard where it is missing.

    `UserError` where it could not write below this folder.
    """
    import_extra('tensorboard')
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f'--tensorboard cannot write below {folder}, whose name is no UTF-8; choose another --save-dir'
        ) from error


class TensorBoard:
    """Writes rows of the history as events into `folder`, with TensorBoard's own writer."""

    def __init__(self, folder: Path) -> None:
        require_tensorboard(folder)
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))

    def add(self, row: Dict[str, Any]) -> None:
        """One event with all figures of an epoch, at its last step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=row[column]) for column, tag in TAGS.items() if column in row]
        self._writer.add_event(Event(wall_time=time.time(), step=row['step'], summary=Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
