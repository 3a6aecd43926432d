"""Training detectors on data sets in COCO's format: what train_detection.py has of its own."""

import argparse
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
from mxnet import autograd, nd

import kernels
from common.files import expanded
from common.text import printable
from data.coco.categories import Classes
from data.coco.dataset import CocoDataset, locate, read_coco
from detection.evaluate import detection_scores
from detection.loader import DetectionLoader, Targets
from detection.preprocessing import DetectionPreprocessing
from detection.step import DetectionStep
from detection.zoo import get_detector
from environment import UsageError
from model.hybridization import apply_mode
from training import seeds
from training.assemble import Recipe, check_batch
from training.checkpoints.start import load_start, pretrained_file
from training.config.model_options import with_options
from training.distributed.ranks import Ranks
from training.logging.metrics import DETECTION
from training.logging.text_log import detection_lines
from training.step import build_network
from training.task import Network, RunData, Task

__all__ = ['TASK', 'DetectionRecipe', 'dataset', 'network']

SIDE = 64  # pixels of the image that shows a network its shapes
SHAPE = 4000, 3000  # of a usual image before it is scaled
STARTS = {
    'resume_from': '--resume-from',
    'init_params': '--init-params',
    'backbone_params': '--backbone-params',
    'use_pretrained': '--use-pretrained',
}


def network(settings: argparse.Namespace, classes: int) -> Network:
    """What --model and --option ask for; `UsageError` naming the flag at fault."""
    options = with_options({'classes': classes}, settings.option)
    try:
        get_detector(settings.model, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f'--model: {error}') from None
    return Network(settings.model, options, settings.model)


def dataset(
    settings: argparse.Namespace,
    part: str,
    chosen: Optional[Sequence[str]] = None,
    classes: Optional[Classes] = None,
) -> CocoDataset:
    """The images of `part`, 'train' or 'val', where the flags or the usual names say they are: see `read_coco`."""
    return read_coco(*places(settings, part), chosen, classes)


def places(settings: argparse.Namespace, part: str) -> Tuple[Path, Path]:
    """The JSON file and the folder of images of a part."""
    annotations, images = getattr(settings, f'{part}_annotations'), getattr(settings, f'{part}_images')
    if annotations is None or images is None:
        known = locate(settings.data_dir, part)
        annotations, images = annotations or known[0], images or known[1]
    return Path(annotations), Path(images)


def told(settings: argparse.Namespace) -> str:
    """Which files are which part."""
    (train, train_images), (val, val_images) = (places(settings, part) for part in ('train', 'val'))
    return printable(f'{train} with {train_images}/ is to train on, {val} with {val_images}/ to validate on')


def load(settings: argparse.Namespace, devices: int, ranks: Ranks) -> RunData:
    """Both parts of the data set, with what is wrong with them as notes."""
    names = None if settings.categories is None else [name.strip() for name in settings.categories.split(',')]
    train = dataset(settings, 'train', names).for_training()
    val = dataset(settings, 'val', classes=train.classes).for_scoring()
    train_images, val_images = train.limited(settings.limit_train), val.limited(settings.limit_val)
    try:
        preprocessing = DetectionPreprocessing(settings.short, settings.max_size, interpolation=settings.interpolation)
    except ValueError as error:
        raise UsageError(f'--short or --max-size: {error}') from None
    shared = {
        'rank': ranks.rank,
        'size': ranks.size,
        'threads': settings.num_data_workers,
        'max_bad': settings.max_bad,
    }
    batch = settings.batch_size * devices
    seed = seeds.derive(settings.seed, 'data')
    loader = DetectionLoader(train_images, preprocessing, batch, True, seed, mirror=not settings.no_flip, **shared)
    check_batch(settings, loader, devices, ranks, len(train_images))
    return RunData(
        loader,
        DetectionLoader(val_images, preprocessing, batch, **shared),
        train.name,
        train.class_names,
        preprocessing,
        len(train_images),
        len(val_images),
        [told(settings), *train.report.lines(), *val.report.lines()],
        {'categories': list(train.classes.ids)},
    )


class DetectionRecipe(Recipe):
    """How to build a detector and what trains it."""

    scoring = DETECTION
    scores = staticmethod(detection_scores)

    @classmethod
    def of(
        cls,
        settings: argparse.Namespace,
        chosen: Network,
        contexts: Sequence[Any],
        data: RunData,
        load: Optional[Callable[[Any], None]],
        ranks: Ranks,
    ) -> 'DetectionRecipe':
        make, notes = cls.maker(settings, chosen, data)
        recipe = cls(make, settings, contexts, SIDE, data.classes, load, ranks)
        recipe.notes = notes
        recipe.preprocessing = data.preprocessing
        return recipe

    @staticmethod
    def build(chosen: Network) -> Any:
        return get_detector(chosen.name, **chosen.options)

    @staticmethod
    def describe(chosen: Network, data: RunData) -> List[str]:
        net = get_detector(chosen.name, **chosen.options)
        learned = sum(
            int(np.prod(parameter.shape))
            for name, parameter in net.collect_params().items()
            if not name.endswith(('running_mean', 'running_var'))
        )
        size, (width, height) = data.preprocessing, data.preprocessing.padded_size(*SHAPE)
        return [
            f'images of {size.short} pixels at most on the shorter side, {size.max_size} on the longer',
            f'{chosen.name}: {learned:,} parameters, {net.macs(height, width) / 1e9:.1f} billion multiply-adds for an '
            f'image of {width}x{height}',
        ]

    @staticmethod
    def preparation(
        settings: argparse.Namespace, chosen: Network, devices: List[Any], load: bool, log: Callable[[str], None]
    ) -> Callable[[Any], None]:
        """Loading, if `load`, and freezing. `UsageError` for flags that exclude each other."""
        given = [flag for name, flag in STARTS.items() if getattr(settings, name)]
        if len(given) > 1:
            raise UsageError(f'{given[0]} and {given[1]} both say what to start from; give one of them')
        if not given and (settings.frozen_stages or not settings.train_norms):
            raise UsageError(
                'there is nothing to start from, and --frozen-stages or batch norms without --train-norms would stay '
                'as they are drawn; give --backbone-params FILE or --use-pretrained, or --frozen-stages 0 --train-norms'
            )
        whole = settings.resume_from or settings.init_params
        backbone = settings.backbone_params
        if settings.use_pretrained and load:
            net = DetectionRecipe.build(chosen)
            options = {key: value for key, value in chosen.options.items() if key not in ('classes', *net.options)}
            backbone = str(pretrained_file(net.backbone_name, options, '--backbone-params'))

        def prepare(net: Any) -> None:
            if whole and load:
                load_start(net, whole, devices)
            if backbone and load:
                net.load_backbone(backbone, devices)
            net.freeze(stages=settings.frozen_stages, norms=not settings.train_norms)

        return prepare

    def network(self) -> Any:
        def run(net: Any, image: Any) -> None:
            net(image, nd.full((1, 2), SIDE, ctx=image.context))

        net = build_network(self.make, self.settings.seed, self.contexts, SIDE, run)
        self.load(net)
        return net

    def random(self, net: Any) -> bool:
        """A detector is a graph of its own kind; seeding costs nothing beside its steps."""
        return True

    def example(self, batch: int) -> Tuple[np.ndarray, Targets]:
        """Noise of the size of an image of aspect 4:3, with a box on each."""
        random = np.random.Generator(np.random.PCG64(0))
        width, height = self.preprocessing.padded_size(*SHAPE)
        data = random.standard_normal((batch, 3, height, width), dtype=np.float32)
        boxes = np.tile(np.float32([0, 0, width - 1, height - 1]), (batch, 1, 1))
        sizes = np.tile(np.float32([height, width]), (batch, 1))
        return data, Targets(np.arange(batch), sizes, boxes, np.zeros((batch, 1), np.float32), 0)

    def learner(self, net: Any, mode: str, ranks: Optional[Ranks] = None) -> DetectionStep:
        apply_mode(net, mode)
        step = DetectionStep(net, self.trainer(net), self.contexts, ranks or Ranks(), self.settings.clip_norm)
        self.trace(net)
        return step

    def trace(self, net: Any) -> None:
        """Let hybridized parts take their graphs in the form for training: see `trace_for_training`."""
        image = nd.zeros((1, 3, SIDE, SIDE), ctx=self.contexts[0])
        box = np.float32([[[0, 0, SIDE / 2, SIDE / 2]]])
        with autograd.record(), kernels.fusing(self.fuses):
            net.losses(image, np.float32([[SIDE, SIDE]]), box, np.zeros((1, 1), np.float32), np.random.RandomState(0))


def words(settings: argparse.Namespace) -> Tuple[str, str]:
    return expanded(settings.train_annotations or settings.data_dir).stem, settings.model


TASK = Task(
    'detection',
    network,
    load,
    words,
    detection_lines,
    best_figure=lambda ap: ap,
    recipe=DetectionRecipe,
    manifest={'task': 'detection'},
)
