"""The fastest form of a trained detector: trunk, pyramid and heads optimized by `inference.optimize`."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from detection.detector import Detector
from inference.optimization.optimizer import optimize

__all__ = ['DetectorMaps', 'OptimizedDetector', 'optimize_detector']


class DetectorMaps(gluon.HybridBlock):
    """``(N, 3, H, W) -> (N, K)``: the maps of a detector (:meth:`Detector.maps`), concatenated."""

    def __init__(self, det: Detector) -> None:
        super().__init__()
        self.det = det

    def hybrid_forward(self, F: Any, images: Any) -> Any:
        return F.concat(*(F.reshape(level, shape=(0, -1)) for level in self.det.maps(images)), dim=1)

    def shapes(self, height: int, width: int) -> List[Tuple[int, ...]]:
        """Return the shapes (C, H, W) of the maps of an image of this size."""
        _, found, _ = mx.sym.Group(list(self.det.maps(mx.sym.var('data')))).infer_shape(data=(1, 3, height, width))
        return [shape[1:] for shape in found]


def _rest(det: Detector, maps: int) -> gluon.Block:
    """Return the rest of a detector after its maps, ``(sizes, *maps) -> (boxes, scores, labels)``."""
    sizes, *levels = [mx.sym.var(name, dtype='float32') for name in ('sizes', *(f'map{k}' for k in range(maps)))]
    outputs = det.found(mx.sym, levels, sizes)
    return gluon.SymbolBlock(mx.sym.Group(list(outputs)), [sizes, *levels], params=det.collect_params())


class OptimizedDetector(gluon.Block):
    """``(images, sizes) -> (boxes, scores, labels)`` as its `Detector`, for inference: see :func:`optimize_detector`.

    ``engine`` and ``note`` are those of the optimized network, ``fast``, which makes the maps of images of one size.
    Images of other sizes go through the detector itself.
    """

    def __init__(self, det: Detector, input_shape: Sequence[int], engine: str) -> None:
        super().__init__()
        maps = DetectorMaps(det)
        self.det, self.input_shape = det, tuple(input_shape)
        self.fast = optimize(maps, input_shape, engine=engine)
        self.engine, self.note = self.fast.engine, getattr(self.fast, 'note', None)
        self._shapes = maps.shapes(*input_shape[2:])
        self._rest = _rest(det, len(self._shapes))

    def forward(self, images: mx.nd.NDArray, sizes: mx.nd.NDArray) -> Tuple[mx.nd.NDArray, ...]:
        if images.shape[1:] != self.input_shape[1:]:
            return self.det(images, sizes)
        flat = self.fast(images)
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in self._shapes)]).tolist()
        maps = [
            mx.nd.slice_axis(flat, axis=1, begin=begin, end=end).reshape((len(images), *shape))
            for begin, end, shape in zip(ends, ends[1:], self._shapes)
        ]
        return self._rest(sizes, *maps)


def optimize_detector(det: Detector, input_shape: Sequence[int], engine: str = 'auto') -> OptimizedDetector:
    """Return a detector with the answers of ``det``, fast for batches of ``input_shape`` = (N, 3, H, W).

    H and W are multiples of 32. Trunk, pyramid and convolutional heads run in the ``engine`` that
    :func:`inference.optimize` describes, and are compared with the detector's own in the same way. The rest (anchors,
    proposals, pooling from boxes, suppression) runs in MXNet. ``det`` is unchanged, and still needed.
    """
    return OptimizedDetector(det, input_shape, engine)
