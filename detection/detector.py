"""The common base of detectors: a backbone that may start from a classifier's parameters, and may be frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mxnet import gluon, nd
from mxnet.gluon import nn

from detection.trunk import Trunk
from model.parameters.load import PathLike, read_params, set_params

__all__ = ['Detector', 'Truth', 'padded', 'truths_of']

MULTIPLE = 32  # of pixels, which images are padded to


class Truth(NamedTuple):
    """The objects in one image: boxes (M, 4) and their labels (M,), and the image's height and width."""

    boxes: np.ndarray
    labels: np.ndarray
    size: np.ndarray


def _numpy(array: Any) -> np.ndarray:
    return array.asnumpy() if isinstance(array, nd.NDArray) else np.asarray(array)


def truths_of(sizes: Any, boxes: Any, labels: Any) -> List[Truth]:
    """Split a batch into images, without padding rows, whose label is -1."""
    rows = zip(*(_numpy(array) for array in (boxes, labels, sizes)))
    return [Truth(own[names >= 0], names[names >= 0].astype(np.int64), size) for own, names, size in rows]


def padded(size: np.ndarray) -> np.ndarray:
    """Return the height and width that an image of ``size`` has with its own padding."""
    return MULTIPLE * np.ceil(size / MULTIPLE)


class Detector(gluon.HybridBlock, ABC):
    """``(images, sizes) -> (boxes, scores, labels)``.

    - images: (N, 3, H, W) float32, normalised, then padded with zeros; H and W are multiples of 32.
    - sizes: (N, 2) float32, height and width of each image within its padding.
    - boxes: (N, 100, 4), ``x1, y1, x2, y2`` in pixels of ``images``, both corners inside the box.
    - scores: (N, 100), best first.
    - labels: (N, 100), from 0. An image with fewer boxes has -1 in place of label, score and coordinates of the others.

    Attributes:
        kind: which detector it is, as in its name.
        backbone_name: the name of the backbone.
        classes: the number of classes.
    """

    kind: str

    def __init__(self, backbone: Trunk, backbone_name: str, classes: int) -> None:
        super().__init__()
        self.backbone, self.backbone_name, self.classes = backbone, backbone_name, classes
        self.plugins = backbone.plugins

    @abstractmethod
    def losses(self, images: Any, sizes: Any, boxes: Any, labels: Any, random: np.random.RandomState) -> Dict[str, Any]:
        """Return the losses of a batch, weighted, by name; their sum is what to minimise.

        images and sizes as in inference; boxes (N, M, 4) and labels (N, M), from 0, filled up with -1; all but the
        images may be NumPy's. ``random`` draws the samples. Call it inside ``autograd.record()``. What the network
        shall answer is computed in NumPy, without a gradient, while the backbone's pass is under way.
        """

    @abstractmethod
    def maps(self, images: Any) -> Sequence[Any]:
        """Return the output of the convolutional part: all maps that :meth:`found` reads, arrays or symbols."""

    @abstractmethod
    def found(self, F: Any, maps: Sequence[Any], sizes: Any) -> Tuple[Any, Any, Any]:
        """Return boxes, scores and labels, from maps as :meth:`maps` gives them."""

    def hybrid_forward(self, F: Any, images: Any, sizes: Any) -> Tuple[Any, Any, Any]:
        return self.found(F, self.maps(images), sizes)

    @abstractmethod
    def macs(self, height: int, width: int) -> int:
        """Return the multiply-adds of detection in one image of this size, multiples of 32.

        Convolutions and fully connected layers, as :func:`model.count` counts them; nothing is computed.
        """

    def check(self, images: Any) -> None:
        """Raise ``ValueError`` unless height and width of a batch of images are multiples of 32."""
        height, width = images.shape[2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(
                f'images of {height}x{width} pixels do not fit: pad height and width to multiples of {MULTIPLE}'
            )

    def load_backbone(self, path: PathLike, ctx: Optional[Any] = None) -> None:
        """Load a classifier's parameters: a file of the network ``backbone_name``, with any classes.

        The rules are those of :func:`model.load_params`; the classifier's output layer is skipped.
        """
        arrays = read_params(self.backbone, path)
        kept = {name: array for name, array in arrays.items() if name not in self.backbone.left_out}
        set_params(self.backbone, kept, str(path), ctx)

    def freeze(self, stages: int = 1, norms: bool = True) -> None:
        """Freeze parts of the backbone; the defaults are those of DCANet's experiments.

        To train from scratch use ``freeze(stages=0, norms=False)``, which is the state of a new detector.

        Args:
            stages: how many stages, 0 to 4, get no gradient, along with the stem and their attention units; their batch
                norms use running statistics in training too. With 0, the stem is trained as well.
            norms: whether all batch norms of the backbone use their running statistics in training too; scale and shift
                of those that are not frozen are still trained.

        Raises:
            ValueError: ``stages`` is out of range.
        """
        if not 0 <= stages <= 4:
            raise ValueError(f'stages is {stages}: allowed are 0 to 4')
        for index, stage in enumerate(self.backbone.stages):
            frozen = stages > 0 and index <= stages
            for block in stage:
                for parameter in block.collect_params().values():
                    if not parameter.name.endswith(('running_mean', 'running_var')):
                        parameter.grad_req = 'null' if frozen else 'write'
                block.apply(lambda part, fixed=frozen or norms: _fix_statistics(part, fixed))
        self.apply(_forget_graph)


def _fix_statistics(block: gluon.Block, fixed: bool) -> None:
    if isinstance(block, nn.BatchNorm):
        block._kwargs['use_global_stats'] = fixed


def _forget_graph(block: gluon.Block) -> None:
    """Drop a block's compiled graph, which would not notice the change."""
    if isinstance(block, gluon.HybridBlock):
        block._clear_cached_op()
