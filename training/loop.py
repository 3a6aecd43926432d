"""The training loop: every network, any data, any devices.

    train(job, position, outputs)      all epochs
      train_epoch                    all batches of one epoch
      finish_epoch                   validation, history, best parameters, checkpoint

The device works ahead of Python by `LAG` steps: the figures of a step are read, and checked, that much later, and a
step that was not finite is then undone (`Steps`), back to a state from before it. A checkpoint first waits for all of
them, so nothing on disk contains a trace of such a step.
"""

import math
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Callable, ContextManager, Deque, Dict, List, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np

from environment import UserError
from training import seeds
from training.checkpoints.position import Position
from training.checkpoints.state import capture
from training.distributed.ranks import Ranks
from training.evaluate import classification_scores
from training.logging.metrics import AVERAGE, CLASSIFICATION, OWN, Scoring, kept_weights
from training.logging.outputs import Outputs
from training.logging.progress import Progress
from training.mixup import PLAIN, Mixup
from training.optim.average import Average
from training.optim.layout import restore_plain_layout
from training.optim.loss_scaler import LossScaler
from training.optim.rollback import Rollback
from training.optim.schedule import Schedule
from training.step import TrainingStep

__all__ = ['Job', 'NonFinite', 'train']

LAG = 2
# A state is kept every so many steps. The batches of those between are kept with it, up to so many bytes.
LONGEST_STRIDE, KEPT_BYTES = 8, 2**26


class NonFinite(UserError):
    """A loss, gradient or parameter is infinite or not a number."""


@dataclass
class Job:
    """The network, the data, and the method; fixed over a run."""

    net: Any
    program: Any  # what runs `net`: itself, or with casts around it
    step: TrainingStep
    schedule: Schedule
    train_data: Any  # data.classification.loader.Loader
    val_data: Any
    contexts: Sequence[Any]
    epochs: int
    seed: int
    mixup: Optional[Mixup] = None
    random: bool = True  # whether the network draws random numbers while it trains
    checkpoint_interval: int = 0  # batches; 0: only at the end of epochs
    max_skipped: int = 0  # steps in a row that may be skipped as they are not finite
    scaler: Optional[LossScaler] = None
    average: Optional[Average] = None  # of the weights, validated beside them; the better of both is kept
    val_interval: int = 1  # epochs from one validation to the next; the last epoch always has one
    patience: int = 0  # validations without a better figure that end the run; 0: however many
    ranks: Ranks = field(default_factory=Ranks)
    scoring: Scoring = CLASSIFICATION
    # The columns of its `validation`, after an epoch.
    scores: Callable[['Job', int], Dict[str, float]] = classification_scores

    def __post_init__(self) -> None:
        self._rollback: Optional[Rollback] = None

    @property
    def rollback(self) -> Rollback:
        """Return the rollback, created for the first step, when parameters and optimizer have their final arrays."""
        if self._rollback is None:
            self._rollback = Rollback(self.net, self.step.trainer, LAG + 1, self.average.arrays if self.average else ())
        return self._rollback

    def damaged(self) -> List[str]:
        """Return a sentence for each image that could not be used so far."""
        loaders = (self.train_data, self.val_data)
        return [sentence for loader in loaders if hasattr(loader, 'bad') for sentence in loader.bad.sentences]

    def to_keep(self, row: Mapping[str, float]) -> ContextManager[None]:
        """Return a context in which the network has the better weights of the epoch in this row of the history."""
        return nullcontext() if kept_weights(row, self.scoring) in (None, OWN) else self.average.applied()

    def given_up(self, position: Position) -> bool:
        """Return whether `patience` is exhausted."""
        scores = [row[self.scoring.column] for row in position.rows]
        return bool(scores and self.patience) and len(scores) - 1 - scores.index(max(scores)) >= self.patience


def train(job: Job, position: Position, outputs: Outputs, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train from `position` to the end, or to the end of the batch in which `stop()` turns true; False if stopped.

    Either way the last state is in a checkpoint. Raises `NonFinite`.
    """
    outputs.begin(position)
    while position.epoch < job.epochs and not job.given_up(position):
        if not train_epoch(job, position, outputs, stop):
            return False
        finish_epoch(job, position, outputs)
        if job.ranks.total([float(stop())])[0] > 0:
            return position.epoch >= job.epochs or job.given_up(position)
    if job.given_up(position):
        outputs.given_up(position, job.patience)
    return True


def train_epoch(job: Job, position: Position, outputs: Outputs, stop: Callable[[], bool]) -> bool:
    """Train on the remaining batches of `position.epoch`.

    Returns False if stopped, with a checkpoint written, before the last.
    """
    steps = Steps(job, position, outputs, stop)
    total = len(job.train_data)
    batch_size = job.train_data.batch_size * job.ranks.size
    bar = Progress(position.epoch, job.epochs, total, position.batch, batch_size, telling=job.ranks.first)
    start, before = time.perf_counter(), position.totals.seconds
    outputs.begin_epoch(position)
    accurate = 'train_accuracy' in job.scoring.training

    def drain(lag: int) -> None:
        steps.drain(lag)
        accuracy = position.totals.accuracy if accurate else None
        bar.update(position.batch - len(steps.pending), position.totals.mean_loss, accuracy)
        position.totals.seconds = before + time.perf_counter() - start

    try:
        for batch, data, labels, _ in job.train_data.batches(position.epoch, start=position.batch):
            if batch == 0:
                outputs.images(position, data)
            steps.start(batch, data, labels)
            drain(LAG)
            stopping = steps.stopping()
            due = job.checkpoint_interval and position.batch % job.checkpoint_interval == 0
            if stopping or (due and position.batch < total):
                drain(0)
                outputs.checkpoint(position, checked_state(job, position, outputs))
            if stopping:
                return False
        drain(0)
        return True
    finally:
        bar.close()


@dataclass
class Launched:
    """A step under way, and what is needed to repeat it."""

    batch: int
    step: int
    data: np.ndarray
    labels: np.ndarray
    lr: float
    scale: float
    slot: Optional[int]  # of the state before it, where that was kept
    figures: Sequence[Any]
    counted: bool = False  # it is done again


class Steps:
    """The steps of an epoch that are under way.

    A step whose loss or gradient is not finite is undone when its figures are read: the last state kept before it is
    restored, and all steps since then are repeated except for this one. The result is as if it had been checked before
    its update, and nothing has waited.
    """

    def __init__(self, job: Job, position: Position, outputs: Outputs, stop: Callable[[], bool]) -> None:
        self.job, self.position, self.outputs, self.stop = job, position, outputs, stop
        self.behind: List[Launched] = []  # those whose figures are read, from the last one with a state on
        self.pending: Deque[Launched] = deque()
        self.asked = False  # some rank was asked to stop
        self.stride = 0  # steps from one state that is kept to the next; known with the first batch
        self._since = 0  # steps since the last

    def start(self, batch: int, data: np.ndarray, labels: np.ndarray) -> None:
        """Start the next step."""
        if not self.stride:
            # All ranks go back equally far, so they have to agree.
            size = self.job.ranks.total([float(data.nbytes)])[0] / self.job.ranks.size
            self.stride = max(1, min(LONGEST_STRIDE, int(KEPT_BYTES / max(size, 1.0))))
        scale = self.job.scaler.of(self.position.step) if self.job.scaler else 1.0
        self.pending.append(self._launched(batch, self.position.step, data, labels, scale))
        self.position.batch, self.position.step = batch + 1, self.position.step + 1

    def stopping(self) -> bool:
        """Return whether to stop now: with several ranks once all of them know of it."""
        return self.asked if self.job.ranks.size > 1 else self.stop()

    def _launched(
        self, batch: int, step: int, data: np.ndarray, labels: np.ndarray, scale: float, counted: bool = False
    ) -> Launched:
        """Launch a step, which is a function of the seed and of its position alone."""
        job, epoch = self.job, self.position.epoch
        lr = job.schedule(step)
        job.step.trainer.set_learning_rate(lr)
        if job.random:
            position = (epoch, batch) if job.ranks.first else (epoch, batch, job.ranks.rank)
            mx.random.seed(seeds.derive(job.seed, 'step' if job.ranks.first else 'step of a rank', *position))
        mixture = job.mixup(epoch, batch, *data.shape[2:]) if job.mixup else PLAIN
        slot = job.rollback.save() if self._since == 0 else None
        self._since = (self._since + 1) % self.stride
        figures = job.step(data, labels, mixture, scale, job.ranks.size > 1 and self.stop())
        if job.average:
            job.average.update(step)
        return Launched(batch, step, data, labels, lr, scale, slot, figures, counted)

    def drain(self, lag: int) -> None:
        """Wait for all but the last `lag` steps. Raises `NonFinite`."""
        while len(self.pending) > lag:
            launched = self.pending.popleft()
            sums = np.sum([figures.asnumpy() for figures in launched.figures], axis=0, dtype=np.float64)
            self.asked = self.asked or bool(sums[2:-1].any())
            if math.isfinite(sums[0] + sums[-1]):
                if not launched.counted:
                    self._count(launched, float(sums[0]), float(sums[1]))
                self.behind = [launched] if launched.slot is not None else [*self.behind, launched]
            else:
                self._skip(launched, float(sums[0]))

    def _count(self, launched: Launched, loss: float, correct: float) -> None:
        position = self.position
        position.skipped_in_row = 0
        position.totals.add(len(launched.labels) * self.job.ranks.size, loss, correct)
        if self.job.scaler:
            self.job.scaler.good(launched.step)
        mean = loss / (len(launched.labels) * self.job.ranks.size)
        self.outputs.batch(position, launched.step, launched.batch, launched.lr, mean)

    def _skip(self, launched: Launched, loss: float) -> None:
        """Undo the step and repeat those after it."""
        job, position = self.job, self.position
        behind = self.behind if launched.slot is None else []
        again = [*(replace(step, counted=True) for step in behind), *self.pending]
        job.rollback.restore((behind[0] if behind else launched).slot)
        self.pending.clear()
        self.behind, self._since = [], 0
        position.skipped += 1
        images = len(launched.labels) * job.ranks.size
        what = 'gradient is not finite' if math.isfinite(loss) else f'loss is {loss / images:g}'
        at = f'at step {launched.step + 1} (epoch {position.epoch + 1}, batch {launched.batch + 1})'
        if job.scaler and job.scaler.bad(launched.scale):
            scale = f'the loss scale is {job.scaler.scale:g} now'
            self.outputs.skipped(position, launched.step, f'the {what} {at}: skipped, {scale}')
        else:
            position.skipped_in_row += 1
            sentence = f'the {what} {at} with a learning rate of {launched.lr:g}'
            if position.skipped_in_row > job.max_skipped:
                count = '' if job.max_skipped == 0 else f', as in {job.max_skipped} steps before it'
                raise NonFinite(f'{sentence}{count}; {self.outputs.way_back()}')
            self.outputs.skipped(position, launched.step, f'{sentence}: skipped')
        for step in again:
            scale = job.scaler.of(step.step) if job.scaler and not step.counted else step.scale
            self.pending.append(self._launched(step.batch, step.step, step.data, step.labels, scale, step.counted))


def checked_state(job: Job, position: Position, outputs: Outputs) -> Dict[str, Any]:
    """Return parameters and optimizer.

    `NonFinite` if a parameter is not finite, so that nothing of it reaches the disk.
    """
    learner = capture(job.net, job.step.trainer)
    if job.scaler:
        learner['loss_scale'] = job.scaler.tree()
    if job.average:
        learner['average'] = job.average.tree()
    for name, array in learner['parameters'].items():
        if not np.isfinite(array).all():
            where = f'step {position.step} (epoch {position.epoch + 1}, batch {position.batch})'
            lr = job.schedule(position.step - 1)
            raise NonFinite(
                f'the parameter {name} is not finite after {where} with a learning rate of {lr:g}; {outputs.way_back()}'
            )
    return learner


def finish_epoch(job: Job, position: Position, outputs: Outputs) -> None:
    """Validate, write the epoch's row, keep the best parameters, save the state of the next epoch's start."""
    learner = checked_state(job, position, outputs)
    done = position.epoch + 1
    if done % job.val_interval and done < job.epochs:
        position.go_on()
        outputs.unvalidated(position)
    else:
        row = validated_row(job, position)
        best = row[job.scoring.column] > position.best(job.scoring.column)
        position.close_epoch(row)
        with job.to_keep(row):
            outputs.epoch(job.net, position, row, best)
    outputs.damaged(position, job.damaged())
    outputs.checkpoint(position, learner)
    outputs.remove_old_bests(position)


def validation(job: Job, epoch: int) -> Dict[str, float]:
    """Return the scores after an epoch; with an average those of the better weights, and the figure of both."""
    own = job.scores(job, epoch)
    restore_plain_layout(job.net)
    if job.average is None:
        return own
    with job.average.applied():
        average = job.scores(job, epoch)
    column = job.scoring.column
    better = average if average[column] >= own[column] else own
    return {**better, f'{column}_{AVERAGE}': average[column], f'{column}_{OWN}': own[column]}


def validated_row(job: Job, position: Position) -> Dict[str, Any]:
    """Return the epoch's row of the history."""
    start = time.perf_counter()
    scores = validation(job, position.epoch)
    totals, column = position.totals, job.scoring.column
    accuracy = {'train_accuracy': totals.accuracy}
    return {
        'epoch': position.epoch + 1,
        'step': position.step,
        'lr': job.schedule(position.step - 1),
        'train_loss': totals.mean_loss,
        **{name: accuracy[name] for name in job.scoring.training},
        **scores,  # and those of an average
        job.scoring.best_column: max(scores[column], position.best(column)),
        'images_per_second': totals.images / max(totals.seconds, 1e-9),
        'seconds': totals.seconds,
        'val_seconds': time.perf_counter() - start,
    }
