"""The settings of train_cifar.py. Defaults are open-atac's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Container, List, Optional

from data.choices import BORDERS, FLIPS
from training.config.augmentation import AugmentSettings
from training.config.class_loss import ClassLossSettings, LabelSettings
from training.config.distillation import DistillationSettings
from training.config.fields import Idle, flag, group, switch
from training.config.flags import number, of_channels, workers
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

__all__ = ['CifarData', 'CifarNetwork', 'CifarSettings']


@dataclass(frozen=True)
class CifarNetwork(NetworkSettings):
    """A network by its name, or open-atac's by its parts."""

    title = 'network'

    model: str = flag(
        '--model',
        default='xxx',
        help='a name such as cifar_atac_resnet20_v2, which the next flags change where they are given; '
        "or 'atac', the original's network, which they describe (default: none, so one has to be given)",
    )
    blocks: int = flag(
        '--blocks',
        type=number(int, 0),
        default=0,
        help='blocks per stage b of --model atac; the depth is 6 b + 2',
    )
    act_type: str = flag(
        '--act-type',
        default='xxx',
        help='relu, prelu, elu, selu, gelu, swish, xUnit, ChaATAC, SpaATAC, SeqATAC (default: that of --model, which '
        "'atac' leaves open)",
    )
    r: int = flag(
        '--r',
        type=number(int, -1),
        default=-1,
        help="channel reduction in ATAC units (default: 2, or what --model says; 'atac' needs it)",
    )
    act_layers: Optional[int] = flag(
        '--act-layers',
        type=number(int, 0),
        help='places with --act-type, from the end: tail, stages 3, 2, 1 (default: all 4; for a name, its own)',
    )
    useGlobal: bool = switch('--useGlobal', help='global instead of local context in ATAC units')
    useReLU: bool = switch('--useReLU', help='a ReLU inside ATAC units')
    drop_rate: float = flag(
        '--drop-rate',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        help='dropout before the classifier',
    )
    block_drop: float = flag(
        '--block-drop',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        help='dropout in the blocks of wide ResNets',
    )
    plugin: Optional[List[str]] = plugin_flag()
    option: str = option_flag()
    summary: bool = switch('--summary', help='print the layers, then train')


@dataclass(frozen=True)
class CifarData(DataSettings):
    """Small images, kept in memory, and how they are changed at random."""

    title = 'data'

    dataset: str = flag(
        '--dataset',
        default='cifar10',
        help='cifar10, cifar100 (100 classes), cifar100_coarse (its 20 superclasses, on which the original trained), '
        'digits, a folder of class folders, directly or below train/ and val/ (or other usual names), a tar or zip '
        'file of one, a .rec file, or a .csv or .lst file of paths and labels, several for an image if need be',
    )
    data_dir: Optional[str] = flag(
        '--data-dir',
        help='where the archives of CIFAR are, or are downloaded to; or, without --dataset, what that may be',
    )
    input_size: Optional[int] = flag(
        '--input-size',
        type=number(int, 1),
        help="side of the network's input in pixels, which images are scaled to (default: 32 for the named data sets, "
        'for others what the network is made for)',
    )
    mean: Optional[str] = flag(
        '--mean', type=of_channels(0), help="of R, G, B on the scale 0 to 1 (default: the data set's)"
    )
    std: Optional[str] = flag(
        '--std',
        type=of_channels(0, open_low=True),
        help="that images are divided by after the mean is taken off (default: the data set's)",
    )
    crop_pad: Optional[int] = flag(
        '--crop-pad',
        type=number(int, 0, 1024),
        help="pixels that training images are shifted by at most (default: the data set's; 4, and 2 for digits)",
    )
    crop_border: Optional[str] = flag(
        '--crop-border',
        choices=BORDERS,
        help="what moves in: black, or the image mirrored at its edge (default: the data set's, black)",
    )
    flip: Optional[str] = flag(
        '--flip',
        choices=FLIPS,
        help='flip training images left and right: half of them at random, each in every second epoch, or none '
        "(default: the data set's; random, and off for digits)",
    )
    no_augment: bool = switch('--no-augment', help='train on the images as they are, neither shifted nor flipped')
    interpolation: str = interpolation_flag('image files')
    batch_size: int = flag('--batch-size', type=number(int, 1), default=32, help='images per device and step')
    num_data_workers: int = flag(
        '-j',
        '--num-data-workers',
        type=workers,
        default=4,
        help='threads that decode image files at the start',
    )

    def idle(self) -> Idle:
        from data.classification.by_name import DATASETS  # which NumPy comes with
        from data.classification.cifar import CIFAR

        if self.dataset not in CIFAR and self.data_dir != self.dataset:
            yield ['data_dir'], f'the archives of CIFAR, and --dataset is {self.dataset}'
        if self.no_augment:
            yield ['crop_pad', 'crop_border', 'flip'], 'changes of images, which --no-augment leaves out'
        if self.dataset in DATASETS and self.input_size is None:
            yield ['interpolation'], f'images of another size than the network sees, and --dataset is {self.dataset}'


@dataclass(frozen=True)
class CifarSettings(Settings):
    """The settings of `train_cifar.py`."""

    network: CifarNetwork = group(CifarNetwork)
    data: CifarData = group(CifarData)
    images: OwnImages = group(OwnImages)
    augmentation: AugmentSettings = group(AugmentSettings)
    schedule: ScheduleSettings = group(ScheduleSettings)
    rates: LayerRates = group(LayerRates)
    optimizer: OptimizerSettings = group(OptimizerSettings)
    gradient: GradientSettings = group(GradientSettings)
    labels: LabelSettings = group(LabelSettings)
    loss: ClassLossSettings = group(ClassLossSettings)
    distillation: DistillationSettings = group(DistillationSettings)
    start: StartSettings = group(StartSettings)
    machine: MachineSettings = group(MachineSettings)
    run: RunSettings = group(RunSettings)
    telling: TellingSettings = group(TellingSettings)

    def idle(self) -> Idle:
        from data.classification.by_name import DATASETS  # which NumPy comes with

        if self.data.dataset in DATASETS:
            why = f'image files of your own, and --dataset is {self.data.dataset}'
            yield ['max_bad', 'max_bad_share', 'original_defaults'], why

    def settled(self, stated: Container[str]) -> CifarSettings:
        """Return these settings with --data-dir for --dataset, where it alone is given and has no place for CIFAR."""
        from data.classification.cifar import is_place  # which NumPy comes with

        place = self.data.data_dir
        if place is None or 'dataset' in stated or is_place(place):
            return self
        return self.changed('data', dataset=place)
