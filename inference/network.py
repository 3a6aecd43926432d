"""A trained network ready for use: parameters, preprocessing and class names, from the manifest beside the file.

`LoadedNetwork` is a classifier; other tasks have subclasses of it, in the modules that `TASKS` names.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from dataclasses import dataclass
from typing import (
    Any,
    ClassVar,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

import mxnet as mx
import numpy as np

from data.images import ImageError, source_name
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from environment import UsageError, UserError
from inference.choices import EXPORTS, THRESHOLD
from inference.predict import Prediction, best, sigmoid, softmax
from model import get_model, input_size
from model.hybridization import apply_mode
from model.parameters.load import described, not_built, read_params, set_params

__all__ = ['TASKS', 'LoadedNetwork', 'load_network', 'network_class', 'published_preprocessing']


class Task(NamedTuple):
    """The class of a task's networks as `module:class`, what to call one, and the prefixes of their names."""

    place: str
    noun: str
    prefixes: Tuple[str, ...] = ()


# By what a manifest's `task` says; without it a network is a classifier. A module that stands above this one is
# imported when a network of its task is loaded.
TASKS = {
    'classification': Task('inference.network:LoadedNetwork', 'classifier'),
    'detection': Task('detection.network:LoadedDetector', 'detector', ('retinanet_', 'cascade_rcnn_')),
}


def without_training(options: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a network's options without those that only add layers for training."""
    return {key: value for key, value in options.items() if key != 'drop_path'}


@dataclass(frozen=True)
class LoadedNetwork:
    """A classifier with everything that is needed to use it.

    Attributes:
        net: (N, 3, H, W) float32 -> (N, classes) logits.
        name, options: `get_model(name, **options)` built it.
        preprocessing: the preprocessing that it was trained with.
        class_names: one for each output, or None if unknown.
        manifest: the whole manifest; empty if there is none.
    """

    net: Any
    name: str
    options: Dict[str, Any]
    preprocessing: Any
    class_names: Optional[Tuple[str, ...]]
    manifest: Dict[str, Any]

    task: ClassVar[str] = 'classification'
    batch_size: ClassVar[int] = 32  # default batch size for prediction
    proved_on: ClassVar[int] = 8  # images for comparing an export, if none are given
    exports: ClassVar[Tuple[str, ...]] = EXPORTS  # the kinds that `export` can write
    usual_exports: ClassVar[Optional[Tuple[str, ...]]] = None  # by default; None: all that can be written here
    export_options: ClassVar[Tuple[str, ...]] = ('precision', 'batch_size')  # of `export`, beside images and kinds

    def __repr__(self) -> str:
        known = f'{len(self.class_names)} classes' if self.class_names else 'no class names'
        return f'{type(self).__name__}({self.name}, {known}, {self.preprocessing})'

    @staticmethod
    def build(name: str, options: Mapping[str, Any]) -> Any:
        """Return the network of this name, without parameters."""
        return get_model(name, **without_training(options))

    @classmethod
    def restored(
        cls, net: Any, name: str, options: Dict[str, Any], names: Optional[Sequence[str]], manifest: Dict[str, Any]
    ) -> LoadedNetwork:
        """Return `net` with the image-related entries of the manifest. Raises `ValueError` if they are wrong."""
        known = manifest.get('preprocessing')
        preprocessing = published_preprocessing(name) if known is None else Preprocessing.from_dict(known)
        return cls(net, name, options, preprocessing, None if names is None else tuple(names), manifest)

    @property
    def several(self) -> bool:
        """Return whether an image may have several of the classes, or none."""
        return self.manifest.get('labels') == 'several'

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return (N, K) logits as probabilities: of each class by itself if there may be several."""
        return sigmoid(logits) if self.several else softmax(logits)

    def titles(self, count: int) -> Tuple[str, ...]:
        """Return the title of each of `count` outputs: its name, or its number if there are no names."""
        return self.class_names or tuple(map(str, range(count)))

    def changed(self, **changes: Any) -> LoadedNetwork:
        """Return the network with another preprocessing: each change that is not None.

        Raises `ValueError` if it is wrong.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        if 'size' in changes:
            changes.setdefault('resize', None)
        if not changes:
            return self
        known = type(self.preprocessing).from_dict({**self.preprocessing.to_dict(), **changes})
        return dataclasses.replace(self, preprocessing=known)

    def in_mode(self, mode: str) -> LoadedNetwork:
        """Let MXNet run the network in this mode, one of `inference.choices.MODES`."""
        apply_mode(self.net, mode)
        return self

    def optimized(
        self, precision: str, batch_size: int, engine: str = 'auto', calibration: Optional[Sequence[Any]] = None
    ) -> LoadedNetwork:
        """Return the fastest form of the network, see `inference.optimize`.

        Args:
            precision: the precision to compute in.
            batch_size: the number of images at a time that it is made for.
            engine: what is to run it.
            calibration: images, as `predict` takes them, from which int8 takes its ranges.
        """
        from inference.optimization.optimizer import optimize

        images = None
        if calibration is not None:
            images = self.preprocessing.batch(np.stack([self.preprocessing.read(image) for image in calibration]))
        size = self.preprocessing.size
        return dataclasses.replace(
            self, net=optimize(self.net, (batch_size, 3, size, size), precision, images, engine=engine)
        )

    def export(
        self,
        folder: os.PathLike[str],
        images: Sequence[Any],
        kinds: Sequence[str] = ('mxnet', 'optimized', 'onnx'),
        precision: str = 'float32',
        batch_size: int = 1,
    ) -> Dict[str, Any]:
        """Write an exported folder, and return how much each kind differs from this network: `inference.export.export`.

        Args:
            folder: the folder to write.
            images: as `predict` takes them, for the comparison, and for the calibration of int8.
            kinds: the kinds to write, of `exports`.
            precision: the precision to compute in.
            batch_size: the number of images at a time that it is made for.
        """
        from inference.export import export

        batch = self.preprocessing.batch(np.stack([self.preprocessing.read(image) for image in images]))
        calibration = batch if precision == 'int8' else None
        return export(self, folder, batch, kinds, precision, batch_size, calibration, images)

    @staticmethod
    def proof_lines(proof: Mapping[str, Any], kinds: Sequence[str], **_: Any) -> List[str]:
        """Return the lines to print for the result of `export`."""
        lines = []
        for kind in kinds:
            figures = proof.get(kind)
            if figures is None:
                lines.append(
                    f'{kind:<11} was not run, since nothing installed here can run it; on a machine with torch, run: '
                    'python net.py'
                )
                continue
            pixels = f', pixels within {figures["levels"]} of 255' if 'levels' in figures else ''
            same = f', same class on {100 * figures["same_class"]:.1f} %' if 'same_class' in figures else ''
            lines.append(
                f'{kind:<11} largest difference {figures["difference"]:.1e} of the largest output{same} of '
                f'{figures["images"]} images{pixels}'
            )
        return lines

    def predict(
        self,
        images: Iterable[Any],
        top: int = 5,
        threshold: float = THRESHOLD,
        batch_size: Optional[int] = None,
        ctx: Any = None,
    ) -> Iterator[Any]:
        """Yield the network's answer for each image, in order; unreadable images have an `error`.

        Args:
            images: paths, bytes of image files, PIL images, or arrays (H, W[, 3]) uint8 RGB.
            top: classes to name, for a classifier, whose answers are `inference.predict.Prediction`s.
            threshold: lowest score of a box, for a detector, whose answers are `detection.predict.Detection`s.
            batch_size: images at a time; only consecutive images of one size are batched.
            ctx: the device (default: that of the network).
        """
        batch_size = self.batch_size if batch_size is None else batch_size
        if top < 1 or batch_size < 1:
            raise ValueError(f'top and batch_size must be 1 or more, not {top} and {batch_size}')
        names: List[str] = []
        waiting: List[Any] = []
        for number, image in enumerate(images, 1):
            name, error = source_name(image, number), None
            try:
                ready = self.preprocessing.read(image)
            except ImageError as caught:
                error = str(caught)
            if waiting and (error or waiting[0].shape != ready.shape or len(waiting) == batch_size):
                yield from self.answers(names, waiting, top, threshold, ctx)
                names, waiting = [], []
            if error:
                yield self.failed(name, error)
            else:
                names.append(name)
                waiting.append(ready)
        if waiting:
            yield from self.answers(names, waiting, top, threshold, ctx)

    def answers(self, names: Sequence[str], images: Sequence[Any], top: int, threshold: float, ctx: Any) -> List[Any]:
        """Return the network's answers for images that `preprocessing.read` returned and that have the same shape."""
        logits = self.net(mx.nd.array(self.preprocessing.batch(np.stack(images)), ctx=ctx)).astype('float32').asnumpy()
        if self.class_names is not None and len(self.class_names) != logits.shape[1]:
            raise UserError(
                f'{self.name} has {logits.shape[1]} outputs and {len(self.class_names)} class names, as files that do '
                'not belong together have; fetch or export them again'
            )
        return [
            Prediction(name, best(row, self.class_names, top)) for name, row in zip(names, self.probabilities(logits))
        ]

    @staticmethod
    def failed(name: str, error: str) -> Any:
        """Return the answer for an image that cannot be read."""
        return Prediction(name, error=error)


def published_preprocessing(name: str) -> Preprocessing:
    """Return the default preprocessing for networks of this name: CIFAR's or ImageNet's."""
    size = input_size(name)
    if size <= 64:
        return Preprocessing(size, CIFAR_MEAN, CIFAR_STD)
    return Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, resize=round(size / 0.875))


def network_class(task: Optional[str] = None, name: str = '') -> Type[LoadedNetwork]:
    """Return the class for the `task` of a manifest, or for a network of this name.

    Raises `ValueError` for an unknown task.
    """
    if task is None:
        task = next((key for key, row in TASKS.items() if name.startswith(row.prefixes or '\0')), 'classification')
    if task not in TASKS:
        raise ValueError(f'task is {task!r}; allowed: {", ".join(TASKS)}')
    module, _, cls = TASKS[task].place.partition(':')
    return getattr(importlib.import_module(module), cls)


def load_network(
    params: Union[str, os.PathLike],
    model: Optional[str] = None,
    options: Optional[Dict[str, Any]] = None,
    classes: Optional[int] = None,
    class_names: Optional[Sequence[str]] = None,
    ctx: Any = None,
    task: Optional[str] = None,
) -> LoadedNetwork:
    """Build the network that `params` belongs to and load it.

    The manifest beside the file describes the network; arguments override it. Files without a manifest (GluonCV's,
    open-atac's) need `model`, and `classes` if it differs from the network's default.

    Args:
        params: a parameter file, or the folder of a run for its best parameters.
        model: the name of the network.
        options: further arguments of `get_model`. Those of the manifest are used only if the model is the manifest's.
        classes: the number of classes.
        class_names: the names of the classes.
        ctx: a device or several.
        task: what the network must be for; by default any of `TASKS`.

    Raises:
        UserError: the file is missing, damaged, or for another network or task, or its manifest is incomplete.
        UsageError: the model is not known, or there is no such model.
    """
    params, manifest, name, merged = described(params, model, 'network')
    alone = model is None and not options and classes is None and class_names is None
    try:
        kind = network_class(manifest.get('task') if name == manifest.get('model') else None, name)
    except ValueError as error:
        raise UserError(f'{params}: {error} in its manifest; restore it, or update this project') from error
    if task not in (None, kind.task):
        raise UserError(f'{params} is of a network for {kind.task}; give the parameters of a {TASKS[task].noun}')
    names = class_names if class_names is not None else manifest.get('class_names')
    if classes is None:
        classes = len(class_names) if class_names is not None else manifest.get('classes')
    if classes is not None:
        merged['classes'] = classes
    merged.update(options or {})
    try:
        net = kind.build(name, merged)
    except (TypeError, ValueError) as error:
        raise not_built(params, error, alone) from error
    set_params(net, read_params(net, params), params, ctx or mx.current_context())
    if names is not None and len(names) != merged.get('classes', len(names)):
        if class_names is not None:
            raise UsageError(f'there are {len(names)} class names for {merged["classes"]} classes; give one for each')
        names = None  # --classes is for another network than the manifest
    try:
        return kind.restored(net, name, merged, names, manifest)
    except (TypeError, ValueError) as error:
        raise UserError(f'the manifest beside {params} is wrong: {error}; restore it') from error
