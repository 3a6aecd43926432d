"""Training on ImageNet and the like, from RecordIO files or image folders: what train_imagenet.py has of its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from common.files import expanded
from data.augmentation.crop import ImagenetAugment
from data.classification.dataset import check_classes
from data.classification.decoder import Decoding
from data.classification.imagenet import (
    Sources,
    image_loaders,
    imagenet_preprocessing,
    images_per_second,
    noise_sources,
    record_sources,
)
from data.classification.places import open_sources
from data.classification.survey import Survey, survey
from data.label_noise import with_label_noise
from data.recordio.parts import find_records
from data.sampler import Sampler
from data.split_names import held_out
from environment import UsageError
from training import seeds
from training.config.imagenet import ImagenetCuts, ImagenetData, ImagenetNetwork, ImagenetSettings
from training.config.model_options import act_type, check_reduction, with_options
from training.logging.text_log import imagenet_lines
from training.task import Network, RunData
from training.tasks.augmentation import further
from training.tasks.classification import Classification

__all__ = ['ImagenetTask', 'chosen_network', 'record_files']

# The original's network, and its defaults where --model does not name one.
ORIGINAL = 'resnet50_v1b'
CLASSES = 1000
STEPS = 200  # that --data-only measures at most
DEFAULTS = {'act_type': 'ChaATAC', 'r': 4, 'act_layers': 2}


def chosen_network(settings: ImagenetNetwork, classes: int) -> Network:
    """Return what `--model` and its companions ask for. Raises `UsageError` naming the flag at fault. Needs MXNet."""
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
    options = with_options(options, settings.option)
    try:
        get_model(name, **options)
    except ValueError as error:
        raise UsageError(f'--model: {error}') from None
    return Network(name, options)


def with_se(name: str) -> str:
    """Return the name with squeeze-and-excitation: se_ before its backbone."""
    from model.grammar import split_name

    try:
        parsed = split_name(name)
    except ValueError as error:
        raise UsageError(f'--model: {error}') from None
    if parsed.unit or parsed.connection == 'dia':
        raise UsageError(f'--use_se is given and --model {name} has an attention unit already; leave --use_se out')
    lead = next(lead for lead in ('cifar_atac_', 'cifar_', 'atac_', '') if name.startswith(lead))
    return f'{lead}se_{name[len(lead) :]}'


def sources(settings: ImagenetData, cuts: ImagenetCuts, noise: int) -> Sources:
    """Return the images that the flags name, or for --benchmark so many of `noise`."""
    preprocessing = imagenet_preprocessing(cuts.input_size, cuts.crop_ratio, cuts.interpolation)
    if settings.benchmark:
        return noise_sources(noise, settings.classes or CLASSES, preprocessing)
    folder = expanded(settings.data_dir)
    if not settings.use_rec:
        return open_sources(folder, preprocessing, settings.classes)
    train, val = record_files(settings.rec_train, settings.rec_val, folder / 'rec')
    return record_sources(train, val, preprocessing, settings.classes, settings.rec_train_idx, settings.rec_val_idx)


def record_files(train: Optional[str], val: Optional[str], folder: Path) -> Tuple[Path, Path]:
    """Return what --rec-train and --rec-val name.

    By default train.rec and val.rec in `folder`, or what it has by such names.

    Where it has none, and --rec-train alone is given, what lies beside that.
    """
    given = {'train': train and expanded(train), 'val': val and expanded(val)}
    files = {part: [folder / f'{part}.rec'] for part in given}  # where they are missing, opening them says so
    place = folder if any(folder.glob('*.rec')) else given['train']
    if None in given.values() and place and place.exists():
        found = find_records(place)
        files.update({part: found.files(part) for part in given if held_out(found.parts, part) or part == 'train'})
    for part in given:
        if given[part] is None and len(files[part]) > 1:
            names = ' '.join(map(str, files[part]))
            raise UsageError(
                f'{place} has {len(files[part])} files to train on, and one is wanted; join them with python '
                f'scripts/make_recordio.py {names} FOLDER'
            )
    train_file, val_file = (given[part] or files[part][0] for part in ('train', 'val'))
    return train_file, val_file


def data_name(settings: ImagenetData) -> str:
    """Return what the data set is called in manifests and in the names of folders."""
    return 'noise' if settings.benchmark else settings.data_dir


class ImagenetTask(Classification):
    """Training on ImageNet, or on other data sets that do not fit into memory."""

    modes = {'hybrid': 'static'}
    only_summary = True
    start_flag = '--resume-params'
    settings: ImagenetSettings

    def words(self) -> Tuple[str, str]:
        asked = self.settings
        own = asked.data.data_dir != ImagenetData().data_dir and not asked.data.benchmark
        return data_name(asked.data), '' if own else asked.network.model or ORIGINAL

    def survey(self) -> Optional[Survey]:
        asked = self.settings
        if asked.data.benchmark or asked.data.data_dir == ImagenetData().data_dir:
            return None
        found = survey(*sources(asked.data, asked.cuts, 0))
        return None if found.classes == CLASSES else found

    def scored_on(self) -> List[str]:
        data = self.settings.data
        if data.benchmark:
            return []
        if not data.use_rec:
            return ['--dataset', data.data_dir, '--split', 'val']
        _, val = record_files(data.rec_train, data.rec_val, expanded(data.data_dir) / 'rec')
        return ['--dataset', str(val), '--split', 'all']

    def choose(self, classes: int) -> Network:
        return chosen_network(self.settings.network, classes)

    def side(self, network: Network) -> int:
        return self.settings.cuts.input_size

    def load(self) -> RunData:
        asked, cuts, ranks = self.settings.data, self.settings.cuts, self.ranks
        batch, taken = asked.batch_size * len(self.devices), self.settings.images
        train, val = sources(asked, cuts, batch * ranks.size * (asked.benchmark or 0))
        train = with_label_noise(train, self.settings.labels.label_noise, self.settings.machine.seed)
        extra, area = self.settings.augmentation, (cuts.min_area, 1.0)
        augment = ImagenetAugment(area, cuts.max_aspect, jitter=cuts.jitter, lighting=cuts.lighting, **further(extra))
        seed = seeds.derive(self.settings.machine.seed, 'data')
        cache = 'off' if asked.benchmark else asked.cache
        decoding = Decoding(asked.num_data_workers, tolerance=taken.tolerance, cache=cache)
        data = image_loaders(
            replace(train.limited(taken.limit_train), augment=augment),
            val.limited(taken.limit_val),
            Sampler(batch, seed, rank=ranks.rank, size=ranks.size, repeats=extra.aug_repeats),
            decoding,
            wrap_val=asked.wrap_val,
            accumulate=self.settings.gradient.accumulate,
            by_class=self.settings.labels.balanced_sampling,
        )
        notes = [*train.told]
        if not asked.benchmark:
            notes += check_classes(train.name, train.labels, train.class_names)
        if self.settings.network.batch_norm:
            notes.append('--batch-norm is obsolete: it was for VGG; networks here always have batch norm')
        return RunData(
            train=data.train,
            val=data.val,
            name=data_name(asked),
            class_names=data.class_names,
            preprocessing=data.train.dataset.preprocessing,
            images=len(data.train.dataset),
            val_images=len(data.val.dataset),
            notes=notes,
        )

    @property
    def measuring(self) -> bool:
        return self.settings.data.data_only

    def measure(self, data: RunData) -> Dict[str, Any]:
        """Return the speed of the training data alone, of all processes together."""
        speed = images_per_second(data.train, max(1, min(len(data.train), STEPS)))
        (total,) = self.ranks.total([speed])
        threads = self.settings.data.num_data_workers
        return {'images_per_second': float(total), 'threads': threads, 'processes': self.ranks.size}

    def accuracy_lines(self, row: Mapping[str, Any]) -> List[str]:
        return imagenet_lines(row)
