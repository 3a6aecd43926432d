"""From settings and data to a `Job`: the network, its optimizer, its loss, its schedule."""

import argparse
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from environment import UsageError
from training import seeds
from training.average import Average
from training.data import Feeder, ImageDataset
from training.loop import LAG, Job
from training.loss import Criterion
from training.mixup import Mixup
from training.mode import apply_mode, fastest_mode, trace_for_training
from training.optimizer import make_trainer
from training.precision import Precision
from training.ranks import Ranks
from training.scaler import LossScaler
from training.schedule import Schedule, parse_epochs
from training.step import TrainingStep, build_network, uses_random_numbers
from training.teacher import Teacher

__all__ = ['Recipe', 'check_batch', 'choose_mode', 'feeders', 'make_job', 'make_schedule']


def make_schedule(settings: argparse.Namespace, steps_per_epoch: int, images: int = 1) -> Schedule:
    """The schedule the flags ask for, with steps of `images` images; `UsageError` if there is none such."""
    if settings.warmup_epochs > settings.num_epochs:
        raise UsageError(
            f'--warmup-epochs is {settings.warmup_epochs}; allowed: 0 to --num-epochs, which is {settings.num_epochs}'
        )
    scale = images / settings.scale_lr if settings.scale_lr else 1
    return Schedule(
        settings.lr_mode,
        settings.lr * scale,
        settings.num_epochs,
        steps_per_epoch,
        settings.warmup_epochs,
        settings.warmup_lr * scale,
        settings.lr_decay,
        parse_epochs(settings.lr_decay_epoch),
        settings.lr_decay_period,
    )


def feeders(
    settings: argparse.Namespace, train: ImageDataset, val: ImageDataset, devices: int, ranks: Optional[Ranks] = None
) -> Tuple[Feeder, Feeder]:
    """Augmented, shuffled, whole batches for training; every image once for validation; this rank's share of both."""
    ranks = ranks or Ranks()
    batch = settings.batch_size * devices
    train_feeder = Feeder(
        train,
        batch,
        True,
        seeds.derive(settings.seed, 'data'),
        shuffle=True,
        last='discard',
        rank=ranks.rank,
        size=ranks.size,
        limit=settings.limit_train,
    )
    check_batch(settings, train_feeder, devices, ranks, len(train_feeder.dataset))
    return train_feeder, Feeder(val, batch, rank=ranks.rank, size=ranks.size, limit=settings.limit_val)


def check_batch(settings: argparse.Namespace, train: Any, devices: int, ranks: Ranks, images: int) -> None:
    """`UsageError` where the images are too few for one step."""
    if len(train) == 0:
        raise UsageError(
            f'--batch-size {settings.batch_size} on {devices * ranks.size} device(s) is more than the {images} '
            'training images; give a smaller one'
        )


class Recipe:
    """How to build the network and what trains it; `learner(mode)` makes a new one each time, always the
    same.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        settings: argparse.Namespace,
        contexts: Sequence[Any],
        size: int,
        classes: int,
        load: Optional[Callable[[Any], None]] = None,
        ranks: Optional[Ranks] = None,
        teacher: Optional[Teacher] = None,
    ) -> None:
        self.make, self.settings, self.contexts, self.size, self.classes = (
            make,
            settings,
            list(contexts),
            size,
            classes,
        )
        self.load = load
        self.ranks = ranks or Ranks()
        self.teacher = teacher
        self.precision = Precision(settings.dtype)

    def network(self) -> Any:
        """With its initial values, or those that `load` brings."""
        net = build_network(self.make, self.settings.seed, self.contexts, self.size)
        if self.load is not None:
            self.load(net)
        self.precision.prepare(net)
        return net

    def learner(self, net: Any, mode: str, ranks: Optional[Ranks] = None) -> TrainingStep:
        """What trains `net`, running in `mode`, together with the other `ranks`."""
        settings = self.settings
        program = self.precision.program(net)
        apply_mode(program, mode)
        trace_for_training(program, mode, self.size, self.contexts[0])
        trainer = make_trainer(
            net,
            settings.lr,
            settings.momentum,
            settings.wd,
            settings.no_wd,
            self.precision.multi_precision,
            len(self.contexts),
            settings.optimizer,
            settings.no_wd_depthwise,
            settings.wd_layer_norm,
        )
        return TrainingStep(
            program, trainer, Criterion(self.classes, settings.label_smoothing, self.teacher), self.contexts, ranks
        )


def choose_mode(recipe: Recipe, batch: int) -> Tuple[str, Dict[str, float]]:
    """The fastest mode, and the images/s of each, on copies of the network and random images."""
    random = np.random.Generator(np.random.PCG64(0))
    data = random.standard_normal((batch, 3, recipe.size, recipe.size), dtype=np.float32)
    labels = random.integers(0, recipe.classes, batch)

    def make_step(mode: str) -> Callable[[], None]:
        step = recipe.learner(recipe.network(), mode)
        step.trainer.set_learning_rate(1e-6)
        return lambda: step(data, labels)

    mode, seconds = fastest_mode(make_step)
    return mode, {name: batch / value for name, value in seconds.items()}


def make_job(recipe: Recipe, mode: str, train: Any, val: Any, images: Optional[int] = None) -> Job:
    """`images` is the number of images of a step of all ranks, if there are several.

    The network is built here; `UserError` for parameters that do not fit.
    """
    settings = recipe.settings
    net = recipe.network()
    random = uses_random_numbers(net)
    step = recipe.learner(net, mode, recipe.ranks)
    mixup = None
    if settings.mixup:
        mixup = Mixup(settings.mixup_alpha, settings.num_epochs, settings.mixup_off_epoch, settings.seed)
    return Job(
        net=net,
        program=step.program,
        step=step,
        schedule=make_schedule(settings, len(train), images or train.batch_size),
        train_data=train,
        val_data=val,
        contexts=recipe.contexts,
        epochs=settings.num_epochs,
        seed=settings.seed,
        mixup=mixup,
        random=random,
        checkpoint_interval=settings.checkpoint_interval,
        max_skipped=settings.max_skipped,
        ranks=recipe.ranks,
        average=Average(net, step.trainer, settings.ema) if settings.ema else None,
        scaler=LossScaler(lag=LAG) if recipe.precision.scaled else None,
    )
