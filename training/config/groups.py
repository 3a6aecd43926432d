"""The groups of settings shared by all training scripts. Defaults are open-atac's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Container, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union

from training.config.fields import Group, Groups, flag, switch
from training.config.flags import duration, epoch_list, number, source_or_off
from training.config.rates import LayerRates
from training.config.taken import ImagesSettings
from training.config.telling import TellingSettings
from training.config.weights_dir import weights_dir_flag

__all__ = [
    'DataSettings',
    'DistillationSettings',
    'GradientSettings',
    'LossSettings',
    'MachineSettings',
    'NetworkSettings',
    'OptimizerSettings',
    'RunSettings',
    'ScheduleSettings',
    'Settings',
    'StartSettings',
]

Own = TypeVar('Own', bound='Settings')
Idle = Iterator[Tuple[Sequence[str], str]]


class NetworkSettings(Group):
    """The network. Each script declares its own flags; all have these fields."""

    model: Optional[str]
    plugin: Optional[List[str]]  # files that register units or backbones
    option: str  # further arguments of the network
    summary: bool


class DataSettings(Group):
    """The data. Each script declares its own flags; all have these fields."""

    batch_size: int  # images per device and step
    num_data_workers: int


@dataclass(frozen=True)
class ScheduleSettings(Group):
    """The length of a run, and the learning rate over its steps."""

    title = 'learning rate'

    num_epochs: int = flag('--num-epochs', type=number(int, 1), default=1, help='passes over the training images')
    lr: float = flag('--lr', type=number(float, 0, open_low=True), default=0.1, help='learning rate after the warm-up')
    lr_mode: str = flag(
        '--lr-mode',
        choices=('step', 'cosine', 'poly'),
        default='step',
        help='decrease by --lr-decay at some epochs, or to --min-lr along a cosine or a parabola',
    )
    lr_decay: float = flag('--lr-decay', type=number(float, 0), default=0.1, help='factor of a step')
    lr_decay_epoch: str = flag(
        '--lr-decay-epoch',
        type=epoch_list,
        default='40,60',
        help='epochs after which a step is made, separated by commas',
    )
    lr_decay_period: int = flag(
        '--lr-decay-period', type=number(int, 0), default=0, help='if above 0, a step every this many epochs instead'
    )
    min_lr: float = flag('--min-lr', type=number(float, 0), default=0.0, help='lowest learning rate')
    cycle_epochs: int = flag(
        '--cycle-epochs',
        type=number(int, 0),
        default=0,
        help='if above 0, the cosine restarts after this many epochs, counted from the end of the warm-up',
    )
    cycle_mult: float = flag(
        '--cycle-mult',
        type=number(float, 1),
        default=1.0,
        help='each cycle is this many times as long as the one before',
    )
    cycle_decay: float = flag(
        '--cycle-decay',
        type=number(float, 0, 1, open_low=True),
        default=1.0,
        help='and starts at this share of the rate at which the one before started',
    )
    warmup_epochs: int = flag(
        '--warmup-epochs', type=number(int, 0), default=0, help='epochs of linear warm-up, part of all'
    )
    warmup_steps: int = flag(
        '--warmup-steps', type=number(int, 0), default=0, help='or this many steps of linear warm-up'
    )
    warmup_lr: float = flag(
        '--warmup-lr', type=number(float, 0), default=0.0, help="learning rate at the warm-up's start"
    )
    warmup_ratio: Optional[float] = None  # share of the rate at the start of mmdetection's warm-up, instead of a rate
    scale_lr: Optional[int] = flag(
        '--scale-lr',
        type=number(int, 1),
        nargs='?',
        const=256,
        metavar='IMAGES',
        help='take --lr, --warmup-lr and --min-lr as meant for steps of this many images (256 if given without a '
        'number): scale '
        'to the images per step of all devices and processes',
    )

    @property
    def decay_epochs(self) -> List[int]:
        """Return the epochs of --lr-decay-epoch, in their order."""
        return sorted(int(part) for part in self.lr_decay_epoch.split(',') if part)

    def idle(self) -> Idle:
        if self.lr_mode != 'step':
            yield ['lr_decay', 'lr_decay_epoch', 'lr_decay_period'], f'--lr-mode step, and it is {self.lr_mode}'
        elif self.lr_decay_period:
            yield ['lr_decay_epoch'], f'other steps than those of --lr-decay-period {self.lr_decay_period}'
        if self.lr_mode != 'cosine':
            yield ['cycle_epochs', 'cycle_mult', 'cycle_decay'], f'--lr-mode cosine, and it is {self.lr_mode}'
        elif not self.cycle_epochs:
            yield ['cycle_mult', 'cycle_decay'], 'a cosine that begins anew, and --cycle-epochs is 0'
        if self.warmup_epochs:
            yield ['warmup_steps'], f'a warm-up by steps, and --warmup-epochs is {self.warmup_epochs}'
        elif not self.warmup_steps:
            yield ['warmup_lr', 'warmup_ratio'], 'a warm-up, and --warmup-epochs and --warmup-steps are 0'


@dataclass(frozen=True)
class OptimizerSettings(Group):
    """How gradients change the parameters, apart from the learning rate."""

    title = 'optimizer'

    optimizer: str = flag(
        '--optimizer',
        choices=('nag', 'sgd', 'muon', 'adamw', 'lamb'),
        default='nag',
        help="gradient descent with Nesterov's or plain momentum, or with the steps of convolutions made orthogonal; "
        'adamw: steps by the moments of the gradient; lamb: such steps, as long for each parameter as suits its length',
    )
    muon_scale: float = flag(
        '--muon-scale',
        type=number(float, 0, open_low=True),
        default=0.2,
        help='of --lr, for the orthogonal steps of --optimizer muon: of convolutions without bias or groups, of 8 '
        'filters and 8 channels or more; a learning rate R of the original Muon is --lr R / SCALE',
    )
    momentum: float = flag(
        '--momentum',
        type=number(float, 0, 1, open_high=True),
        default=0.9,
        help='momentum; of adamw and lamb the first beta',
    )
    beta2: float = flag(
        '--beta2',
        type=number(float, 0, 1, open_high=True),
        default=0.999,
        help='of the second moment of adamw and lamb',
    )
    epsilon: Optional[float] = flag(
        '--epsilon',
        type=number(float, 0, open_low=True),
        help='added to the square root of that moment (default: 1e-8 for adamw, 1e-6 for lamb)',
    )
    trust_clip: bool = switch('--trust-clip', help='lamb lengthens no step, it only shortens them')
    wd: float = flag(
        '--wd',
        type=number(float, 0),
        default=0.0001,
        help='weight decay; it goes through the momentum, with --optimizer muon too, so that a decay D of the original '
        'Muon is --wd D * SCALE * (1 - MOMENTUM), with --muon-scale SCALE; that of adamw is by itself, and usually '
        'larger, such as 0.05',
    )
    no_wd: bool = switch('--no-wd', help='no weight decay for biases and for gamma and beta of norms')
    no_wd_depthwise: bool = switch(
        '--no-wd-depthwise', help='no weight decay for convolutions with groups, depth-wise ones'
    )
    wd_layer_norm: bool = switch('--wd-layer-norm', help='with --no-wd: nonetheless for gamma of layer norms')

    def idle(self) -> Idle:
        if not self.no_wd:
            yield ['wd_layer_norm'], '--no-wd, from which it excepts layer norms'
        if self.optimizer != 'muon':
            yield ['muon_scale'], f'--optimizer muon, and it is {self.optimizer}'
        if self.optimizer not in ('adamw', 'lamb'):
            yield ['beta2', 'epsilon'], f'--optimizer adamw or lamb, and it is {self.optimizer}'
        if self.optimizer != 'lamb':
            yield ['trust_clip'], f'--optimizer lamb, and it is {self.optimizer}'


@dataclass(frozen=True)
class GradientSettings(Group):
    """The number of images per gradient, and the largest norm of a gradient."""

    title = 'gradient'

    accumulate: int = flag(
        '--accumulate',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='a step is by the mean gradient of N batches, one computed after the other, and an epoch of as many fewer '
        'steps; the last may be of fewer',
    )
    clip_norm: float = flag(
        '--clip-norm',
        type=number(float, 0),
        default=0.0,
        help='largest gradient norm (L2 over all parameters) of a step; larger ones are clipped; 0: no clipping',
    )


@dataclass(frozen=True)
class LossSettings(Group):
    """Smoothing of labels, and mixtures of images."""

    title = 'loss'

    label_smoothing: float = flag(
        '--label-smoothing',
        type=number(float, 0, 1, open_high=True),
        nargs='?',
        const=0.1,
        default=0.0,
        metavar='ETA',
        help='share of the label that is spread over all classes; 0.1 if given without a number',
    )
    mixup: bool = switch('--mixup', help='train on mixtures of two images')
    mixup_alpha: float = flag(
        '--mixup-alpha', type=number(float, 0, open_low=True), default=0.2, help='mixture shares ~ Beta(alpha, alpha)'
    )
    cutmix_alpha: float = flag(
        '--cutmix-alpha',
        type=number(float, 0),
        default=0.0,
        metavar='ALPHA',
        help='train on images with a rectangle of another one, its share of the area ~ Beta(alpha, alpha); 0: do not',
    )
    mixup_prob: float = flag(
        '--mixup-prob',
        type=number(float, 0, 1, open_low=True),
        default=1.0,
        help='share of the steps with mixup or CutMix',
    )
    mixup_switch_prob: float = flag(
        '--mixup-switch-prob',
        type=number(float, 0, 1),
        default=0.5,
        help='share of these that take CutMix, where there are both',
    )
    mixup_off_epoch: int = flag(
        '--mixup-off-epoch', type=number(int, 0), default=0, help='the last epochs do without mixup and CutMix'
    )

    @property
    def mixes(self) -> bool:
        """Return whether images are mixed."""
        return self.mixup or self.cutmix_alpha > 0

    def idle(self) -> Idle:
        if not self.mixup:
            yield ['mixup_alpha'], '--mixup, which is not given'
        if not self.mixes:
            yield ['mixup_off_epoch', 'mixup_prob'], '--mixup or --cutmix-alpha, which are not given'
        if not (self.mixup and self.cutmix_alpha):
            yield ['mixup_switch_prob'], '--mixup and --cutmix-alpha together, which are not both given'


@dataclass(frozen=True)
class DistillationSettings(Group):
    """A teacher whose predictions are used besides the labels, and the average of the weights."""

    title = 'distillation and averaging'

    teacher: Optional[str] = flag(
        '--teacher',
        help='network to learn from: a .params file with its manifest, a run folder for its best one, public '
        "weights as --use-pretrained names them, or any network of ours or of GluonCV's that has such weights",
    )
    teacher_params: Optional[str] = flag(
        '--teacher-params',
        metavar='FILE',
        help="parameters of --teacher, which then is any name of ours or of GluonCV's",
    )
    temperature: float = flag(
        '--temperature',
        type=number(float, 0, open_low=True),
        default=20.0,
        help='of the softmax of teacher and student',
    )
    hard_weight: float = flag(
        '--hard-weight', type=number(float, 0), default=0.5, help='weight of the labels; 1 or more: no distillation'
    )
    ema: Optional[float] = flag(
        '--ema',
        type=number(float, 0, 1, open_low=True, open_high=True),
        metavar='DECAY',
        help='validate a moving average of the weights, such as 0.9999, as well, and keep the better of both',
    )

    @property
    def teaches(self) -> bool:
        """Return whether there is a teacher: with a hard weight of 1 or more it would have no effect."""
        return bool(self.teacher) and self.hard_weight < 1

    def idle(self) -> Idle:
        if not self.teacher:
            yield ['teacher_params', 'temperature', 'hard_weight'], '--teacher, which is not given'


@dataclass(frozen=True)
class StartSettings(Group):
    """The initial parameters of the network."""

    title = 'fine-tuning'

    use_pretrained: Union[bool, str] = flag(
        '--use-pretrained',
        type=source_or_off,
        nargs='?',
        const='best',
        default=False,
        metavar='SOURCE',
        help='start from public weights of torchvision, timm, pytorchcv, gluoncv or open-atac, which are downloaded '
        '(timm:TAG or timm:MODEL.TAG for certain ones), from those that come with the project (cifar10), or from the '
        'best there are for this network if no SOURCE is given (default: off, which is none); the classifier starts '
        'afresh if it has another number of classes, and attention units and connections where there are weights '
        'without them only',
    )
    weights_dir: Optional[str] = weights_dir_flag('public weights, also of a --teacher')
    init_params: Optional[str] = flag(
        '--init-params',
        metavar='FILE',
        help='also from this .params file or checkpoint, or from the best parameters of this run folder',
    )
    freeze_stages: int = flag(
        '--freeze-stages',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='freeze the first N stages and everything before them, including running statistics',
    )


@dataclass(frozen=True)
class MachineSettings(Group):
    """Where and how the network is computed, and the seed of all random numbers."""

    title = 'machine'

    gpus: str = flag(
        '--gpus', default='0', help="numbers of the GPUs, separated by commas; the CPU if none is visible, or for ''"
    )
    num_gpus: Optional[int] = None  # in the place of `gpus`
    horovod: bool = switch(
        '--horovod',
        help='one of several processes that train together, started by horovodrun; each takes --batch-size images of a '
        'step, and one GPU or the CPU',
    )
    sync_bn: bool = switch(
        '--sync-bn', help='with --horovod: batch norms take the statistics of the images of all processes'
    )
    dtype: str = flag(
        '--dtype',
        choices=('float32', 'float16', 'bfloat16'),
        default='float32',
        help='number format of the network: float16 on GPUs, bfloat16 on CPUs that have it',
    )
    mode: str = flag(
        '--mode',
        choices=('auto', 'imperative', 'hybrid', 'static'),
        default='auto',
        help='how the network runs: op by op, as a graph, as a graph with fixed memory, or what is fastest here',
    )
    recompute: bool = switch(
        '--recompute',
        help='train in less memory: keep what goes into each block of the network, and compute the rest again for the '
        'backward pass; the same gradients, but steps that may take twice as long; float32 alone',
    )
    max_skipped: int = flag(
        '--max-skipped',
        type=number(int, 0),
        default=5,
        help='steps whose loss or gradient is not finite are skipped; more than this many in a row stop the run',
    )
    seed: int = flag(
        '--seed', type=number(int, 0, 2**31 - 1), default=0, help='determines every random number of a run'
    )

    def idle(self) -> Idle:
        if not self.horovod:
            yield ['sync_bn'], '--horovod, which is not given'

    @property
    def wanted(self) -> str:
        """Return the numbers of the GPUs, with commas."""
        return self.gpus if self.num_gpus is None else ','.join(map(str, range(self.num_gpus)))

    @property
    def told(self) -> str:
        """Return the flag that selects the devices, with its value."""
        return f'--gpus {self.gpus}' if self.num_gpus is None else f'--num-gpus {self.num_gpus}'


@dataclass(frozen=True)
class RunSettings(Group):
    """The files of a run, when it ends, and what it resumes."""

    title = 'run'

    save_dir: Optional[str] = flag(
        '--save-dir',
        help='folder of the run (default: runs/DATASET-MODEL, or runs/DATASET-MODEL-2 if that is there, and so on; '
        'with --resume the last of them)',
    )
    save_period: int = flag(
        '--save-period',
        type=number(int, 0),
        default=10,
        help='epochs between parameters that are kept besides the best and the last; 0: none',
    )
    logging_file: str = flag(
        '--logging-file',
        default='train.log',
        help="text log, inside the run's folder unless absolute; appended to",
    )
    log_interval: int = flag(
        '--log-interval', type=number(int, 0), default=0, help='batches between lines of the log; 0: none'
    )
    save_plot_dir: str = flag(
        '--save-plot-dir', default='.', help="folder of the error curve, inside the run's folder unless absolute"
    )
    checkpoint_interval: int = flag(
        '--checkpoint-interval',
        type=number(int, 0),
        default=200,
        help='batches between checkpoints; 0: after epochs only',
    )
    val_interval: int = flag(
        '--val-interval',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='validate after every N-th epoch, and after the last; a row of history.csv is then of N epochs',
    )
    patience: int = flag(
        '--patience',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='end after N validations in a row without improvement; 0: train all epochs',
    )
    max_time: Optional[str] = flag(
        '--max-time',
        type=duration,
        metavar='TIME',
        help='stop after so long, such as 90m or 1.5h, as Ctrl-C does but with the exit status 0; --resume goes on, '
        'for as long again',
    )
    keep: int = flag(
        '--keep',
        type=number(int, 1),
        default=3,
        help='how many of the newest checkpoints, and parameters of --save-period, are kept',
    )
    resume: bool = switch('--resume', help="continue from the newest intact checkpoint in the run's folder")
    resume_from: Optional[str] = flag(
        '--resume-from',
        metavar='FILE',
        help='start from the parameters in this .params file or checkpoint, at the first epoch',
    )
    resume_states: Optional[str] = None
    resume_epoch: int = 0
    config: Optional[str] = flag(
        '--config',
        metavar='YAML',
        help='file of flags, or a preset by name: a1, a2, a3 in train_imagenet.py, fast10, fast30, fast100 in '
        'train_cifar.py; the command line overrides it',
    )


class Settings(Groups):
    """All settings of a run. Each script declares which groups have flags; all have these fields."""

    network: NetworkSettings
    data: DataSettings
    images: ImagesSettings
    schedule: ScheduleSettings
    rates: LayerRates
    optimizer: OptimizerSettings
    gradient: GradientSettings
    loss: LossSettings
    distillation: DistillationSettings
    start: StartSettings
    machine: MachineSettings
    run: RunSettings
    telling: TellingSettings

    def idle(self) -> Idle:
        """Yield fields that have no effect beside those of other groups, and what they are for."""
        yield from ()

    def settled(self: Own, stated: Container[str]) -> Own:
        """Return these settings with what one field says for another; `stated` are the fields that are not defaults."""
        return self
