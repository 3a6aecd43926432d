"""Training on ImageNet and the like, from RecordIO files or image folders: what train_imagenet.py has of its own."""

import argparse
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from environment import UsageError
from inference.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from training.assemble import check_batch, feeders
from training.data import load_dataset
from training.log import imagenet_lines
from training.open_atac import act_type, check_reduction
from training.ranks import Ranks
from training.task import Network, RunData, Task

__all__ = ['TASK', 'network', 'preprocessing']

# The original's network, and its defaults where --model does not name one.
ORIGINAL, LABEL = 'resnet50_v1b', 'ResNet50_v1b'
DEFAULTS = {'act_type': 'ChaATAC', 'r': 4, 'act_layers': 2}


def network(settings: argparse.Namespace, classes: int) -> Network:
    """What `--model` and its companions ask for. `UsageError` naming the flag at fault. Needs MXNet."""
    from model import get_model

    given = {name: getattr(settings, name) for name in DEFAULTS}
    if settings.model is None:
        given = {name: DEFAULTS[name] if value is None else value for name, value in given.items()}
    unit = None if given['act_type'] is None else act_type(given['act_type'])
    name = settings.model
    options: Dict[str, Any] = {'classes': classes}
    if name is None:
        name = f'atac_{ORIGINAL}' if unit == 'atac' else ORIGINAL
    if unit is not None and not (settings.model is None and unit == 'atac'):
        options['act_type'] = unit
    if settings.use_se:
        name = with_se(name)
    if given['r'] is not None and (settings.model is not None or unit.startswith('atac')):
        options['act_reduction'] = check_reduction(given['r'])
    if given['act_layers'] is not None:
        options['act_layers'] = given['act_layers']
    if settings.last_gamma:
        options['last_gamma'] = True
    if settings.use_gn:
        options['norm'] = 'group'
    try:
        get_model(name, **options)
    except ValueError as error:
        raise UsageError(f'--model: {error}') from None
    return Network(name, options, settings.model or label(settings, given))


def with_se(name: str) -> str:
    """The name with squeeze-and-excitation: se_ before its backbone."""
    from model.grammar import split_name

    try:
        parsed = split_name(name)
    except ValueError as error:
        raise UsageError(f'--model: {error}') from None
    if parsed.unit or parsed.connection == 'dia':
        raise UsageError(f'--use_se is given and --model {name} has an attention unit already; leave --use_se out')
    lead = next(lead for lead in ('cifar_atac_', 'cifar_', 'atac_', '') if name.startswith(lead))
    return f'{lead}se_{name[len(lead) :]}'


def label(settings: argparse.Namespace, given: Dict[str, Any]) -> str:
    """The original's name of its network in file names."""
    return f'{"SE_" if settings.use_se else ""}{LABEL}_{given["act_type"]}'


def preprocessing(settings: argparse.Namespace) -> Preprocessing:
    """What validation and prediction show the network."""
    size = settings.input_size
    # Rounded first: 224 / 0.875 is 256 and not a hair more.
    return Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, resize=math.ceil(round(size / settings.crop_ratio, 6)))


def record_files(settings: argparse.Namespace) -> List[Path]:
    """Training file, its index, validation file, its index."""
    folder = Path(settings.data_dir).expanduser() / 'rec'
    paths = []
    for part in ('train', 'val'):
        for flag, suffix in ((f'rec_{part}', 'rec'), (f'rec_{part}_idx', 'idx')):
            given: Optional[str] = getattr(settings, flag)
            paths.append(Path(given).expanduser() if given else folder / f'{part}.{suffix}')
    return paths


def load(settings: argparse.Namespace, devices: int, ranks: Ranks) -> RunData:
    """The images that the flags name."""
    settings.limit_train = settings.limit_val = None
    source = str(record_files(settings)[0]) if settings.use_rec else settings.data_dir
    sets = [
        load_dataset(source, split, workers=settings.num_data_workers, preprocessing=preprocessing(settings))
        for split in ('train', 'test')
    ]
    notes = list(sets[0].unreadable)
    if settings.batch_norm:
        notes.append('--batch-norm is obsolete: it spoke of VGG; networks here have batch norm without it')
    train, val = feeders(settings, *sets, devices, ranks)
    check_batch(settings, train, devices, ranks, len(sets[0]))
    return RunData(
        train, val, 'imagenet', sets[0].class_names, sets[0].preprocessing, len(sets[0]), len(sets[1]), notes
    )


def words(settings: argparse.Namespace) -> Tuple[str, str]:
    return 'imagenet', settings.model or LABEL


TASK = Task(
    'imagenet',
    network,
    load,
    words,
    imagenet_lines,
    best_figure=lambda top1: 1 - top1,
    modes={'hybrid': 'static'},
    only_summary=True,
)
