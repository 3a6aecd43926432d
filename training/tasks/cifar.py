"""Training on small images, in memory: what train_cifar.py has of its own."""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from common.files import expanded
from data.augmentation.shift import Augment
from data.balanced import balanced
from data.classification.by_name import DATASETS, default_preprocessing, load_splits, scaled
from data.classification.dataset import ImageDataset, check_classes
from data.classification.loader import Loader
from data.classification.places import load_of, open_sources
from data.classification.survey import Survey, survey
from data.label_noise import with_label_noise
from data.sampler import Sampler
from environment import UsageError
from training import seeds
from training.config.augmentation import AugmentSettings
from training.config.cifar import CifarData, CifarNetwork, CifarSettings
from training.config.model_options import act_type, check_reduction, with_options
from training.distributed.ranks import Ranks
from training.task import Network, RunData, check_batch
from training.tasks.augmentation import further
from training.tasks.classification import Classification

__all__ = ['CifarTask', 'chosen_network', 'loaders']

SIDE = 32  # pixels of images, where no flag and no network says otherwise


def chosen_network(settings: CifarNetwork, classes: int) -> Network:
    """Return what `--model` and its companions ask for. Raises `UsageError` naming the flag at fault. Needs MXNet."""
    from model import get_model

    options: Dict[str, Any] = {'classes': classes}
    if settings.drop_rate:
        options['final_drop'] = settings.drop_rate
    if settings.block_drop:
        options['block_drop'] = settings.block_drop
    if settings.model == 'atac':
        name, more = _original(settings)
    else:
        name, more = _named(settings)
    options = with_options({**options, **more}, settings.option)
    try:
        get_model(name, **options)
    except ValueError as error:
        raise UsageError(f'--model: {error}') from None
    return Network(name, options)


def _original(settings: CifarNetwork) -> Tuple[str, Dict[str, Any]]:
    if settings.blocks < 1:
        raise UsageError(f'--blocks is {settings.blocks}; allowed: 1 and above, open-atac trains --blocks 1 to 5')
    if settings.act_type == 'xxx':
        raise UsageError('--act-type is missing; open-atac trains --act-type ChaATAC, and relu to compare with')
    unit = act_type(settings.act_type)
    options: Dict[str, Any] = {'act_layers': 4 if settings.act_layers is None else settings.act_layers}
    prefix = ''
    if unit == 'atac':
        prefix = 'atac_'
        options['act_reduction'] = check_reduction(settings.r)
        options['act_relu'], options['act_global'] = settings.useReLU, settings.useGlobal
    else:
        options['act_type'] = unit
        if unit.startswith('atac'):
            options['act_relu'] = settings.useReLU
        options.update(_of_units(settings))
    return f'cifar_{prefix}resnet{6 * settings.blocks + 2}_v2', options


def _named(settings: CifarNetwork) -> Tuple[str, Dict[str, Any]]:
    if settings.model == 'xxx':
        raise UsageError(
            '--model is missing; name a network such as cifar_atac_resnet20_v2, or give --model atac --blocks 3'
        )
    if settings.blocks != 0:
        raise UsageError(f'--blocks {settings.blocks} belongs to --model atac; {settings.model} names its depth')
    options: Dict[str, Any] = {}
    if settings.act_type != 'xxx':
        options['act_type'] = act_type(settings.act_type)
    if settings.act_layers is not None:
        options['act_layers'] = settings.act_layers
    options.update(_of_units(settings))
    return settings.model, options


def _of_units(settings: CifarNetwork) -> Dict[str, Any]:
    """Return what flags say of activation units. `Task.check_flags` refuses what the network's do not read."""
    options: Dict[str, Any] = {}
    if settings.r != -1:
        options['act_reduction'] = check_reduction(settings.r)
    if settings.useGlobal:
        options['act_global'] = True
    if settings.useReLU:
        options['act_relu'] = True
    return options


def normalised(dataset: ImageDataset, mean: Optional[str], std: Optional[str]) -> ImageDataset:
    """Return the images with the mean and the standard deviation that --mean and --std give in place of their own."""
    given = {'mean': mean, 'std': std}
    changes = {name: [float(part) for part in text.split(',')] for name, text in given.items() if text is not None}
    return replace(dataset, preprocessing=replace(dataset.preprocessing, **changes))


def augmented(dataset: ImageDataset, settings: CifarData, extra: AugmentSettings) -> ImageDataset:
    """Return the images with what flags give in place of their own augmentation, and beside it."""
    if settings.no_augment:
        for flag, value in (('--auto-augment', extra.auto_augment != 'off'), ('--random-erase', extra.random_erase)):
            if value:
                raise UsageError(f'--no-augment and {flag} are both given; leave one of them out')
        return replace(dataset, augment=Augment(pad=0, flip='off'))
    given = {'pad': settings.crop_pad, 'border': settings.crop_border, 'flip': settings.flip}
    given = {name: value for name, value in given.items() if value is not None}
    augment = replace(dataset.augment, **given, **further(extra))
    if settings.crop_border is not None and augment.pad == 0:
        raise UsageError('--crop-border is for images that are shifted, and --crop-pad is 0; leave it out')
    short = min(dataset.images.shape[1:3])
    if augment.border == 'mirror' and augment.pad >= short:
        raise UsageError(f'--crop-pad is {augment.pad}; allowed with --crop-border mirror here: 0 to {short - 1}')
    return replace(dataset, augment=augment)


def loaders(
    settings: CifarSettings, train: ImageDataset, val: ImageDataset, devices: int, ranks: Ranks
) -> Tuple[Loader, Loader]:
    """Augmented, shuffled, whole batches for training; every image once for validation; this rank's share of both."""
    batch = settings.data.batch_size * devices
    seed = seeds.derive(settings.machine.seed, 'data')
    shard, repeats = Sampler(batch, rank=ranks.rank, size=ranks.size), settings.augmentation.aug_repeats
    train = train.limited(settings.images.limit_train)
    order = replace(shard, seed=seed, shuffle=True, last='discard', repeats=repeats)
    order = order.grouped(settings.gradient.accumulate)
    if settings.labels.balanced_sampling:
        order = balanced(order, train.labels)
    train_loader = Loader(train, order, augment=True)
    check_batch(settings, train_loader, devices * ranks.size, len(train_loader.dataset))
    return train_loader, Loader(val.limited(settings.images.limit_val), shard)


class CifarTask(Classification):
    """Training on CIFAR, the digits, or other small images."""

    settings: CifarSettings

    def words(self) -> Tuple[str, str]:
        asked = self.settings
        return asked.data.dataset, asked.network.model if asked.data.dataset in DATASETS else ''

    def survey(self) -> Optional[Survey]:
        name = self.settings.data.dataset
        place = expanded(name)
        if name in DATASETS or load_of(place) is None:  # which loading tells
            return None
        return survey(*open_sources(place, default_preprocessing(SIDE)))

    def scored_on(self) -> List[str]:
        data = self.settings.data
        return [
            '--dataset',
            data.dataset,
            *(['--data-dir', data.data_dir] if data.data_dir not in (None, data.dataset) else []),
            '--split',
            'val',
        ]

    def choose(self, classes: int) -> Network:
        return chosen_network(self.settings.network, classes)

    def load(self) -> RunData:
        asked = self.settings.data
        train_set, val_set = load_splits(
            asked.dataset,
            ['train', 'val'],
            data_dir=asked.data_dir,
            size=asked.input_size or SIDE,
            workers=asked.num_data_workers,
            interpolation=asked.interpolation,
            tolerance=self.settings.images.tolerance,
        )
        if asked.dataset in DATASETS and asked.input_size is not None:
            train_set, val_set = (
                scaled(dataset, asked.input_size, asked.interpolation) for dataset in (train_set, val_set)
            )
        train_set = with_label_noise(train_set, self.settings.labels.label_noise, self.settings.machine.seed)
        notes = [*train_set.told, *check_classes(train_set.name, train_set.labels, train_set.class_names)]
        val_set = val_set.with_classes(train_set.class_names)
        train_set, val_set = (normalised(dataset, asked.mean, asked.std) for dataset in (train_set, val_set))
        train_set = augmented(train_set, asked, self.settings.augmentation)
        train, val = loaders(self.settings, train_set, val_set, len(self.devices), self.ranks)
        return RunData(
            train=train,
            val=val,
            name=train_set.name,
            class_names=train_set.class_names,
            preprocessing=train_set.preprocessing,
            images=len(train.dataset),
            val_images=len(val.dataset),
            notes=[*notes, *train_set.unreadable, *val_set.unreadable],
        )
