"""Training on small images, in memory: what train_cifar.py has of its own."""

import argparse
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from data.classification.by_name import load_splits
from data.classification.dataset import ImageDataset, check_classes
from environment import UsageError
from training.assemble import loaders
from training.config.model_options import act_type, check_reduction, with_options
from training.distributed.ranks import Ranks
from training.logging.text_log import epoch_line
from training.task import Network, RunData, Task

__all__ = ['TASK', 'network']


def network(settings: argparse.Namespace, classes: int) -> Network:
    """What `--model` and its companions ask for. `UsageError` naming the flag at fault. Needs MXNet."""
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
    label = name[len('cifar_') :] if name.startswith('cifar_') else name
    if 'act_type' in options:
        label += f'_{options["act_type"]}'
    return Network(name, options, label)


def _original(settings: argparse.Namespace) -> Any:
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


def _named(settings: argparse.Namespace) -> Any:
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


def _of_units(settings: argparse.Namespace) -> Dict[str, Any]:
    """What flags say of activation units. `training.config.idle` refuses what the network's do not read."""
    options: Dict[str, Any] = {}
    if settings.r != -1:
        options['act_reduction'] = check_reduction(settings.r)
    if settings.useGlobal:
        options['act_global'] = True
    if settings.useReLU:
        options['act_relu'] = True
    return options


def normalised(dataset: ImageDataset, mean: Optional[str], std: Optional[str]) -> ImageDataset:
    """The images with the mean and the standard deviation that --mean and --std give in place of their own."""
    given = {'mean': mean, 'std': std}
    changes = {name: [float(part) for part in text.split(',')] for name, text in given.items() if text is not None}
    return replace(dataset, preprocessing=replace(dataset.preprocessing, **changes))


def augmented(dataset: ImageDataset, settings: argparse.Namespace) -> ImageDataset:
    """The images with what --crop-pad, --crop-border and --flip give in place of their own augmentation."""
    given = {'pad': settings.crop_pad, 'border': settings.crop_border, 'flip': settings.flip}
    augment = replace(dataset.augment, **{name: value for name, value in given.items() if value is not None})
    if settings.crop_border is not None and augment.pad == 0:
        raise UsageError('--crop-border is for images that are shifted, and --crop-pad is 0; leave it out')
    short = min(dataset.images.shape[1:3])
    if augment.border == 'mirror' and augment.pad >= short:
        raise UsageError(f'--crop-pad is {augment.pad}; allowed with --crop-border mirror here: 0 to {short - 1}')
    return replace(dataset, augment=augment)


def load(settings: argparse.Namespace, devices: int, ranks: Ranks) -> RunData:
    """Both splits of --dataset."""
    train_set, val_set = load_splits(
        settings.dataset,
        ['train', 'val'],
        data_dir=settings.data_dir,
        workers=settings.num_data_workers,
        interpolation=settings.interpolation,
    )
    notes = [*train_set.told, *check_classes(train_set.name, train_set.labels, train_set.class_names)]
    val_set = val_set.with_classes(train_set.class_names)
    train_set, val_set = (normalised(dataset, settings.mean, settings.std) for dataset in (train_set, val_set))
    train_set = augmented(train_set, settings)
    train, val = loaders(settings, train_set, val_set, devices, ranks)
    return RunData(
        train,
        val,
        train_set.name,
        train_set.class_names,
        train_set.preprocessing,
        len(train.dataset),
        len(val.dataset),
        [*notes, *train_set.unreadable],
    )


def words(settings: argparse.Namespace) -> Tuple[str, str]:
    return settings.dataset, settings.model


def lines(row: Mapping[str, Any]) -> List[str]:
    return [epoch_line(row)]


TASK = Task('cifar', network, load, words, lines, best_figure=lambda top1: top1)
