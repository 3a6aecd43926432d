"""The settings of train_imagenet.py. Defaults are open-atac's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from training.config.augmentation import AugmentSettings
from training.config.class_loss import ClassLossSettings, LabelSettings
from training.config.distillation import DistillationSettings
from training.config.fields import Group, Idle, again, flag, group, switch
from training.config.flags import number, workers
from training.config.groups import DataSettings, NetworkSettings, Settings
from training.config.images import interpolation_flag
from training.config.machine import MachineSettings
from training.config.model_options import option_flag, plugin_flag
from training.config.optimizer import GradientSettings, OptimizerSettings
from training.config.rates import LayerRates
from training.config.run import RunSettings
from training.config.schedule import ScheduleSettings
from training.config.start import StartSettings
from training.config.taken import OwnImages
from training.config.telling import TellingSettings

__all__ = ['CountedGpus', 'ImagenetCuts', 'ImagenetData', 'ImagenetNetwork', 'ImagenetSettings']


@dataclass(frozen=True)
class ImagenetNetwork(NetworkSettings):
    """A network by its name, or open-atac's by its parts."""

    title = 'network'

    model: Optional[str] = flag(
        '--model',
        help="a name such as atac_resnet50_v1b, which the next flags change where they are given (default: open-atac's "
        'ResNet-50 v1b, which they describe)',
    )
    act_type: Optional[str] = flag(
        '--act-type', help='relu, ChaATAC and other units (default: ChaATAC; for a name, its own)'
    )
    r: Optional[int] = flag(
        '--r', type=number(int, 1), help='channel reduction in ATAC units (default: 4; for a name, its own)'
    )
    act_layers: Optional[int] = flag(
        '--act-layers',
        type=number(int, 0),
        help='stages with --act-type, from the end (default: 2; for a name, its own)',
    )
    last_gamma: bool = switch('--last-gamma', help='the last norm of every block starts at 0: it begins as identity')
    use_gn: bool = switch('--use-gn', help='group norm instead of batch norm, outside the activation units')
    use_se: bool = switch('--use_se', help='squeeze-and-excitation in every block (se_ in names)')
    batch_norm: bool = switch('--batch-norm', help='obsolete: it was for VGG; networks here always have batch norm')
    plugin: Optional[List[str]] = plugin_flag()
    option: str = option_flag()
    summary: bool = switch('--summary', help='print the layers and end')


@dataclass(frozen=True)
class ImagenetData(DataSettings):
    """The images, and how they are read."""

    title = 'data'

    data_dir: str = flag(
        '--dataset',
        '--data-dir',
        default='~/.mxnet/datasets/imagenet',
        help='folder of train/ and val/ (or other usual names), each with a folder for each class, or of these without '
        'parts: every fifth image is held out then; a tar or zip file of one; a .rec file; a .csv or .lst file of '
        'paths and labels, several for an image if need be',
    )
    rec_train: Optional[str] = flag('--rec-train', help='RecordIO file (default: rec/train.rec in --data-dir)')
    rec_train_idx: Optional[str] = flag('--rec-train-idx', help='its index (default: rec/train.idx in --data-dir)')
    rec_val: Optional[str] = flag('--rec-val', help='RecordIO file (default: rec/val.rec in --data-dir)')
    rec_val_idx: Optional[str] = flag('--rec-val-idx', help='its index (default: rec/val.idx in --data-dir)')
    use_rec: bool = switch('--use-rec', help='read RecordIO files instead of folders')
    batch_size: int = flag('--batch-size', type=number(int, 1), default=32, help='images per device and step')
    num_data_workers: int = flag(
        '-j', '--num-data-workers', type=workers, default=4, help='threads that decode and change images'
    )
    cache: str = flag(
        '--cache',
        choices=('off', 'auto', '256'),
        default='auto',
        help='decoded images kept in memory: none, all if they fit, or all brought to a short side of 256 pixels first',
    )
    classes: Optional[int] = flag('--classes', type=number(int, 2), help='classes (default: as many as in the data)')
    benchmark: Optional[int] = flag(
        '--benchmark',
        type=number(int, 1),
        nargs='?',
        const=100,
        metavar='STEPS',
        help='train on noise instead of files, with this many steps per epoch (100 if given without a number)',
    )
    wrap_val: bool = switch(
        '--wrap-val',
        help='validate as the original: the last batch is filled up with the first images, the next validation begins '
        'after these, so that some count twice or not at all (default: every image once)',
    )
    data_only: bool = switch('--data-only', help='measure the speed of the training data alone, and exit')

    def idle(self) -> Idle:
        if not self.use_rec:
            yield ['rec_train', 'rec_train_idx', 'rec_val', 'rec_val_idx'], '--use-rec, which is not given'


@dataclass(frozen=True)
class ImagenetCuts(Group):
    """How images are cropped, and how the crops are changed at random."""

    title = 'data'

    min_area: float = flag(
        '--min-area',
        type=number(float, 0, 1, open_low=True),
        default=0.08,
        help='training cuts out this share of an image at least',
    )
    max_aspect: float = flag(
        '--max-aspect',
        type=number(float, 1, 100),
        default=4 / 3,
        help="the cut's longer side over its shorter one at most",
    )
    jitter: float = flag(
        '--jitter',
        type=number(float, 0, 1),
        default=0.4,
        help='brightness, contrast and saturation of a cut change by up to this share',
    )
    lighting: float = flag(
        '--lighting',
        type=number(float, 0, 10),
        default=0.1,
        help="standard deviation of the noise along the principal components of ImageNet's colours",
    )
    input_size: int = flag(
        '--input-size', type=number(int, 1), default=224, help="side of the network's input in pixels"
    )
    crop_ratio: float = flag(
        '--crop-ratio',
        type=number(float, 0, 1, open_low=True),
        default=0.875,
        help='validation cuts this share out of the centre of the short side',
    )
    interpolation: str = interpolation_flag('cuts')


@dataclass(frozen=True)
class ImagenetSchedule(ScheduleSettings):
    """Three epochs, the original's default."""

    num_epochs: int = again(ScheduleSettings, 'num_epochs', default=3)


@dataclass(frozen=True)
class CountedGpus(MachineSettings):
    """`MachineSettings` with a number of GPUs instead of a list."""

    gpus: str = ''
    num_gpus: int = flag('--num-gpus', type=number(int, 0), default=0, help='how many GPUs; 0 is the CPU')


@dataclass(frozen=True)
class ImagenetRun(RunSettings):
    """`RunSettings` with the original's names, and starting from any epoch."""

    save_period: int = again(RunSettings, 'save_period', '--save-frequency')
    logging_file: str = again(RunSettings, 'logging_file', default='train_imagenet.log')
    log_interval: int = again(RunSettings, 'log_interval', default=50)
    resume_from: Optional[str] = again(
        RunSettings,
        'resume_from',
        '--resume-params',
        help='start from the parameters in this .params file or checkpoint, at --resume-epoch',
    )
    resume_states: Optional[str] = flag(
        '--resume-states', metavar='FILE', help="and with the optimizer's state in this checkpoint"
    )
    resume_epoch: int = flag('--resume-epoch', type=number(int, 0), default=0, help='epochs that are done already')


@dataclass(frozen=True)
class ImagenetSettings(Settings):
    """The settings of `train_imagenet.py`."""

    network: ImagenetNetwork = group(ImagenetNetwork)
    data: ImagenetData = group(ImagenetData)
    images: OwnImages = group(OwnImages)
    cuts: ImagenetCuts = group(ImagenetCuts)
    augmentation: AugmentSettings = group(AugmentSettings)
    schedule: ImagenetSchedule = group(ImagenetSchedule)
    rates: LayerRates = group(LayerRates)
    optimizer: OptimizerSettings = group(OptimizerSettings)
    gradient: GradientSettings = group(GradientSettings)
    labels: LabelSettings = group(LabelSettings)
    loss: ClassLossSettings = group(ClassLossSettings)
    distillation: DistillationSettings = group(DistillationSettings)
    start: StartSettings = group(StartSettings)
    machine: CountedGpus = group(CountedGpus)
    run: ImagenetRun = group(ImagenetRun)
    telling: TellingSettings = group(TellingSettings)
