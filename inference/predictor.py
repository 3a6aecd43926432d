"""Ask a trained network about images: one class for classifiers, detectors and exported folders.

from inference import Predictor
ask = Predictor('runs/photos')
ask('cat.jpg')                     # Prediction(cat.jpg: cat 97.1 %, dog 2.3 %, ...)
ask('cat.jpg').label               # 'cat'
ask(['cat.jpg', 'dog.jpg'])        # a list of them
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from data.images import ImageError
from environment import UserError
from inference.choices import THRESHOLD
from inference.export import load_exported
from inference.network import LoadedNetwork, load_network
from inference.sources import image_files
from model import get_model
from model.parameters.by_name import find_pretrained
from model.parameters.weights import network_of, sources

__all__ = ['Predictor', 'open_network']


def open_network(
    source: Union[str, os.PathLike, LoadedNetwork], kind: Optional[str] = None, ctx: Any = None
) -> LoadedNetwork:
    """Load what `source` names.

    The folder of a run, a .params file, an exported folder, an .onnx file, a network whose parameters come with the
    project or are public, or public weights. `kind` chooses among the networks of an exported folder.
    """
    if isinstance(source, LoadedNetwork):
        return source
    path = Path(source)
    if path.suffix == '.onnx' or (path / 'export.json').is_file():
        return load_exported(path, kind)
    if kind is not None:
        raise UserError(f'{source} is not an exported folder, but kind {kind} is given; leave it out')
    weights = str(source).partition(':')[0] in sources()
    if path.exists() or (not weights and (path.suffix or len(path.parts) > 1)):
        return load_network(path, ctx=ctx)
    try:
        name = network_of(str(source)) if weights else str(source)
        params = find_pretrained(get_model, name, {}, str(source) if weights else True).path
    except ValueError as error:
        raise UserError(f'{source} is neither a file or folder nor the name of a network: {error}') from error
    return load_network(params, ctx=ctx)


class Predictor:
    """Answers questions about images.

    Attributes:
        network: the `LoadedNetwork`.
        name: the network's.
        task: 'classification' or 'detection'.
        class_names: one for each class, or None if unknown.
        preprocessing: what happens to an image before the network sees it.
    """

    def __init__(
        self,
        source: Union[str, os.PathLike, LoadedNetwork],
        precision: Optional[str] = None,
        engine: str = 'auto',
        calibration: Optional[Sequence[Any]] = None,
        batch_size: Optional[int] = None,
        kind: Optional[str] = None,
        ctx: Any = None,
    ) -> None:
        """Load a network.

        Args:
            source: the folder of a run, a .params file with its manifest, an exported folder, an .onnx file, or the
                name of a network, whose parameters come with the project or are the best public ones, or of public
                weights, 'timm:resnet50.a1_in1k'; or a network that is loaded.
            precision: optimize a classifier first: 'float32', 'bfloat16', 'int8' or 'float16', see
                `inference.optimize`.
            engine: what runs the optimized network: 'own', 'mxnet', 'onnxruntime', 'openvino' or the fastest, 'auto'.
            calibration: images that int8 takes its ranges from.
            batch_size: images at a time (default: 1 for an optimized network, else 32; for a detector 1).
            kind: which of the networks of an exported folder; the fastest by default.
            ctx: the device.

        Raises:
            UserError: there is no such network, or it is damaged.
        """
        if precision is None and (calibration is not None or engine != 'auto'):
            raise UserError('engine and calibration are for an optimized network; give precision too')
        network = open_network(source, kind, ctx)
        if precision is not None:
            network = network.optimized(precision, batch_size or 1, engine, calibration)
            batch_size = batch_size or 1
        self.network, self.batch_size, self.ctx = network, batch_size or network.batch_size, ctx

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def task(self) -> str:
        return self.network.task

    @property
    def class_names(self) -> Optional[Tuple[str, ...]]:
        return self.network.class_names

    @property
    def preprocessing(self) -> Any:
        return self.network.preprocessing

    def __repr__(self) -> str:
        classes = 'classes without names' if self.class_names is None else _listed(self.class_names)
        return f'Predictor({self.name}, {self.task}: {classes})'

    def __call__(self, images: Any, top: int = 5, threshold: float = THRESHOLD) -> Any:
        """Return what the network says of an image, or a list for several.

        Args:
            images: a path, the bytes of an image file, a PIL image or an array (H, W[, 3]) uint8 RGB; or several: a
                list or an array (N, H, W, 3), a folder, a pattern such as 'album/*.jpg'.
            top: classes that a classifier names.
            threshold: lowest score of a detector's boxes.

        Returns:
            An `inference.predict.Prediction` or a `detection.predict.Detection`. Of several images, one that cannot be
            read has an `error`.

        Raises:
            ImageError: a single image cannot be read.
        """
        several = _several(images)
        if several is not None:
            return list(self.predict(several, top, threshold))
        (answer,) = self.predict([images], top, threshold)
        if answer.error is not None:
            raise ImageError(answer.error)
        return answer

    def predict(self, images: Iterable[Any], top: int = 5, threshold: float = THRESHOLD) -> Iterator[Any]:
        """Yield the answers for any number of images, one by one, computed in batches."""
        return self.network.predict(images, top, threshold, self.batch_size, self.ctx)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'{len(names)} classes, {", ".join(names[:most])}{more}'


def _several(images: Any) -> Optional[List[Any]]:
    """Return the images, if these are several; None for one."""
    if isinstance(images, (str, os.PathLike)):
        name = os.fspath(images)
        if os.path.isdir(name) or (glob.has_magic(name) and not os.path.exists(name)):
            return list(image_files([name]))
        return None
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else None
    if isinstance(images, (bytes, memoryview)) or not isinstance(images, Iterable):
        return None
    return list(images)
