"""The settings of train_detection.py. Defaults are those of DCANet's detection experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Union

from training.config.distillation import DistillationSettings
from training.config.fields import Group, again, flag, group, switch
from training.config.flags import number, source_or_off, workers
from training.config.groups import DataSettings, NetworkSettings, Settings
from training.config.imagenet import CountedGpus
from training.config.images import interpolation_flag
from training.config.loss import LossSettings
from training.config.model_options import option_flag, plugin_flag
from training.config.optimizer import GradientSettings, OptimizerSettings
from training.config.rates import LayerRates
from training.config.run import RunSettings
from training.config.schedule import ScheduleSettings
from training.config.taken import ImagesSettings
from training.config.telling import TellingSettings
from training.config.weights_dir import weights_dir_flag

__all__ = ['DetectionData', 'DetectionSettings', 'DetectionStart', 'Detector']


@dataclass(frozen=True)
class Detector(NetworkSettings):
    """A detector by its name, and which parts of its backbone learn."""

    title = 'detector'

    model: str = flag(
        '--model',
        default='retinanet_dca_se_resnet50_v1b',
        help='retinanet_ or cascade_rcnn_, and the name of a ResNet-v1b, with any attention',
    )
    plugin: Optional[List[str]] = plugin_flag()
    option: str = option_flag()
    frozen_stages: int = flag(
        '--frozen-stages',
        type=number(int, 0, 4),
        default=1,
        metavar='N',
        help='freeze the stem and the first N stages of the backbone; 0: all learn',
    )
    train_norms: bool = switch(
        '--train-norms',
        help="batch norms of the backbone take their batch's statistics, as they must in training from nothing, and "
        'not those they came with',
    )
    summary: bool = False


@dataclass(frozen=True)
class DetectionData(DataSettings):
    """Images with boxes in COCO's format, and how they are scaled."""

    title = 'data'

    data_dir: str = flag(
        '--dataset',
        '--data-dir',
        default='~/.mxnet/datasets/coco',
        help='folder with annotations/instances_train2017.json and train2017/, instances_val2017.json and val2017/; or '
        'other usual names, or train/_annotations.coco.json and valid/_annotations.coco.json',
    )
    train_annotations: Optional[str] = flag(
        '--train-annotations', metavar='JSON', help='of the images to train on, in COCO format'
    )
    train_images: Optional[str] = flag('--train-images', metavar='FOLDER', help='the images to train on')
    val_annotations: Optional[str] = flag(
        '--val-annotations', metavar='JSON', help='of the images to validate on, in COCO format'
    )
    val_images: Optional[str] = flag('--val-images', metavar='FOLDER', help='the images to validate on')
    categories: Optional[str] = flag(
        '--categories', help='names, or ids, with commas, in the order of the labels (default: all of the file, by id)'
    )
    short: int = flag('--short', type=number(int, 32), default=800, help='shorter side of images, at most, in pixels')
    max_size: int = flag('--max-size', type=number(int, 32), default=1333, help='longer side, at most, in pixels')
    interpolation: str = interpolation_flag('images')
    no_flip: bool = switch('--no-flip', help='do not mirror images; otherwise half of them are')
    batch_size: int = flag('--batch-size', type=number(int, 1), default=2, help='images per device and step')
    num_data_workers: int = flag('-j', '--num-data-workers', type=workers, default=2, help='threads that decode images')


@dataclass(frozen=True)
class DetectionSchedule(ScheduleSettings):
    """24 epochs after mmdetection's warm-up, which scales the rate of the schedule without it."""

    num_epochs: int = again(ScheduleSettings, 'num_epochs', default=24)
    lr: float = again(ScheduleSettings, 'lr', default=0.01)
    lr_decay_epoch: str = again(ScheduleSettings, 'lr_decay_epoch', default='16,22')
    warmup_epochs: int = again(ScheduleSettings, 'warmup_epochs', help='or this many epochs of linear warm-up')
    warmup_steps: int = again(ScheduleSettings, 'warmup_steps', default=500, help='steps of linear warm-up')
    warmup_lr: float = 0.0
    warmup_ratio: Optional[float] = flag(
        '--warmup-ratio',
        type=number(float, 0, 1),
        default=1 / 3,
        help="share of the learning rate at the warm-up's start",
    )
    scale_lr: Optional[int] = again(
        ScheduleSettings,
        'scale_lr',
        help='take --lr and --min-lr as meant for steps of this many images (256 if given without a number): scale to '
        'the images per step of all devices and processes',
    )


@dataclass(frozen=True)
class DetectionRates(LayerRates):
    """`LayerRates`, with everything behind the backbone in place of the classifier."""

    head_lr: Optional[float] = again(
        LayerRates,
        'head_lr',
        help="learning rate of everything but the backbone, instead of --lr, following --lr's course (default: --lr)",
    )


@dataclass(frozen=True)
class DetectionOptimizer(OptimizerSettings):
    """Plain momentum by default."""

    optimizer: str = again(OptimizerSettings, 'optimizer', default='sgd')


@dataclass(frozen=True)
class DetectionGradient(GradientSettings):
    """Clipped as in DCANet's experiments."""

    clip_norm: float = again(GradientSettings, 'clip_norm', default=35.0)


@dataclass(frozen=True)
class DetectionStart(Group):
    """The initial parameters of the detector, or of its backbone alone."""

    title = 'start'

    backbone_params: Optional[str] = flag(
        '--backbone-params',
        metavar='FILE',
        help="parameters of the backbone as a classifier, to start from: a .params file of ours or of GluonCV's",
    )
    use_pretrained: Union[bool, str] = flag(
        '--use-pretrained',
        type=source_or_off,
        nargs='?',
        const='best',
        default=False,
        metavar='SOURCE',
        help='likewise public weights of torchvision, timm, pytorchcv or gluoncv, which are downloaded (timm:TAG for '
        'certain ones), or the best there are for this backbone if no SOURCE is given (default: off, which is none)',
    )
    weights_dir: Optional[str] = weights_dir_flag('--use-pretrained')
    init_params: Optional[str] = flag(
        '--init-params',
        metavar='FILE',
        help='start from a whole detector: a .params file or checkpoint, with as many classes',
    )


@dataclass(frozen=True)
class DetectionMachine(CountedGpus):
    """`CountedGpus` for training in float32."""

    dtype: str = 'float32'
    recompute: bool = False
    mode: str = again(CountedGpus, 'mode', default='hybrid')


@dataclass(frozen=True)
class DetectionRun(RunSettings):
    """`RunSettings` with a line for every 50 steps."""

    log_interval: int = again(RunSettings, 'log_interval', default=50)


@dataclass(frozen=True)
class DetectionSettings(Settings):
    """The settings of `train_detection.py`. Detectors have no mixtures, teachers or averages."""

    network: Detector = group(Detector)
    data: DetectionData = group(DetectionData)
    images: ImagesSettings = group(ImagesSettings)
    schedule: DetectionSchedule = group(DetectionSchedule)
    rates: DetectionRates = group(DetectionRates)
    optimizer: DetectionOptimizer = group(DetectionOptimizer)
    gradient: DetectionGradient = group(DetectionGradient)
    start: DetectionStart = group(DetectionStart)
    machine: DetectionMachine = group(DetectionMachine)
    run: DetectionRun = group(DetectionRun)
    telling: TellingSettings = group(TellingSettings)
    loss: LossSettings = LossSettings()
    distillation: DistillationSettings = DistillationSettings()
