"""The folder of a run: its name, its files, and the protection of earlier runs."""

import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator, List

from common.files import expanded, explained
from common.lock import alone
from common.run_files import BEST, LAST
from environment import UserError

__all__ = ['RUNS', 'RunFolder', 'claimed_folder', 'dataset_word', 'newest_folder', 'run_name']

RUNS = Path('runs')  # where the folders of runs without --save-dir are created
LONGEST = 80  # maximum length of their names


def _word(value: Any) -> str:
    return re.sub(r'[^A-Za-z0-9_.+]+', '_', str(value)).strip('_')


def dataset_word(dataset: str) -> str:
    """Return a data set's name, or the last part of its path without the suffix, for use in file names."""
    return _word(expanded(dataset).resolve().name.split('.')[0]) or 'data'


def run_name(dataset: str, model: str) -> str:
    """Return the name of a run's folder, `<dataset>-<network>`, or `<dataset>` alone; settings.yaml has the rest."""
    return '-'.join(filter(None, (dataset_word(dataset), _word(model))))[:LONGEST]


def _numbered(name: str) -> List[int]:
    """Return the numbers of existing folders in `runs` with this name: 1 for NAME, 2 for NAME-2 and so on, sorted."""
    pattern = re.compile(rf'{re.escape(name)}(?:-([2-9]|[1-9]\d+))?')
    matches = [pattern.fullmatch(path.name) for path in RUNS.glob('*')]
    return sorted(int(match.group(1) or 1) for match in matches if match)


def _folder(name: str, number: int) -> 'RunFolder':
    return RunFolder(RUNS / (name if number == 1 else f'{name}-{number}'))


def claimed_folder(name: str, held: ExitStack) -> 'RunFolder':
    """Return the first of the folders runs/NAME, runs/NAME-2 and so on after all existing ones, `held` for this run.

    Raises `UserError` if it cannot be written.
    """
    number = 1 + max(_numbered(name), default=0)
    while True:
        folder = _folder(name, number)
        try:
            held.enter_context(folder.held(resume=False))
            return folder
        except UserError:
            if not folder.path.exists():
                raise
            number += 1  # another run was started in the meantime


def newest_folder(name: str) -> 'RunFolder':
    """Return the last of runs/NAME, runs/NAME-2 and so on that contains a run, or the first if none does."""
    runs = [number for number in _numbered(name) if _folder(name, number).holds_run()]
    return _folder(name, max(runs, default=1))


def _mebibytes(files: List[Path]) -> str:
    size = sum(path.stat().st_size for path in files) / 2**20
    return f'{size:.{1 if size < 10 else 0}f} MiB'


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
        self.best = path / BEST
        self.last = path / LAST
        self.checkpoints = path / 'checkpoints'
        self.tensorboard = path / 'tensorboard'

    def holds_run(self) -> bool:
        return self.settings.exists() or self.checkpoints.exists()

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Leave no run in a folder that contained none before, if the enclosed code fails."""
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
        """Lock the folder while a run uses it.

        Raises `UserError` if another process trains there, or if it contains a run that is not to be continued.
        """
        if not resume:  # raised before anything is created
            self.refuse_second_run()
        with alone(self.path, 'training'):
            if not resume:
                self.refuse_second_run()
            yield

    def refuse_second_run(self) -> None:
        """Raise `UserError` if the folder already contains a run, which would be overwritten."""
        if self.holds_run():
            raise UserError(
                f'{self.path} already contains a run; add --resume to continue it, or choose another --save-dir'
            )
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f'{self.path} is a file, and --save-dir must be a folder; choose another path')

    def periodic(self, epochs: int) -> Path:
        """Return the file of the parameters that --save-period keeps after this many epochs."""
        return self.path / f'epoch-{epochs}.params'

    def remove_periodic(self, keep: int) -> None:
        """Delete the oldest of them beyond `keep`, each with its manifest."""
        found = {path: re.fullmatch(r'epoch-(\d+)', path.stem) for path in self.path.glob('epoch-*.params')}
        ordered = sorted((int(match.group(1)), path) for path, match in found.items() if match)
        for _, path in ordered[:-keep]:
            for file in (path, path.with_suffix('.json')):
                with suppress(FileNotFoundError), explained('delete', file):
                    file.unlink()

    def disk_use(self, keep: int) -> str:
        """Return the disk space that the folder takes, in words."""
        checkpoints = [path for path in self.checkpoints.glob('*') if path.is_file()]
        total = _mebibytes([path for path in self.path.rglob('*') if path.is_file()])
        which = f'{len(checkpoints)} checkpoint{"s" if len(checkpoints) > 1 else ""} (--keep {keep})'
        return f'{self.path} takes {total} of the disk, {_mebibytes(checkpoints)} of it for {which}'
