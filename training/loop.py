"""The training loop: every classification network, any data, any devices.

    train(job, record, outputs)      all epochs
      train_epoch                    all batches of one epoch
      finish_epoch                   validation, history, best parameters, checkpoint

The device works ahead of Python by `LAG` steps: figures of a step are read, and checked, that much later. A
checkpoint first waits for all of them, so nothing on the disk is ever younger than a step that was not
finite.
"""

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Optional, Sequence

import mxnet as mx
import numpy as np

from environment import UserError
from training import seeds
from training.evaluate import evaluate
from training.layout import settle
from training.mixup import Mixup
from training.outputs import Outputs
from training.progress import Progress
from training.record import Record
from training.schedule import Schedule
from training.state import capture
from training.step import TrainingStep

__all__ = ['Job', 'NonFinite', 'train']

LAG = 2


class NonFinite(UserError):
    """A loss, gradient or parameter is infinite or not a number."""


@dataclass
class Job:
    """What is trained, on what, and how; fixed over a run."""

    net: Any
    program: Any  # what runs `net`: itself, or with casts around it
    step: TrainingStep
    schedule: Schedule
    train_data: Any  # training.data.Feeder
    val_data: Any
    contexts: Sequence[Any]
    epochs: int
    seed: int
    mixup: Optional[Mixup] = None
    random: bool = True  # whether the network draws random numbers while it trains
    checkpoint_interval: int = 0  # batches; 0: only at the end of epochs


def train(job: Job, record: Record, outputs: Outputs, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train from `record` to the end, or to the end of the batch in which `stop()` turns true; False if
    stopped.

    Either way the last state is in a checkpoint. Raises `NonFinite`.
    """
    outputs.begin(record)
    while record.epoch < job.epochs:
        if not train_epoch(job, record, outputs, stop):
            return False
        finish_epoch(job, record, outputs)
        if stop():
            return record.epoch >= job.epochs
    return True


def train_epoch(job: Job, record: Record, outputs: Outputs, stop: Callable[[], bool]) -> bool:
    """The batches of `record.epoch` that are left; False if stopped, with a checkpoint written, before the
    last.
    """
    pending: Pending = deque()
    total = len(job.train_data)
    bar = Progress(record.epoch, job.epochs, total, record.batch, job.train_data.batch_size)
    start, before = time.perf_counter(), record.totals.seconds
    outputs.begin_epoch(record)

    def settle(lag: int) -> None:
        while len(pending) > lag:
            read_figures(pending.popleft(), record, outputs)
            bar.update(record.batch - len(pending), record.totals.mean_loss, record.totals.accuracy)
        record.totals.seconds = before + time.perf_counter() - start

    try:
        for batch, data, labels, _ in job.train_data.batches(record.epoch, start=record.batch):
            pending.append(launch(job, record, batch, data, labels))
            record.batch, record.step = batch + 1, record.step + 1
            settle(LAG)
            stopping = stop()
            due = job.checkpoint_interval and record.batch % job.checkpoint_interval == 0
            if stopping or (due and record.batch < total):
                settle(0)
                outputs.checkpoint(record, checked_state(job, record, outputs))
            if stopping:
                return False
        settle(0)
        return True
    finally:
        bar.close()


@dataclass
class Launched:
    """A step under way."""

    epoch: int
    batch: int
    step: int
    lr: float
    images: int
    figures: Sequence[Any]


Pending = Deque[Launched]


def launch(job: Job, record: Record, batch: int, data: np.ndarray, labels: np.ndarray) -> Launched:
    """Start a step. What it does is a function of the seed and of its position alone."""
    lr = job.schedule(record.step)
    job.step.trainer.set_learning_rate(lr)
    if job.random:
        mx.random.seed(seeds.derive(job.seed, 'step', record.epoch, batch))
    share = job.mixup(record.epoch, batch) if job.mixup else 1.0
    figures = job.step(data, labels, share)
    return Launched(record.epoch, batch, record.step, lr, len(labels), figures)


def read_figures(launched: Launched, record: Record, outputs: Outputs) -> None:
    """Wait for a step and add its figures to the totals; `NonFinite` if something in it is not finite."""
    loss, correct, norm = np.sum([figures.asnumpy() for figures in launched.figures], axis=0, dtype=np.float64)
    if not math.isfinite(loss + norm):
        bad_loss = not math.isfinite(loss)
        what = f'loss is {loss / launched.images:g}' if bad_loss else 'gradient is not finite'
        at = f'at step {launched.step} (epoch {launched.epoch}, batch {launched.batch})'
        raise NonFinite(f'the {what} {at} with a learning rate of {launched.lr:g}; {outputs.way_back()}')
    record.totals.add(launched.images, float(loss), float(correct))
    outputs.batch(record, launched.step, launched.batch, launched.lr)


def checked_state(job: Job, record: Record, outputs: Outputs) -> Dict[str, Any]:
    """Parameters and optimizer; `NonFinite` if a parameter is not finite, so that nothing of it reaches the
    disk.
    """
    learner = capture(job.net, job.step.trainer)
    for name, array in learner['parameters'].items():
        if not np.isfinite(array).all():
            where = f'step {record.step - 1} (epoch {record.epoch}, batch {record.batch - 1})'
            lr = job.schedule(record.step - 1)
            raise NonFinite(
                f'the parameter {name} is not finite after {where} with a learning rate of {lr:g}; {outputs.way_back()}'
            )
    return learner


def finish_epoch(job: Job, record: Record, outputs: Outputs) -> None:
    """Validate, write the epoch's row, keep the best parameters, save the state of the next epoch's start."""
    learner = checked_state(job, record, outputs)
    row = validated_row(job, record)
    best = row['val_top1'] > record.best_top1
    record.close_epoch(row)
    outputs.epoch(job.net, record, row, best)
    outputs.checkpoint(record, learner)
    outputs.remove_old_bests(record)


def validated_row(job: Job, record: Record) -> Dict[str, Any]:
    """The epoch's row of the history."""
    start = time.perf_counter()
    scores = evaluate(job.program, job.val_data, job.contexts)
    settle(job.net)
    totals = record.totals
    return {
        'epoch': record.epoch,
        'step': record.step,
        'lr': job.schedule(record.step - 1),
        'train_loss': totals.mean_loss,
        'train_accuracy': totals.accuracy,
        'val_loss': scores.loss,
        'val_top1': scores.top1,
        'val_top5': scores.top5,
        'best_top1': max(scores.top1, record.best_top1),
        'images_per_second': totals.images / max(totals.seconds, 1e-9),
        'seconds': totals.seconds,
        'val_seconds': time.perf_counter() - start,
    }
