"""The folder of a run: what it is called, what lies where, and that no run overwrites another."""

import hashlib
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator, Sequence

from common.files import expanded
from common.lock import alone
from environment import UserError
from training.config.fields import SettingsParser
from training.config.groups import Settings
from training.config.saved import is_harmless

__all__ = ['RunFolder', 'dataset_word', 'run_name']

# Settings whose value alone says what they are, in a folder's name.
BARE = ('lr_mode', 'act_type', 'dtype')
LONGEST = 150


def _word(value: Any) -> str:
    return re.sub(r'[^A-Za-z0-9_.+]+', '_', str(value)).strip('_')


def dataset_word(dataset: str) -> str:
    """Return a data set's name, or the last part of its path without the suffix, as a part of file names."""
    return _word(expanded(dataset).resolve().name.split('.')[0]) or 'data'


def run_name(parser: SettingsParser, settings: Settings, lead: Sequence[str], skip: Sequence[str] = ()) -> str:
    """Return `<dataset>-<model>-`, which are `lead`, the non-default settings that affect the result, and the seed."""
    words = [dataset_word(lead[0]), _word(lead[1])]
    for name, value in settings.values().items():
        default = parser.get_default(name)
        if is_harmless(name) or name in skip or name in ('dataset', 'model', 'seed') or value == default:
            continue
        words.append(name if value is True else _word(value) if name in BARE else f'{name}_{_word(value)}')
    words.append(f'seed_{settings.machine.seed}')
    full = '-'.join(words)
    if len(full) > LONGEST:
        full = f'{full[: LONGEST - 9]}-{hashlib.sha256(full.encode()).hexdigest()[:8]}'
    return full


class RunFolder:
    """Paths inside a run's folder. Nothing is created before it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / 'settings.yaml'
        self.mode = path / 'mode.json'
        self.log = path / 'train.log'
        self.events = path / 'log.jsonl'
        self.history = path / 'history.csv'
        self.curves = path / 'history.png'
        self.report = path / 'report.html'
        self.checkpoints = path / 'checkpoints'
        self.tensorboard = path / 'tensorboard'

    def holds_run(self) -> bool:
        return self.settings.exists() or self.checkpoints.exists()

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Where what it encloses fails, a folder that held no run before holds none after."""
        held = self.holds_run()
        try:
            yield
        except BaseException:
            if not held:
                with suppress(FileNotFoundError):
                    self.settings.unlink()
            raise

    @contextmanager
    def held(self, resume: bool) -> Iterator[None]:
        """Hold the folder for as long as a run goes on in it.

        `UserError` where another process trains there, or where a run lives that is not to be gone on with.
        """
        if not resume:  # told before anything is made
            self.refuse_second_run()
        with alone(self.path, 'training'):
            if not resume:
                self.refuse_second_run()
            yield

    def refuse_second_run(self) -> None:
        """Raise `UserError` where a run lives already: it would be overwritten."""
        if self.holds_run():
            raise UserError(
                f'{self.path} already holds a run; add --resume to go on with it, or choose another --save-dir'
            )
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f'{self.path} is a file, and --save-dir must be a folder; choose another path')

    def best(self, figure: float, family: str, name: str, epoch: int) -> Path:
        """`<figure>-<family>-<name>-<epoch>-best.params`, as the original calls it."""
        return self.path / f'{figure:.4f}-{family}-{name}-{epoch}-best.params'

    def periodic(self, dataset: str, name: str, epoch: int) -> Path:
        return self.path / f'{dataset}-{name}-{epoch}.params'
