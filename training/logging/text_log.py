"""The text log of a run, in the original's format, in a file and on the console."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from common.console import quiet, verbose
from common.text import UNDECODED, encoded, printable
from environment import UserError
from environment.entry import silence_stdout

__all__ = ['RunLog', 'append_line', 'epoch_line', 'imagenet_lines', 'interval_line']


def append_line(path: Path, line: str) -> None:
    """Append a line to a file. Raises `UserError` if that fails."""
    try:
        with open(path, 'ab') as file:
            file.write(encoded(line + '\n'))
    except OSError as error:
        raise UserError(
            f'cannot write the log {path}: {error.strerror}; free space or choose another --save-dir'
        ) from error


class RunLog:
    """`log(line)` appends a line to the file and prints it. The file is opened for each line, so a kill loses none.

    Without a path nothing is written at all, because another rank does it.
    """

    def __init__(self, path: Optional[Path]) -> None:
        self.path = path

    def __call__(self, line: str, console: bool = True) -> None:
        if self.path is None:
            return
        line = printable(line, keep=UNDECODED + '\t')  # with names of classes and files as people have them
        if console and not quiet():
            with self.console():
                # Not through a stream captured at start: the progress bar may have replaced it.
                sys.stdout.write(line + '\n')
        append_line(self.path, line)  # after what a failing console adds, so that the last line of a run stays the last

    @contextmanager
    def console(self) -> Iterator[None]:
        """Return a context for printing.

        If the console fails, because its disk is full or its reader has gone away, the run continues without it:
        everything is in the file, which then says so once.
        """
        try:
            yield
            sys.stdout.flush()
        except OSError as error:
            if error.filename is not None or self.path is None:
                raise
            silence_stdout()
            append_line(self.path, f'nothing is printed from here on ({error.strerror})')

    def flags(self, values: Dict[str, Any]) -> None:
        """Log the parsed flags on one line, as the original's log begins. The console shows them with -v."""
        listed = ', '.join(f'{name.replace("-", "_")}={value!r}' for name, value in values.items())
        self(f'Namespace({listed})', console=verbose())


def epoch_line(row: Mapping[str, Any]) -> str:
    """Return the line of an epoch in the format of the original's CIFAR script, from a row of the history."""
    return (
        f'[Epoch {row["epoch"]}] train={row["train_accuracy"]:f} val={row["val_top1"]:f} '
        f'loss={row["train_loss"]:f} time: {row["seconds"] + row["val_seconds"]:f}'
    )


def imagenet_lines(row: Mapping[str, Any]) -> List[str]:
    """Return the lines of an epoch in the format of the original's ImageNet script."""
    epoch = f'[Epoch {row["epoch"]}]'
    return [
        f'{epoch} training: accuracy={row["train_accuracy"]:f}',
        f'{epoch} speed: {row["images_per_second"]:.0f} samples/sec\ttime cost: {row["seconds"]:f}',
        f'{epoch} validation: err-top1={1 - row["val_top1"]:f} err-top5={1 - row["val_top5"]:f}',
    ]


def several_line(row: Mapping[str, Any]) -> str:
    """Return the line of an epoch on images with several labels."""
    return (
        f'[Epoch {row["epoch"]}] loss={row["train_loss"]:f} val-loss={row["val_loss"]:f} mAP={row["val_map"]:f} '
        f'F1={row["val_f1"]:f} time: {row["seconds"] + row["val_seconds"]:f}'
    )


def interval_line(figures: Mapping[str, Any]) -> str:
    """Return the periodic line of the original's ImageNet script; accuracy is that of the epoch so far.

    For a detector, which has no accuracy, it gives the loss.
    """
    figure = 'accuracy' if 'train_accuracy' in figures else 'loss'
    return (
        f'Epoch[{figures["epoch"]}] Batch [{figures["batch"]}]\tSpeed: {figures["images_per_second"]:f} samples/sec'
        f'\t{figure}={figures["train_" + figure]:f}\tlr={figures["lr"]:f}'
    )
