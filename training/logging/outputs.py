"""All files of a run: checkpoints, history, curves, log, parameters with their manifests."""

import platform
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from common.console import detail, verbose
from environment import UserError
from model import save_params
from training.checkpoints.checkpoint import CheckpointStore, DamagedCheckpoint, read_checkpoint, require_schema
from training.checkpoints.position import POSITION, Position
from training.config.run_folder import RunFolder
from training.logging.curves import draw_curves
from training.logging.events import EventLog
from training.logging.history import images_per_second, write_history
from training.logging.loggers import Loggers
from training.logging.metrics import AVERAGE, CLASSIFICATION, OWN, Scoring, kept_weights
from training.logging.text_log import RunLog, epoch_line, interval_line

__all__ = ['NoOutputs', 'Outputs', 'Wording', 'command_line', 'tell_versions', 'versions']


def versions() -> Dict[str, str]:
    """Return what determines the bits of a result besides the code and the settings."""
    import mxnet
    import numpy

    return {'python': platform.python_version(), 'mxnet': mxnet.__version__, 'numpy': numpy.__version__}


def tell_versions() -> None:
    """Print, for -v, what `versions` returns."""
    if verbose():
        detail(', '.join(f'{name} {version}' for name, version in versions().items()))


def command_line(argv: List[str]) -> str:
    """Return the command line, for a manifest."""
    return shlex.join(['python', Path(sys.argv[0]).name, *argv])


class Wording:
    """How a kind of training names its files and reports its results."""

    scoring: Scoring = CLASSIFICATION
    # As the script spells them: of a longer warm-up, and of a checkpoint's parameters to start from.
    warmup_flag, start_flag = '--warmup-epochs', '--resume-from'

    def epoch_lines(self, row: Mapping[str, Any]) -> List[str]:
        """Return the lines of the text log for an epoch."""
        return [epoch_line(row)]


@dataclass
class Outputs:
    """The destination of a run's results. `manifest` describes the network before it is scored."""

    folder: RunFolder
    store: CheckpointStore
    log: RunLog
    manifest: Dict[str, Any]
    state: Dict[str, Any] = field(default_factory=dict)  # what a checkpoint holds beside position and learner
    save_period: int = 0
    plot_dir: str = '.'
    title: str = ''
    loggers: Loggers = field(default_factory=Loggers)
    log_interval: int = 0
    wording: Wording = field(default_factory=Wording)

    def __post_init__(self) -> None:
        self.event_log = EventLog(self.folder.events)
        self._damaged = 0
        self._good: Optional[Path] = None
        # When the last line of an interval was written, and how many images the epoch had then; likewise of a step.
        self._mark = self._last = (0.0, 0)

    @property
    def scoring(self) -> Scoring:
        return self.wording.scoring

    def begin(self, position: Position) -> None:
        """Bring the folder to the state of `position`: complete what a kill left undone, and remove later work."""
        if position.rows:
            write_history(self.folder.history, position.rows, self.scoring)
        damaged = self.event_log.rewind(position.step)
        if damaged:
            self.log(f'{self.folder.events} was damaged: {damaged} lines of it were no events and are left out')
        self.remove_old_bests(position)

    def good(self) -> Optional[Path]:
        """Return the newest checkpoint from before the steps that were just skipped; None if there is none."""
        if self._good is None:
            for path in self.store.paths():
                try:
                    state = read_checkpoint(path)
                    require_schema(state, {'record': POSITION, ...: object}, path)
                except (DamagedCheckpoint, OSError, UserError):
                    continue  # as resuming does, which has told of it
                if not state['record']['skipped_in_row']:
                    self._good = path
                    break
        return self._good

    def checkpoint(self, position: Position, learner: Dict[str, Any]) -> None:
        """Save a state.

        While steps are being skipped, the last checkpoint from before them is kept, because what made them fail may
        already be in the parameters.
        """
        state = {**self.state, 'record': position.tree(), 'learner': learner}
        start = time.perf_counter()
        path = self.store.save(
            state, position.epoch, position.batch, spared=self.good() if position.skipped_in_row else None
        )
        detail(f'{path}: {time.perf_counter() - start:.2f} s')
        if not position.skipped_in_row:
            self._good = path

    def way_back(self) -> str:
        """Return the end of a sentence on a step that failed."""
        good = self.good()
        state = f'the last good state is {good}' if good else 'there is no good state before it'
        return f'{state}; start a new run with a lower --lr or a longer {self.wording.warmup_flag}' + (
            f', from that state with {self.wording.start_flag}' if good else ''
        )

    def begin_epoch(self, position: Position) -> None:
        self._mark = self._last = (time.perf_counter(), position.totals.images)

    def images(self, position: Position, data: Any) -> None:
        """Handle the input of an epoch's first step, before it."""
        self.loggers.batch(position.epoch, position.step + 1, data)

    def batch(self, position: Position, step: int, batch: int, lr: float, loss: float) -> None:
        """Report a step once its figures are in `position`, with a line every `log_interval` batches."""
        (before, images), now = self._last, time.perf_counter()
        self._last = (now, position.totals.images)
        self.loggers.step(step + 1, loss, lr, (position.totals.images - images) / max(now - before, 1e-9))
        if not self.log_interval or (batch + 1) % self.log_interval:
            return
        before, images = self._mark
        self._mark = (now, position.totals.images)
        figures = {
            'epoch': position.epoch + 1,
            'batch': batch + 1,
            'lr': lr,
            'train_loss': position.totals.mean_loss,
            **({'train_accuracy': position.totals.accuracy} if self.scoring.training else {}),
            'images_per_second': (position.totals.images - images) / max(now - before, 1e-9),
        }
        self.log(interval_line(figures))
        self.event_log.add('batches', step=step + 1, **figures)

    def skipped(self, position: Position, step: int, sentence: str) -> None:
        """Report a step that was undone."""
        self.log(sentence)
        self.event_log.add('skipped', step=step + 1, epoch=position.epoch + 1, reason=sentence)

    def damaged(self, position: Position, sentences: List[str]) -> None:
        """Report the images that could not be used so far, if there are more than before."""
        if len(sentences) > self._damaged:
            self._damaged = len(sentences)
            self.log(f'{len(sentences)} damaged images so far, the first: {sentences[0]}')
            self.event_log.add('damaged', step=position.step, images=sentences)

    def epoch(self, net: Any, position: Position, row: Dict[str, Any], best: bool) -> None:
        """Write the files of an epoch.

        They are written again, with the same content, if it is repeated after a kill.
        """
        if best:
            path = self.folder.best
            self.save_params(net, path, row)
            position.best_files = [name for name in position.best_files if name != path.name] + [path.name]
        self.save_params(net, self.folder.last, row)
        before = position.rows[-2]['epoch'] if len(position.rows) > 1 else 0
        if self.save_period and position.epoch // self.save_period > before // self.save_period:
            self.save_params(net, self.folder.periodic(position.epoch), row)
            self.folder.remove_periodic(self.store.keep)
        write_history(self.folder.history, position.rows, self.scoring)
        draw_curves(self.curve_path(), position.rows, self.title)
        self.loggers.epoch(row)
        self.event_log.add('epoch', **row)
        for line in self.wording.epoch_lines(row):
            self.log(line)
        kept, column = kept_weights(row, self.scoring), self.scoring.column
        if kept:
            average, own = (row[f'{column}_{which}'] for which in (AVERAGE, OWN))
            which = 'average is' if kept == AVERAGE else 'own weights are'
            self.log(
                f'[Epoch {row["epoch"]}] {self.scoring.word} of the average of the weights {average:.4f}, of the own '
                f'weights {own:.4f}: the {which} kept'
            )

    def unvalidated(self, position: Position) -> None:
        """Write the files of an epoch that --val-interval leaves without validation."""
        self.log(f'[Epoch {position.epoch}] loss={position.totals.mean_loss:f}, without validation')

    def given_up(self, position: Position, patience: int) -> None:
        """Report that --patience ends the run early."""
        times = f'{patience} validations' if patience > 1 else 'a validation'
        self.log(
            f'{times} without a better figure: the run ends after epoch {position.epoch}; --resume with a '
            f'--patience above {patience} goes on'
        )

    def curve_path(self) -> Path:
        return self.folder.path / self.plot_dir / self.folder.curves.name

    def save_params(self, net: Any, path: Path, row: Dict[str, Any]) -> None:
        score = {name: row[column] for name, column in self.scoring.validation.items()}
        kept = kept_weights(row, self.scoring)
        weights = {'weights': kept} if kept else {}
        save_params(net, path, {**self.manifest, 'accuracy': score, 'epoch': row['epoch'], **weights})

    def remove_old_bests(self, position: Position) -> None:
        """Delete the best parameters of earlier epochs, once no checkpoint needs them."""
        for name in position.best_files[:-1]:
            for path in (self.folder.path / name, (self.folder.path / name).with_suffix('.json')):
                if path.exists():
                    path.unlink()
        del position.best_files[:-1]

    def finish(self, net: Any, position: Position) -> Dict[str, Any]:
        """Write the last parameters, also for runs of an earlier release, the log's end, and the final figures."""
        row, path, scoring = position.rows[-1], self.folder.last, self.scoring
        self.save_params(net, path, row)
        self.log(f'best {scoring.word}: {position.best(scoring.column):.4f}')
        best = max(position.rows, key=lambda row: row[scoring.column])
        scores = {name: row[column] for name, column in scoring.validation.items()}
        return {
            **{name: self.manifest[name] for name in ('dataset', 'model', 'seed')},
            'epochs': position.epoch,
            'steps': position.step,
            **{'val_loss' if name == 'loss' else name: value for name, value in scores.items()},
            'train_loss': row['train_loss'],
            scoring.best_column: position.best(scoring.column),
            'best_epoch': best['epoch'],
            'best_params': str(self.folder.path / position.best_files[-1]),
            'params': str(path),
            'mode': self.state.get('mode'),
            'seconds': sum(row['seconds'] + row['val_seconds'] for row in position.rows),
            'images_per_second': images_per_second(position.rows),
        }


class NoOutputs(Outputs):
    """The outputs of ranks other than the first: nothing."""

    def begin(self, position: Position) -> None:
        pass

    def checkpoint(self, position: Position, learner: Dict[str, Any]) -> None:
        pass

    def images(self, position: Position, data: Any) -> None:
        pass

    def batch(self, position: Position, step: int, batch: int, lr: float, loss: float) -> None:
        pass

    def skipped(self, position: Position, step: int, sentence: str) -> None:
        pass

    def damaged(self, position: Position, sentences: List[str]) -> None:
        pass

    def epoch(self, net: Any, position: Position, row: Dict[str, Any], best: bool) -> None:
        pass

    def unvalidated(self, position: Position) -> None:
        pass

    def given_up(self, position: Position, patience: int) -> None:
        pass

    def remove_old_bests(self, position: Position) -> None:
        pass

    def finish(self, net: Any, position: Position) -> Dict[str, Any]:
        return {}
