"""From settings and data to a `Job`: the network, its optimizer, its loss, its schedule."""

import argparse
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from data.classification.dataset import ImageDataset
from data.classification.loader import Loader
from environment import UsageError, UserError
from model import count, get_model, input_size
from model.hybridization import apply_mode
from training import seeds
from training.checkpoints.start import preparation
from training.distributed.ranks import Ranks
from training.evaluate import classification_scores
from training.hybridization import fastest_mode, trace_for_training
from training.logging.metrics import CLASSIFICATION
from training.loop import LAG, Job
from training.loss import Criterion
from training.mixup import Mixup
from training.optim.average import Average
from training.optim.loss_scaler import LossScaler
from training.optim.optimizer import make_trainer
from training.optim.schedule import Schedule, parse_epochs
from training.precision import Precision
from training.running_statistics import fit_norm_momentum
from training.step import TrainingStep, build_network, uses_random_numbers
from training.task import Network, RunData
from training.teacher import Teacher, load_teacher

__all__ = ['Recipe', 'check_batch', 'choose_mode', 'loaders', 'make_job', 'make_schedule']


def make_schedule(settings: argparse.Namespace, steps_per_epoch: int, images: int = 1) -> Schedule:
    """The schedule the flags ask for, with steps of `images` images; `UsageError` if there is none such."""
    by_steps = 'warmup_steps' in settings
    if not by_steps and settings.warmup_epochs > settings.num_epochs:
        raise UsageError(
            f'--warmup-epochs is {settings.warmup_epochs}; allowed: 0 to --num-epochs, which is {settings.num_epochs}'
        )
    scale = images / settings.scale_lr if settings.scale_lr else 1
    return Schedule(
        settings.lr_mode,
        settings.lr * scale,
        settings.num_epochs,
        steps_per_epoch,
        0 if by_steps else settings.warmup_epochs,
        0 if by_steps else settings.warmup_lr * scale,
        settings.lr_decay,
        parse_epochs(settings.lr_decay_epoch),
        settings.lr_decay_period,
        *((settings.warmup_steps, settings.warmup_ratio) if by_steps else ()),
    )


def loaders(
    settings: argparse.Namespace, train: ImageDataset, val: ImageDataset, devices: int, ranks: Optional[Ranks] = None
) -> Tuple[Loader, Loader]:
    """Augmented, shuffled, whole batches for training; every image once for validation; this rank's share of both."""
    ranks = ranks or Ranks()
    batch = settings.batch_size * devices
    train_loader = Loader(
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
    check_batch(settings, train_loader, devices, ranks, len(train_loader.dataset))
    return train_loader, Loader(val, batch, rank=ranks.rank, size=ranks.size, limit=settings.limit_val)


def check_batch(settings: argparse.Namespace, train: Any, devices: int, ranks: Ranks, images: int) -> None:
    """`UsageError` where the images are too few for one step."""
    if len(train) == 0:
        raise UsageError(
            f'--batch-size {settings.batch_size} on {devices * ranks.size} device(s) is more than the {images} '
            'training images; give a smaller one'
        )


class Recipe:
    """How to build the network and what trains it; `learner(mode)` makes a new one each time, always the
    same. This one is for classification; other tasks have recipes of their own, see `training.task`.
    """

    scoring = CLASSIFICATION
    notes: Sequence[str] = ()  # lines for the log
    scores = staticmethod(classification_scores)
    preparation = staticmethod(preparation)

    @classmethod
    def of(
        cls,
        settings: argparse.Namespace,
        chosen: Network,
        contexts: Sequence[Any],
        data: RunData,
        load: Optional[Callable[[Any], None]],
        ranks: Ranks,
    ) -> 'Recipe':
        """For a run on `data`; `UserError` for a teacher that cannot be had."""
        size = data.preprocessing.size
        teacher = load_teacher(settings, contexts, data.preprocessing, data.class_names)
        make, notes = cls.maker(settings, chosen, data)
        recipe = cls(make, settings, contexts, size, data.classes, load, ranks, teacher)
        recipe.notes = notes
        return recipe

    @classmethod
    def maker(cls, settings: argparse.Namespace, chosen: Network, data: RunData) -> Tuple[Callable[[], Any], List[str]]:
        """What builds the network for a run on `data`, and lines for the log."""
        steps = settings.num_epochs * len(data.train)

        def make() -> Any:
            net = cls.build(chosen)
            fit_norm_momentum(net, chosen.options, steps)
            return net

        note = fit_norm_momentum(cls.build(chosen), chosen.options, steps)
        return make, [note] if note else []

    @staticmethod
    def build(chosen: Network) -> Any:
        return get_model(chosen.name, **chosen.options)

    @staticmethod
    def describe(chosen: Network, data: RunData) -> List[str]:
        """What the log says of the network; `UserError` if it cannot take images of that size."""
        size = data.preprocessing.size
        try:
            cost = count(get_model(chosen.name, **chosen.options), (1, 3, size, size))
        except (mx.MXNetError, ValueError) as error:
            raise UserError(
                f'{chosen.name} cannot take images of {size} x {size} pixels; it is made for {input_size(chosen.name)}'
            ) from error
        return [f'{chosen.name}: {cost.params:,} parameters, {cost.macs / 1e6:.1f} million multiply-adds per image']

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

    @property
    def fuses(self) -> bool:
        """Whether the graph may take operators of ours, which compute on CPUs in float32."""
        return self.settings.dtype == 'float32' and self.contexts[0].device_type == 'cpu'

    def example(self, batch: int) -> Tuple[Any, Any]:
        """A batch of noise to measure the speed with."""
        random = np.random.Generator(np.random.PCG64(0))
        data = random.standard_normal((batch, 3, self.size, self.size), dtype=np.float32)
        return data, random.integers(0, self.classes, batch)

    def random(self, net: Any) -> bool:
        """Whether it draws random numbers while it trains."""
        return uses_random_numbers(net)

    def learner(self, net: Any, mode: str, ranks: Optional[Ranks] = None) -> TrainingStep:
        """What trains `net`, running in `mode`, together with the other `ranks`."""
        program = self.precision.program(net)
        apply_mode(program, mode)
        trace_for_training(program, mode, self.size, self.contexts[0], self.fuses)
        criterion = Criterion(self.classes, self.settings.label_smoothing, self.teacher)
        return TrainingStep(program, self.trainer(net), criterion, self.contexts, ranks)

    def trainer(self, net: Any) -> Any:
        """The optimizer that the flags ask for."""
        settings = self.settings
        return make_trainer(
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
            settings.muon_scale,
        )


def choose_mode(recipe: Recipe, batch: int) -> Tuple[str, Dict[str, float]]:
    """The fastest mode, and the images/s of each, on copies of the network and random images."""
    data, labels = recipe.example(batch)

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
    random = recipe.random(net)
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
        scoring=recipe.scoring,
        scores=recipe.scores,
    )
