"""Define what is particular to one kind of training. The order of a run, common to all, is in `training.run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

import mxnet as mx

import kernels
from data.classification.survey import Survey
from environment import UsageError
from model import input_size
from training.checkpoints.position import Position
from training.config.fields import SettingsParser
from training.config.groups import Settings
from training.distributed.ranks import Ranks
from training.distributed.sync_norm import synchronise
from training.hybridization import fastest_mode
from training.logging.outputs import Outputs, Wording
from training.loop import LAG, Job
from training.mixup import Mixup
from training.optim.average import Average
from training.optim.loss_scaler import LossScaler
from training.optim.optimizer import make_trainer
from training.optim.rates import set_rates
from training.optim.schedule import make_schedule
from training.optim.trainer import Trainer
from training.precision import Precision
from training.running_statistics import fit_norm_momentum
from training.step import TrainingStep

__all__ = ['Network', 'RunData', 'Task', 'TrainedNetworks', 'check_batch', 'fastest_mode_of']


class Network(NamedTuple):
    """`get_model(name, **options)`, or `get_detector`."""

    name: str
    options: Mapping[str, Any]


class TrainedNetworks(NamedTuple):
    """What training needs of networks that are already trained, provided by the folders above it.

    `load(params, ctx=devices)` gives a network with what its manifest says, for a teacher; `explain(params, images,
    classes, device)` gives for each image its pictures (what it is, pixels (H, W, 3) uint8), for the report.
    """

    load: Callable[..., Any]
    explain: Callable[..., List[List[Tuple[str, Any]]]]


@dataclass(frozen=True)
class RunData:
    """What a run trains on and is scored on.

    Attributes:
        train, val: loaders, see `data.classification.loader`.
        name: of the data set.
        images, val_images: how many there are, of all processes together.
        notes: lines for the log.
        manifest: goes into the manifests of parameters.
    """

    train: Any
    val: Any
    name: str
    class_names: Sequence[str]
    preprocessing: Any  # data.preprocessing.Preprocessing
    images: int
    val_images: int
    notes: Sequence[str] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def told_apart(self) -> List[Any]:
        """Return what each class is told from the others by: the id of its category where it has one, else its name."""
        return list(self.manifest.get('categories', self.class_names))


def check_batch(settings: Settings, train: Any, workers: int, images: int) -> None:
    """Raise `UsageError` where the images are too few for one step of all devices of all processes, the `workers`."""
    if len(train) == 0:
        raise UsageError(
            f'--batch-size {settings.data.batch_size} on {workers} device(s) is more than the {images} training '
            'images; give a smaller one'
        )


class Report(Protocol):
    """The page that a run leaves in its folder."""

    def write(self, position: Position, complete: bool) -> bool:
        """Write it, after the last epoch or (not `complete`) where the run was stopped; never raises."""


class Task(Wording, ABC):
    """One kind of training: its network, data, step, metrics, lines of the log, curves and report.

    A run makes a task of its settings, lets it `load` the data and `choose` the network, and hands both to `assign`;
    from then on the task makes networks and what trains them, always the same.

    Args:
        devices: contexts that train together.
        trained: what is asked of trained networks, where the kind of training asks anything.
    """

    modes: ClassVar[Mapping[str, str]] = {}  # further names of modes
    only_summary: ClassVar[bool] = False  # --summary prints the layers and ends
    manifest: ClassVar[Mapping[str, Any]] = {}  # goes into the manifests of parameters

    data: RunData
    network: Network
    precision: Precision

    def __init__(
        self,
        settings: Any,
        devices: Sequence[Any] = (),
        ranks: Optional[Ranks] = None,
        trained: Optional[TrainedNetworks] = None,
    ) -> None:
        self.settings, self.devices, self.trained = settings, list(devices), trained
        self.ranks = ranks or Ranks()
        self.notes: List[str] = []  # lines for the log
        self.prepare: Optional[Callable[[Any], None]] = None

    @property
    def determined(self) -> Mapping[str, Any]:
        """Return what besides settings and data determines the result, and must be the same when it is resumed."""
        return {}

    # What the settings ask for.

    @abstractmethod
    def words(self) -> Tuple[str, str]:
        """Return data set and network in the name of a run's folder."""

    @abstractmethod
    def choose(self, classes: int) -> Network:
        """Return the network that the flags ask for. Raises `UsageError` naming the flag at fault."""

    @abstractmethod
    def build(self, network: Network) -> Any:
        """Return it without parameters."""

    @abstractmethod
    def load(self) -> RunData:
        """Open the data; `UserError` or `UsageError` where they cannot be trained on."""

    def survey(self) -> Optional[Survey]:
        """Look over the images, if they are a user's own, for which settings are chosen; None for the papers' sets."""
        return None

    @property
    def measuring(self) -> bool:
        """Return whether the settings ask for the speed of the data alone."""
        return False

    def measure(self, data: RunData) -> Dict[str, Any]:
        """Return the figures of a run that is `measuring`."""
        return {}

    @property
    def mode(self) -> str:
        """Return the mode that --mode asks for, which may be 'auto'."""
        asked = self.settings.machine.mode
        if asked == 'auto' and self.settings.machine.recompute:
            return 'hybrid'
        return self.modes.get(asked, asked)

    def scored_on(self) -> List[str]:
        """Return the flags with which validate.py scores on the validation images."""
        return []

    def check_flags(self, parser: SettingsParser, argv: Sequence[str], network: Network) -> None:
        """Raise `UsageError` for a flag in `argv` that has no effect on this network."""

    def side(self, network: Network) -> int:
        """Return the side in pixels of the images that --summary shows a network."""
        return input_size(network.name)

    def print_layers(self, network: Network) -> None:
        """Print Gluon's table of layers, of a network of its own: it needs one that is not hybridized."""
        side, net = self.side(network), self.build(network)
        net.initialize()
        net.summary(mx.nd.zeros((1, 3, side, side)))

    @abstractmethod
    def describe(self, data: RunData, network: Network) -> List[str]:
        """Return what the log says of the network. Raises `UserError` if it cannot take such images."""

    @abstractmethod
    def preparation(self, network: Network, log: Optional[Callable[[str], None]]) -> Optional[Callable[[Any], None]]:
        """Return what is to be done with every new network: loading, unless there is no `log`, and freezing."""

    # What is trained.

    def assign(self, data: RunData, network: Network, log: Optional[Callable[[str], None]]) -> None:
        """Settle what is trained on what. Files of parameters are read, and told of, where there is a `log`."""
        self.data, self.network = data, network
        self.precision = Precision(self.settings.machine.dtype)
        self.prepare = self.preparation(network, log)
        note = fit_norm_momentum(self.build(network), network.options, self.batches)
        self.notes = [note] if note else []
        accumulate, images = self.settings.gradient.accumulate, data.train.batch_size * self.ranks.size
        if accumulate > 1:
            self.notes.append(f'--accumulate {accumulate}: {len(data.train)} steps an epoch, of {images} images each')

    @property
    def part(self) -> int:
        """Return how many images of this rank are computed at a time, on all its devices together."""
        return self.settings.data.batch_size * len(self.devices)

    @property
    def batches(self) -> int:
        """Return the number of batches of the whole run; a step has --accumulate of them."""
        return self.settings.schedule.num_epochs * len(self.data.train) * self.settings.gradient.accumulate

    def make(self) -> Any:
        """Return a network whose running statistics settle within the run."""
        net = self.build(self.network)
        fit_norm_momentum(net, self.network.options, self.batches)
        return net

    @abstractmethod
    def new_network(self) -> Any:
        """Return a network with its initial values, or those that it is to start from."""

    @property
    def fuses(self) -> bool:
        """Return whether the graph may take operators of ours, which compute on CPUs, in float32 and bfloat16."""
        machine = self.settings.machine
        return kernels.have(machine.dtype) and self.devices[0].device_type == 'cpu' and not machine.sync_bn

    @abstractmethod
    def example(self, batch: int) -> Tuple[Any, Any]:
        """Return a batch of noise, data and labels, to measure the speed with."""

    @abstractmethod
    def random(self, net: Any) -> bool:
        """Return whether the network draws random numbers while it trains."""

    @abstractmethod
    def learner(self, net: Any, mode: str, ranks: Optional[Ranks] = None) -> TrainingStep:
        """Return what trains `net`, running in `mode`, together with the other `ranks`."""

    def trainer(self, net: Any) -> Trainer:
        """Return the optimizer that the flags ask for."""
        multi_precision, devices, rates = self.precision.multi_precision, len(self.devices), self.settings.rates
        if rates.layer_decay < 1 or rates.head_lr is not None:
            share = None if rates.head_lr is None else rates.head_lr / self.settings.schedule.lr
            set_rates(net, self.stages(net), self.head(net), rates.layer_decay, share)
        return make_trainer(net, self.settings.optimizer, multi_precision=multi_precision, devices=devices)

    def synchronise(self, net: Any) -> None:
        """Let batch norms take the statistics of all ranks. Raises `UsageError` if there are none that learn so."""
        if self.settings.machine.dtype == 'bfloat16':
            raise UsageError('--sync-bn is for --dtype float32 and float16, and it is bfloat16; leave it out')
        if not synchronise(net, self.ranks):
            raise UsageError(
                '--sync-bn is for batch norms that take the statistics of a batch; this network has none: leave it out'
            )

    def stages(self, net: Any) -> Sequence[Any]:
        """Return blocks of residual blocks, in their order."""
        return list(net.stages)

    def head(self, net: Any) -> Sequence[str]:
        """Return the structural names of what --head-lr is for."""
        return net.classifier_parameters()

    def job(self, mode: str) -> Job:
        """Return all that the loop needs; the network is built here.

        Raises:
            UserError: the parameters to start from do not fit.
        """
        settings, data, ranks = self.settings, self.data, self.ranks
        schedule, loss, decay = settings.schedule, settings.loss, settings.distillation.ema
        ranks.fp16 = settings.machine.fp16_allreduce
        net = self.new_network()
        if settings.machine.sync_bn:
            self.synchronise(net)
        random = self.random(net)
        step = self.learner(net, mode, ranks)
        mixup = None
        if loss.mixes:
            mixup = Mixup(
                loss.mixup_alpha if loss.mixup else 0.0,
                schedule.num_epochs,
                loss.mixup_off_epoch,
                settings.machine.seed,
                cutmix_alpha=loss.cutmix_alpha,
                probability=loss.mixup_prob,
                switch=loss.mixup_switch_prob,
            )
        return Job(
            net=net,
            program=step.program,
            step=step,
            schedule=make_schedule(schedule, len(data.train), data.train.batch_size * ranks.size),
            train_data=data.train,
            val_data=data.val,
            contexts=self.devices,
            epochs=schedule.num_epochs,
            seed=settings.machine.seed,
            mixup=mixup,
            random=random,
            checkpoint_interval=settings.run.checkpoint_interval,
            max_skipped=settings.machine.max_skipped,
            ranks=ranks,
            val_interval=settings.run.val_interval,
            patience=settings.run.patience,
            average=Average(net, step.trainer, decay) if decay else None,
            scaler=LossScaler(lag=LAG) if self.precision.scaled else None,
            scoring=self.scoring,
            scores=self.scores,
        )

    # What comes of it.

    @abstractmethod
    def scores(self, job: Job, epoch: int) -> Dict[str, float]:
        """Return the columns of `scoring.validation` after an epoch."""

    @abstractmethod
    def report(self, common: Mapping[str, Any], job: Job, outputs: Outputs, stop: Callable[[], bool]) -> Report:
        """Return the page that the run leaves, which costs nothing until it is written.

        `common` are the fields of every `training.report.run_report.RunReport`; what takes long ends once `stop()`.
        """


def fastest_mode_of(task: Task, batch: int) -> Tuple[str, Dict[str, float]]:
    """Return the fastest mode, and the images/s of each, on copies of the network and random images."""
    data, labels = task.example(batch)

    def make_step(mode: str) -> Callable[[], None]:
        step = task.learner(task.new_network(), mode)
        step.trainer.set_learning_rate(1e-6)
        return lambda: step(data, labels)

    mode, seconds = fastest_mode(make_step)
    return mode, {name: batch / value for name, value in seconds.items()}
