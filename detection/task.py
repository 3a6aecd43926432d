"""Training detectors on data sets in COCO's format: what train_detection.py has of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from mxnet import autograd, nd

import kernels
from common.text import printable
from data.classification.decoder import Decoding
from data.coco.categories import Classes
from data.coco.dataset import CocoDataset, locate, read_coco
from data.sampler import Sampler
from detection.evaluate import detection_scores
from detection.loader import DetectionLoader, Targets
from detection.preprocessing import DetectionPreprocessing
from detection.report import DetectionReport, found_and_annotated
from detection.step import DetectionStep
from detection.zoo import get_detector
from environment import UsageError
from model.hybridization import apply_mode
from training import seeds
from training.checkpoints.start import load_start, only_one, pretrained_file
from training.config.detection import DetectionData, DetectionSettings
from training.config.model_options import with_options
from training.distributed.ranks import Ranks
from training.logging.metrics import DETECTION
from training.logging.outputs import Outputs
from training.loop import Job
from training.step import build_network
from training.task import Network, RunData, Task, check_batch

__all__ = ['DetectionTask', 'dataset']

SIDE = 64  # pixels of the image that shows a network its shapes
SHAPE = 4000, 3000  # of a usual image before it is scaled


def dataset(
    settings: DetectionData,
    part: str,
    chosen: Optional[Sequence[str]] = None,
    classes: Optional[Classes] = None,
) -> CocoDataset:
    """Return the images of `part`, 'train' or 'val', where the flags or the usual names say they are.

    See `read_coco`.
    """
    return read_coco(*places(settings, part), chosen, classes)


def places(settings: DetectionData, part: str) -> Tuple[Path, Path]:
    """Return the JSON file and the folder of images of a part."""
    annotations, images = getattr(settings, f'{part}_annotations'), getattr(settings, f'{part}_images')
    if annotations is None or images is None:
        known = locate(settings.data_dir, part)
        annotations, images = annotations or known[0], images or known[1]
    return Path(annotations), Path(images)


def told(settings: DetectionData) -> str:
    """Return which files are which part."""
    (train, train_images), (val, val_images) = (places(settings, part) for part in ('train', 'val'))
    return printable(f'{train} with {train_images}/ is for training, {val} with {val_images}/ to validate on')


class DetectionTask(Task):
    """Training of detectors: boxes with classes, COCO's average precisions."""

    scoring = DETECTION
    manifest = {'task': 'detection'}
    warmup_flag = '--warmup-steps'
    settings: DetectionSettings

    def words(self) -> Tuple[str, str]:
        data = self.settings.data
        return data.train_annotations or data.data_dir, self.settings.network.model

    def scored_on(self) -> List[str]:
        annotations, images = places(self.settings.data, 'val')
        return ['--annotations', str(annotations), '--images', str(images)]

    def choose(self, classes: int) -> Network:
        asked = self.settings.network
        network = Network(asked.model, with_options({'classes': classes}, asked.option))
        try:
            self.build(network)
        except (TypeError, ValueError) as error:
            raise UsageError(f'--model: {error}') from None
        return network

    def build(self, network: Network) -> Any:
        return get_detector(network.name, **network.options)

    def load(self) -> RunData:
        """Open both parts of the data set; what is wrong with them are notes."""
        asked, taken, ranks = self.settings.data, self.settings.images, self.ranks
        names = None if asked.categories is None else [name.strip() for name in asked.categories.split(',')]
        train = dataset(asked, 'train', names).for_training()
        val = dataset(asked, 'val', classes=train.classes).for_scoring()
        train_images, val_images = train.limited(taken.limit_train), val.limited(taken.limit_val)
        try:
            preprocessing = DetectionPreprocessing(asked.short, asked.max_size, interpolation=asked.interpolation)
        except ValueError as error:
            raise UsageError(f'--short or --max-size: {error}') from None
        batch = self.part
        seed = seeds.derive(self.settings.machine.seed, 'data')
        shard = Sampler(batch, rank=ranks.rank, size=ranks.size)
        decoding = Decoding(asked.num_data_workers, tolerance=taken.tolerance)
        shuffled = replace(shard, seed=seed, shuffle=True).grouped(self.settings.gradient.accumulate)
        loader = DetectionLoader(train_images, preprocessing, shuffled, decoding, mirror=not asked.no_flip)
        check_batch(self.settings, loader, len(self.devices) * ranks.size, len(train_images))
        return RunData(
            train=loader,
            val=DetectionLoader(val_images, preprocessing, shard, decoding),
            name=train.name,
            class_names=train.class_names,
            preprocessing=preprocessing,
            images=len(train_images),
            val_images=len(val_images),
            notes=[told(asked), *train.report.lines(), *val.report.lines()],
            manifest={'categories': list(train.classes.ids)},
        )

    def describe(self, data: RunData, network: Network) -> List[str]:
        net = self.build(network)
        learned = sum(
            int(np.prod(parameter.shape))
            for name, parameter in net.collect_params().items()
            if not name.endswith(('running_mean', 'running_var'))
        )
        size, (width, height) = data.preprocessing, data.preprocessing.padded_size(*SHAPE)
        return [
            f'images of {size.short} pixels at most on the shorter side, {size.max_size} on the longer',
            f'{network.name}: {learned:,} parameters, {net.macs(height, width) / 1e9:.1f} billion multiply-adds for an '
            f'image of {width}x{height}',
        ]

    def preparation(self, network: Network, log: Optional[Callable[[str], None]]) -> Callable[[Any], None]:
        """Return loading, if there is a `log`, and freezing. Raises `UsageError` for flags that exclude each other."""
        start, asked, resumed = self.settings.start, self.settings.network, self.settings.run.resume_from
        given = only_one(
            {
                '--resume-from': resumed,
                '--init-params': start.init_params,
                '--backbone-params': start.backbone_params,
                '--use-pretrained': start.use_pretrained,
            }
        )
        if not given and (asked.frozen_stages or not asked.train_norms):
            raise UsageError(
                'there is nothing to start from, and --frozen-stages or batch norms without --train-norms would stay '
                'as they are drawn; give --backbone-params FILE or --use-pretrained, or --frozen-stages 0 --train-norms'
            )
        whole, backbone, load = resumed or start.init_params, start.backbone_params, log is not None
        if start.use_pretrained and load:
            net = self.build(network)
            options = {key: value for key, value in network.options.items() if key not in ('classes', *net.options)}
            wanted = start.use_pretrained
            backbone = str(pretrained_file(net.backbone_name, options, wanted, '--backbone-params', others=False))

        def prepare(net: Any) -> None:
            if whole and load:
                load_start(net, whole, self.devices)
            if backbone and load:
                net.load_backbone(backbone, self.devices)
            net.freeze(stages=asked.frozen_stages, norms=not asked.train_norms)

        return prepare

    def new_network(self) -> Any:
        def run(net: Any, image: Any) -> None:
            net(image, nd.full((1, 2), SIDE, ctx=image.context))

        net = build_network(self.make, self.settings.machine.seed, self.devices, SIDE, run)
        self.prepare(net)
        return net

    def stages(self, net: Any) -> List[Any]:
        stages = net.backbone.stages[1:]  # after the stem
        return [block for stage in stages for block in stage]

    def head(self, net: Any) -> List[str]:
        return [name for name in net._collect_params_with_prefix() if not name.startswith('backbone.')]

    def random(self, net: Any) -> bool:
        """Return True: a detector is a graph of its own kind, and seeding costs nothing beside its steps."""
        return True

    def example(self, batch: int) -> Tuple[np.ndarray, Targets]:
        """Return noise of the size of an image of aspect 4:3, with a box on each."""
        random = np.random.Generator(np.random.PCG64(0))
        width, height = self.data.preprocessing.padded_size(*SHAPE)
        data = random.standard_normal((batch, 3, height, width), dtype=np.float32)
        boxes = np.tile(np.float32([0, 0, width - 1, height - 1]), (batch, 1, 1))
        sizes = np.tile(np.float32([height, width]), (batch, 1))
        return data, Targets(np.arange(batch), sizes, boxes, np.zeros((batch, 1), np.float32), 0)

    def learner(self, net: Any, mode: str, ranks: Optional[Ranks] = None) -> DetectionStep:
        apply_mode(net, mode)
        clip_norm = self.settings.gradient.clip_norm
        step = DetectionStep(net, self.trainer(net), self.devices, ranks or Ranks(), clip_norm, self.part)
        self.trace(net)
        return step

    def trace(self, net: Any) -> None:
        """Let hybridized parts take their graphs in the form for training: see `trace_for_training`."""
        image = nd.zeros((1, 3, SIDE, SIDE), ctx=self.devices[0])
        box = np.float32([[[0, 0, SIDE / 2, SIDE / 2]]])
        with autograd.record(), kernels.fusing(self.fuses):
            net.losses(image, np.float32([[SIDE, SIDE]]), box, np.zeros((1, 1), np.float32), np.random.RandomState(0))

    def scores(self, job: Job, epoch: int) -> Dict[str, float]:
        return detection_scores(job, epoch)

    def epoch_lines(self, row: Mapping[str, Any]) -> List[str]:
        """Return figures as COCO names them."""
        epoch = f'[Epoch {row["epoch"]}]'
        return [
            f'{epoch} training: loss={row["train_loss"]:f} lr={row["lr"]:g}',
            f'{epoch} speed: {row["images_per_second"]:.2f} samples/sec\ttime cost: {row["seconds"]:f}',
            f'{epoch} validation: AP={row["val_ap"]:.4f} AP50={row["val_ap50"]:.4f} AP75={row["val_ap75"]:.4f} '
            f'APs={row["val_aps"]:.4f} APm={row["val_apm"]:.4f} APl={row["val_apl"]:.4f}',
        ]

    def report(
        self, common: Mapping[str, Any], job: Job, outputs: Outputs, stop: Callable[[], bool]
    ) -> DetectionReport:
        images, device = self.data.val.dataset, self.devices[0]
        return DetectionReport(**common, look=lambda position: found_and_annotated(outputs.folder.last, images, device))
