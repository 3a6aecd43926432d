"""Cascade R-CNN: three heads that classify and move proposals in turn, each trained on better boxes than the last."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from detection.anchors import RATIOS
from detection.boxes import clip, decode, encode
from detection.detector import Detector, Truth, truths_of
from detection.losses import cross_entropy, smooth_l1
from detection.matching import match
from detection.norms import HEAD_NORM, norm_factory
from detection.postprocess import detections
from detection.pyramid import FeaturePyramid
from detection.roi import RoIFeatures
from detection.rpn import STRIDES, RegionProposals, RPNHead
from detection.sampling import sample
from detection.trunk import Trunk
from model.count import macs_of_graph
from model.options import positive, share, whole

__all__ = ['STAGES', 'BoxHead', 'CascadeRCNN', 'Drawn', 'Stage', 'draw']

ROI_SIZE = 7
POSITIVE_SHARE = 0.25
BETA = 1.0  # of smooth L1


class Stage(NamedTuple):
    """Which boxes a stage takes as positive, how it scales its box codes, and the weights of its losses."""

    overlap: float
    stds: Tuple[float, float, float, float]
    weight: float


STAGES = (
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)


class BoxHead(gluon.HybridBlock):
    """Boxes ``(R, 5)`` and levels P2 to P5 -> logits ``(R, 1 + classes)``, 0 for background, and codes ``(R, 4)``.

    See :class:`detection.roi.RoIFeatures` for the boxes. Two dense layers of ``width`` with ReLU; all classes share one
    code.
    """

    def __init__(self, channels: int, classes: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        self.relu = nn.Activation('relu')

        def dense(units: int, in_units: int, init: mx.init.Initializer) -> nn.Dense:
            return nn.Dense(units, in_units=in_units, weight_initializer=init)

        self.features = RoIFeatures(ROI_SIZE)
        self.inputs = channels * ROI_SIZE**2
        self.fc1 = dense(width, self.inputs, mx.init.Xavier('uniform', 'avg', 3))
        self.fc2 = dense(width, width, mx.init.Xavier('uniform', 'avg', 3))
        self.logits = dense(1 + classes, width, mx.init.Normal(0.01))
        self.code = dense(4, width, mx.init.Normal(0.001))

    def verdict(self, features: Any) -> Tuple[Any, Any]:
        """Return logits and codes for the features (R, channels, 7, 7) of boxes, arrays or symbols."""
        x = self.relu(self.fc2(self.relu(self.fc1(features))))
        return self.logits(x), self.code(x)

    def hybrid_forward(self, F: Any, boxes: Any, *levels: Any) -> Tuple[Any, Any]:
        return self.verdict(self.features(boxes, *levels))


class Drawn(NamedTuple):
    """The boxes of one image from which a stage learns, the positive ones first."""

    boxes: np.ndarray  # (R, 4)
    labels: np.ndarray  # (R,), 0 for background, 1 + label for the positive ones
    aims: np.ndarray  # (P, 4): the codes from the positive boxes to their ground truths
    added: np.ndarray  # (R,): whether it is a ground truth itself


def draw(boxes: np.ndarray, truth: Truth, stage: Stage, count: int, random: np.random.RandomState) -> Drawn:
    """Choose ``count`` of ``boxes`` (K, 4) and the ground truths, which are training boxes too."""
    number = len(truth.boxes)
    candidates = np.concatenate([truth.boxes, boxes]).astype(np.float32)
    matches = np.concatenate([np.arange(number), match(boxes, truth.boxes, *[stage.overlap] * 3)])
    positive, negative = sample(matches, count, POSITIVE_SHARE, random)
    chosen = np.concatenate([positive, negative])
    labels = np.zeros(len(chosen), np.float32)
    aims = np.zeros((0, 4), np.float32)
    if len(positive):
        labels[: len(positive)] = 1 + truth.labels[matches[positive]]
        aims = encode(candidates[positive], truth.boxes[matches[positive]], stage.stds)
    return Drawn(candidates[chosen], labels, aims, chosen < number)


class CascadeRCNN(Detector):
    """Cai, Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", arXiv 1712.00726.

    Defaults are those of DCANet's experiments.

    Args:
        backbone: the classifier's part that makes the maps.
        backbone_name: its name.
        classes: number of classes.
        channels, head_norm: width and norm of the pyramid.
        width: width of the heads' dense layers.
        proposals: boxes of an image that the heads process.
        samples, rpn_samples: boxes, and anchors, of an image that a training step uses.
        anchor_scale: side of a level's anchor, in strides.
        score_threshold, nms_overlap: lowest score, and largest overlap, of boxes that are reported.
    """

    kind = 'cascade_rcnn'
    options = {
        'channels': whole(1),
        'head_norm': HEAD_NORM,
        'width': whole(1),
        'proposals': whole(1),
        'samples': whole(1),
        'rpn_samples': whole(1),
        'anchor_scale': positive(),
        'score_threshold': share(with_one=True),
        'nms_overlap': share(with_one=True),
    }

    def __init__(
        self,
        backbone: Trunk,
        backbone_name: str,
        classes: int = 80,
        channels: int = 256,
        head_norm: Any = None,
        width: int = 1024,
        proposals: int = 2000,
        samples: int = 512,
        rpn_samples: int = 256,
        anchor_scale: float = 8.0,
        score_threshold: float = 0.05,
        nms_overlap: float = 0.5,
    ) -> None:
        super().__init__(backbone, backbone_name, classes)
        self.samples, self.score_threshold, self.nms_overlap = samples, score_threshold, nms_overlap
        norm = norm_factory(head_norm)
        self.neck = FeaturePyramid(backbone.channels, channels, extra='pool', norm=norm)
        self.rpn_head = RPNHead(channels, len(RATIOS))
        self.rpn = RegionProposals(proposals, rpn_samples, anchor_scale)
        self.heads = nn.HybridSequential()
        self.heads.add(*(BoxHead(channels, classes, width) for _ in STAGES))

    def macs(self, height: int, width: int) -> int:
        """Return the multiply-adds, see :meth:`Detector.macs`; those of the heads count once for every proposal."""
        levels = self.neck(*self.backbone(mx.sym.var('data')))
        dense = mx.sym.Group([output for head in self.heads for output in head.verdict(mx.sym.var('features'))])
        whole = macs_of_graph(mx.sym.Group(list(self.rpn_head(*levels))), data=(1, 3, height, width))
        return whole + self.rpn.count * macs_of_graph(dense, features=(1, self.heads[0].inputs))

    def maps(self, images: Any) -> Sequence[Any]:
        """Return what the proposals are made of, then the levels that the heads look at."""
        levels = self.neck(*self.backbone(images))
        return (*self.rpn_head(*levels), *levels[:-1])

    def found(self, F: Any, maps: Sequence[Any], sizes: Any) -> Tuple[Any, Any, Any]:
        """See :meth:`Detector.found`."""
        count = 2 * len(STRIDES)
        levels = maps[count:]
        boxes, scores = self.rpn(sizes, *maps[:count])
        there = F.expand_dims(scores >= 0, axis=2)
        image = F.reshape(F.contrib.arange_like(scores, axis=0), shape=(-1, 1, 1))
        image = F.broadcast_mul(there, image + 1) - 1  # -1 if there is no box
        total = 0
        for head, stage in zip(self.heads, STAGES):
            rois = F.reshape(F.concat(image, boxes, dim=2), shape=(-3, 0))
            logits, code = head(rois, *levels)
            boxes = clip(F, decode(F, boxes, F.reshape_like(code, boxes), stage.stds), sizes)
            total = logits + total
        # Each stage judged its own boxes; the last one's are reported.
        probabilities = F.softmax(total / len(STAGES), axis=1)
        probabilities = F.slice_axis(probabilities, axis=1, begin=1, end=None)
        probabilities = F.reshape_like(probabilities, boxes, lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2)
        return detections(F, boxes, F.broadcast_mul(probabilities, there), self.score_threshold, self.nms_overlap)

    def losses(self, images: Any, sizes: Any, boxes: Any, labels: Any, random: np.random.RandomState) -> Dict[str, Any]:
        """Return ``rpn_class``, ``rpn_box``, ``stage1_class``, ``stage1_box``, ..., see :meth:`Detector.losses`.

        Each is divided by the number of boxes drawn. A stage learns from the boxes that the one before drew and moved,
        without the ground truths among them.
        """
        self.check(images)
        levels = self.neck(*self.backbone(images))
        maps = self.rpn_head(*levels)
        truths = truths_of(sizes, boxes, labels)
        losses = self.rpn.losses(maps, truths, random)
        found = self._proposals(maps, truths)
        for number, (head, stage) in enumerate(zip(self.heads, STAGES), start=1):
            drawn = [draw(own, truth, stage, self.samples, random) for own, truth in zip(found, truths)]
            rois = self._rois(drawn, images.context)
            logits, code = head(rois, *levels[:-1])
            of_class, of_box = self._stage_losses(logits, code, drawn)
            losses[f'stage{number}_class'], losses[f'stage{number}_box'] = (
                stage.weight * of_class,
                stage.weight * of_box,
            )
            if number < len(STAGES):
                found = self._moved(rois, code, drawn, truths, stage)
        return losses

    def _proposals(self, maps: Sequence[nd.NDArray], truths: Sequence[Truth]) -> List[np.ndarray]:
        with autograd.pause():
            sizes = nd.array(np.stack([truth.size for truth in truths]), ctx=maps[0].context)
            boxes, scores = self.rpn(sizes, *maps)
        return [own[there] for own, there in zip(boxes.asnumpy(), scores.asnumpy() >= 0)]

    @staticmethod
    def _rois(drawn: Sequence[Drawn], ctx: Any) -> nd.NDArray:
        rois = [np.insert(own.boxes, 0, number, axis=1) for number, own in enumerate(drawn)]
        return nd.array(np.concatenate(rois), ctx=ctx)

    @staticmethod
    def _stage_losses(logits: nd.NDArray, code: nd.NDArray, drawn: Sequence[Drawn]) -> Tuple[nd.NDArray, nd.NDArray]:
        labels, aims = (np.concatenate([getattr(own, field) for own in drawn]) for field in ('labels', 'aims'))
        of_class = nd.sum(cross_entropy(logits, nd.array(labels, ctx=logits.context))) / len(labels)
        if not len(aims):
            return of_class, nd.sum(code) * 0
        positive = nd.array(np.flatnonzero(labels), dtype='int32', ctx=code.context)
        of_box = nd.sum(smooth_l1(nd.take(code, positive), nd.array(aims, ctx=code.context), BETA))
        return of_class, of_box / len(labels)

    @staticmethod
    def _moved(
        rois: nd.NDArray, code: nd.NDArray, drawn: Sequence[Drawn], truths: Sequence[Truth], stage: Stage
    ) -> List[np.ndarray]:
        with autograd.pause():
            boxes = decode(nd, nd.slice_axis(rois, axis=1, begin=1, end=5), code, stage.stds).asnumpy()
        each = np.split(boxes, np.cumsum([len(own.boxes) for own in drawn])[:-1])
        limits = [np.tile(truth.size[::-1] - 1, 2) for truth in truths]
        return [np.clip(own, 0, limit)[~part.added] for own, limit, part in zip(each, limits, drawn)]
