"""RetinaNet: every cell of a pyramid predicts what is there, and where exactly."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon, nd
from mxnet.gluon import nn

from detection.anchors import RATIOS, AnchorGrid, cells_within
from detection.boxes import clip, decode, encode
from detection.convolutions import head_convolution
from detection.detector import Detector, Truth, padded, truths_of
from detection.losses import focal, smooth_l1
from detection.matching import IGNORED, match
from detection.norms import HEAD_NORM, NormFactory, level_norms, norm_factory, normed
from detection.postprocess import best, cells, detections, gather
from detection.pyramid import FeaturePyramid
from detection.trunk import Trunk
from model.count import macs_of_graph
from model.options import positive, share, whole

__all__ = ['RetinaHead', 'RetinaNet']

STRIDES = (8, 16, 32, 64, 128)
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
PRIOR = 0.01  # that a network without experience gives to anything
BETA = 0.11  # of smooth L1


class RetinaHead(gluon.HybridBlock):
    """Two towers of ``convolutions`` 3x3 convolutions with ReLU, which all ``levels`` share, and a last one each.

    Takes the levels ``(N, channels, H, W)``; returns one map ``(N, anchors classes, H, W)`` of logits for each and then
    one ``(N, anchors 4, H, W)`` of box codes for each. ``norm`` (a factory, or None as published) puts a norm before
    each ReLU.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        anchors: int,
        levels: int,
        convolutions: int = 4,
        norm: Optional[NormFactory] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.levels = levels

        self.class_tower, self.box_tower = nn.HybridSequential(), nn.HybridSequential()
        for tower in (self.class_tower, self.box_tower):
            tower.add(*(head_convolution(channels, channels) for _ in range(convolutions)))
        self.class_norms = level_norms(norm, channels, convolutions * levels)
        self.box_norms = level_norms(norm, channels, convolutions * levels)
        self.class_output = head_convolution(channels, anchors * classes, bias=-math.log((1 - PRIOR) / PRIOR))
        self.box_output = head_convolution(channels, anchors * 4)

    def hybrid_forward(self, F: Any, *levels: Any) -> Tuple[Any, ...]:
        answers = []
        for tower, norms, output in (
            (self.class_tower, self.class_norms, self.class_output),
            (self.box_tower, self.box_norms, self.box_output),
        ):
            for level, x in enumerate(levels):
                for index, convolution in enumerate(tower):
                    x = F.Activation(normed(norms, index * self.levels + level, convolution(x)), act_type='relu')
                answers.append(output(x))
        return tuple(answers)


class RetinaNet(Detector):
    """Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", arXiv 1708.02002.

    Defaults are those of DCANet's experiments.

    Args:
        backbone: the classifier's part that makes the maps.
        backbone_name: its name.
        classes: number of classes.
        channels, head_convolutions, head_norm: width, number of convolutions, and norm of the pyramid and the head.
        anchor_scale: side of the smallest anchor of a level, in strides.
        candidates: boxes of a level that are considered, the best by their best class.
        score_threshold, nms_overlap: lowest score, and largest overlap, of boxes that are reported.
    """

    kind = 'retinanet'
    options = {
        'channels': whole(1),
        'head_convolutions': whole(0),
        'head_norm': HEAD_NORM,
        'anchor_scale': positive(),
        'candidates': whole(1),
        'score_threshold': share(with_one=True),
        'nms_overlap': share(with_one=True),
    }

    def __init__(
        self,
        backbone: Trunk,
        backbone_name: str,
        classes: int = 80,
        channels: int = 256,
        head_convolutions: int = 4,
        head_norm: Any = None,
        anchor_scale: float = 4.0,
        candidates: int = 1000,
        score_threshold: float = 0.05,
        nms_overlap: float = 0.5,
    ) -> None:
        super().__init__(backbone, backbone_name, classes)
        self.candidates, self.score_threshold, self.nms_overlap = candidates, score_threshold, nms_overlap
        norm = norm_factory(head_norm)
        self.neck = FeaturePyramid(backbone.channels[1:], channels, extra='convolutions', norm=norm)
        self.anchors = nn.HybridSequential()
        scales = tuple(anchor_scale * step for step in OCTAVE)
        self.anchors.add(*(AnchorGrid(stride, scales) for stride in STRIDES))
        self.head = RetinaHead(channels, classes, len(scales) * len(RATIOS), len(STRIDES), head_convolutions, norm)

    def maps(self, images: Any) -> Sequence[Any]:
        """Return what the network says at each level: logits of all, then box codes of all."""
        return self.head(*self.neck(*self.backbone(images)[1:]))

    def macs(self, height: int, width: int) -> int:
        """See :meth:`Detector.macs`."""
        return macs_of_graph(mx.sym.Group(list(self.maps(mx.sym.var('data')))), data=(1, 3, height, width))

    def found(self, F: Any, maps: Sequence[Any], sizes: Any) -> Tuple[Any, Any, Any]:
        """See :meth:`Detector.found`."""
        boxes, scores = [], []
        for grid, logits, code in zip(self.anchors, maps, maps[len(STRIDES) :]):
            anchors = F.reshape(grid(logits), shape=(-1, 4))
            logits, code = cells(F, logits, self.classes), cells(F, code, 4)
            chosen = best(F, F.max(logits, axis=2), self.candidates)
            boxes.append(decode(F, F.take(anchors, chosen), gather(F, code, chosen)))
            scores.append(F.sigmoid(gather(F, logits, chosen)))
        boxes = clip(F, F.concat(*boxes, dim=1), sizes)
        return detections(F, boxes, F.concat(*scores, dim=1), self.score_threshold, self.nms_overlap)

    def losses(self, images: Any, sizes: Any, boxes: Any, labels: Any, random: np.random.RandomState) -> Dict[str, Any]:
        """See :meth:`Detector.losses`: ``class`` and ``box``. Every anchor counts, so nothing is drawn from ``random``.

        Both are sums over all images, divided by the number of positive anchors (at least one for each image).
        """
        self.check(images)
        maps = self.maps(images)
        shapes = [level.shape[2:] for level in maps[: len(STRIDES)]]
        anchors = np.concatenate([grid.of(*shape) for grid, shape in zip(self.anchors, shapes)])
        truths = truths_of(sizes, boxes, labels)
        matches = np.stack([self._match(anchors, shapes, truth) for truth in truths])
        counts = (matches >= 0).sum(axis=1)
        total = float(np.maximum(counts, 1).sum())

        # Anchor number image * A + index, for every positive one.
        image, index = np.nonzero(matches >= 0)
        truth_of = matches[image, index]
        names = np.full(matches.shape, -1, np.float32)
        aims = np.zeros((0, 4), np.float32)
        if len(image):
            names[image, index] = [truths[i].labels[t] for i, t in zip(image, truth_of)]
            goals = np.stack([truths[i].boxes[t] for i, t in zip(image, truth_of)])
            aims = encode(anchors[index], goals)

        ctx = images.context
        logits = nd.concat(*(cells(nd, level, self.classes) for level in maps[: len(STRIDES)]), dim=1)
        answers = nd.one_hot(nd.array(names, ctx=ctx), self.classes)  # zeros where the label is -1
        counted = nd.array((matches != IGNORED)[:, :, None], dtype='float32', ctx=ctx)
        of_class = nd.sum(nd.broadcast_mul(focal(logits, answers), counted)) / total
        code = nd.concat(*(cells(nd, level, 4) for level in maps[len(STRIDES) :]), dim=1)
        return {'class': of_class, 'box': self._box_loss(code, image * len(anchors) + index, aims) / total}

    @staticmethod
    def _box_loss(code: nd.NDArray, rows: np.ndarray, aims: np.ndarray) -> nd.NDArray:
        if not len(rows):
            return nd.sum(code) * 0  # MXNet has no arrays without elements
        found = nd.take(nd.reshape(code, shape=(-1, 4)), nd.array(rows, dtype='int32', ctx=code.context))
        return nd.sum(smooth_l1(found, nd.array(aims, ctx=code.context), BETA))

    def _match(self, anchors: np.ndarray, shapes: Sequence[Sequence[int]], truth: Truth) -> np.ndarray:
        """Return what each anchor is to find.

        Anchors beyond the image's own padding, in that of the batch, are ignored.
        """
        size = padded(truth.size)
        inside = np.concatenate(
            [cells_within(*shape, grid.stride, size, grid.count) for grid, shape in zip(self.anchors, shapes)]
        )
        matches = np.full(len(anchors), IGNORED, np.int64)
        matches[inside] = match(anchors[inside], truth.boxes, positive=0.5, negative=0.4)
        return matches
