"""Loggers besides the run's own files: TensorBoard, Weights & Biases, MLflow; one hook for each.

A logger has the methods of `TensorBoard`: `figures` of a step under their tags, a `picture`, and `close`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from common.files import write_json
from common.schema import read_json
from data.shown import pixels_of, sheet
from environment import UserError
from training.config.loggers import LOGGERS
from training.config.run_folder import RunFolder
from training.logging.services import Mlflow, Wandb
from training.logging.tensorboard import TensorBoard

__all__ = ['TAGS', 'Loggers', 'make_loggers']

# Columns of the history, and their tags.
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
STEP = 'step/'  # prefix of the tags of each step's figures
SHOWN = 16  # images on a sheet


def told(error: Exception) -> str:
    """Return an error in one line."""
    return ' '.join(f'{type(error).__name__}: {error}'.split())


class Loggers:
    """All loggers of a run. One that fails is reported and dropped, and the run continues.

    Args:
        made: the loggers by their names.
        every: epochs from one sheet of training images to the next; 0: none.
        preprocessing: of these images.
        log: takes a sentence.
    """

    def __init__(
        self,
        made: Mapping[str, Any] = {},
        every: int = 0,
        preprocessing: Any = None,
        log: Callable[[str], None] = print,
    ) -> None:
        self._made, self._every, self._preprocessing, self._log = dict(made), every, preprocessing, log

    def _each(self, do: Callable[[Any], None]) -> None:
        for name, logger in list(self._made.items()):
            try:
                do(logger)
            except Exception as error:  # whatever a service's client raises
                del self._made[name]
                self._log(f'--logger {name} failed ({told(error)}); the run continues without it')

    def step(self, step: int, loss: float, lr: float, images_per_second: float) -> None:
        """Log a step, by its number from 1; the loss is the mean over its images."""
        if self._made:
            figures = {'loss': loss, 'learning rate': lr, 'images per second': images_per_second}
            self._each(lambda logger: logger.figures(step, {STEP + name: value for name, value in figures.items()}))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Log an epoch, at its last step, by its row of the history."""
        figures = {tag: row[column] for column, tag in TAGS.items() if column in row}
        self._each(lambda logger: logger.figures(row['step'], figures))

    def batch(self, epoch: int, step: int, data: np.ndarray) -> None:
        """Show the first training images of an epoch, from 0, as they are trained on, if it is due."""
        if self._made and self._every and epoch % self._every == 0:
            pixels = sheet([pixels_of(image, self._preprocessing) for image in data[:SHOWN]])
            self._each(lambda logger: logger.picture(step, 'training images', pixels))

    def close(self, finished: bool) -> None:
        """Report that the run is finished, or was stopped."""
        self._each(lambda logger: logger.close(finished))


def known_runs(path: Path) -> Dict[str, str]:
    """Return the services' identifiers of the run. Raises `UserError` if the file is damaged."""
    try:
        return read_json(path, _KNOWN).get('runs', {})
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}); remove it, and services begin a new run') from error


_KNOWN = {'runs?': {...: str}, ...: object}


def make_loggers(
    names: Sequence[str], folder: RunFolder, settings: Mapping[str, Any], step: int, project: str
) -> Dict[str, Any]:
    """Return the loggers by their names; a resumed run continues in the services' same runs.

    Args:
        names: which loggers to make.
        folder: the folder of the run.
        settings: the settings of the run, by their flags.
        step: the number of steps done.
        project: the common name of its runs, for services that ask for one.
    """
    assert set(names) <= set(LOGGERS)
    path, known = folder.path / 'loggers.json', {}
    if path.exists() and step:
        known = known_runs(path)
    made: List[Tuple[str, Any]] = []
    for name in names:
        if name == 'tensorboard':
            made.append((name, TensorBoard(folder.tensorboard, step)))
            continue
        service = {'wandb': Wandb, 'mlflow': Mlflow}[name]
        try:
            made.append((name, service(project, folder.path, settings, known.get(name))))
        except Exception as error:  # whatever a service's client raises
            raise UserError(f'--logger {name} cannot start: {told(error)}; fix it, or leave it out') from error
    runs = {name: logger.run for name, logger in made if name != 'tensorboard'}
    if runs:
        write_json(path, {'runs': runs})
    return dict(made)
