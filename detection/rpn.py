"""Region proposals: where something is, whatever it is."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np
from mxnet import gluon, nd
from mxnet.gluon import nn

from detection.anchors import AnchorGrid
from detection.boxes import clip, decode, encode
from detection.convolutions import head_convolution
from detection.detector import Truth
from detection.losses import binary_cross_entropy, smooth_l1
from detection.matching import IGNORED, match
from detection.postprocess import best, cells, gather, suppress
from detection.sampling import sample

__all__ = ['STRIDES', 'RPNHead', 'RegionProposals']

STRIDES = (4, 8, 16, 32, 64)
POSITIVE, NEGATIVE, FLOOR = 0.7, 0.3, 0.3
POSITIVE_SHARE = 0.5
OVERLAP = 0.7  # of two proposals, at most
BETA = 1 / 9  # of smooth L1


class RPNHead(gluon.HybridBlock):
    """Score and regress the ``anchors`` = A boxes at each position.

    Levels ``(N, channels, H, W)`` -> for each a map ``(N, A, H, W)`` of objectness, then for each one ``(N, 4 A, H,
    W)`` of box codes. A 3x3 convolution with ReLU, then a 1x1 convolution for either.
    """

    def __init__(self, channels: int, anchors: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared = head_convolution(channels, channels)
        self.objectness = head_convolution(channels, anchors, 1)
        self.code = head_convolution(channels, 4 * anchors, 1)

    def hybrid_forward(self, F: Any, *levels: Any) -> Tuple[Any, ...]:
        hidden = [F.Activation(self.shared(level), act_type='relu') for level in levels]
        return tuple(output(x) for output in (self.objectness, self.code) for x in hidden)


class RegionProposals(gluon.HybridBlock):
    """Ren, He, Girshick, Sun, "Faster R-CNN", arXiv 1506.01497, on a pyramid, as in DCANet's experiments.

    ``(sizes, *maps) -> (boxes, scores)``: from the images' heights and widths (N, 2) and the output of a
    :class:`RPNHead` for their levels to boxes (N, K, 4) and scores (N, K), best first; a score of -1 means that there
    is no box. Training and inference make the same number.

    Args:
        proposals: boxes of an image; at most this many of each level also go into the suppression and come out of it.
        samples: anchors of an image that a training step uses, of which at most half are positive.
        anchor_scale: side of a level's anchor, in strides.
    """

    def __init__(self, proposals: int = 2000, samples: int = 256, anchor_scale: float = 8.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count, self.samples = proposals, samples
        self.anchors = nn.HybridSequential()
        self.anchors.add(*(AnchorGrid(stride, (anchor_scale,)) for stride in STRIDES))

    def hybrid_forward(self, F: Any, sizes: Any, *maps: Any) -> Tuple[Any, Any]:
        boxes, scores = [], []
        for grid, objectness, code in zip(self.anchors, maps, maps[len(STRIDES) :]):
            anchors = F.reshape(grid(objectness), shape=(-1, 4))
            objectness, code = F.sigmoid(cells(F, objectness, 1)), cells(F, code, 4)
            chosen = best(F, F.reshape(objectness, shape=(0, -1)), self.count)
            found = clip(F, decode(F, F.take(anchors, chosen), gather(F, code, chosen)), sizes)
            kept = suppress(F, found, F.reshape(gather(F, objectness, chosen), shape=(0, -1)), OVERLAP, self.count)
            for collected, part in zip((boxes, scores), kept):
                collected.append(part)
        boxes, scores = F.concat(*boxes, dim=1), F.concat(*scores, dim=1)
        chosen = best(F, scores, self.count)
        return gather(F, boxes, chosen), F.reshape(gather(F, F.expand_dims(scores, axis=2), chosen), shape=(0, -1))

    def losses(
        self, maps: Sequence[nd.NDArray], truths: Sequence[Truth], random: np.random.RandomState
    ) -> Dict[str, nd.NDArray]:
        """Return ``rpn_class`` and ``rpn_box``, both divided by the number of anchors drawn.

        Only anchors that lie in the image, without its padding, take part.
        """
        anchors = np.concatenate([grid.of(*level.shape[2:]) for grid, level in zip(self.anchors, maps)])
        positives, negatives, aims = [], [], []
        for number, truth in enumerate(truths):
            matches = self._match(anchors, truth)
            positive, negative = sample(matches, self.samples, POSITIVE_SHARE, random)
            positives.append(number * len(anchors) + positive)
            negatives.append(number * len(anchors) + negative)
            if len(positive):
                aims.append(encode(anchors[positive], truth.boxes[matches[positive]]))
        positive = np.concatenate(positives)
        drawn = np.concatenate([positive, *negatives])
        ctx = maps[0].context
        objectness = nd.concat(*(cells(nd, level, 1) for level in maps[: len(STRIDES)]), dim=1)
        code = nd.concat(*(cells(nd, level, 4) for level in maps[len(STRIDES) :]), dim=1)
        if not len(drawn):  # images so small that no anchor fits in
            return {'rpn_class': nd.sum(objectness) * 0, 'rpn_box': nd.sum(code) * 0}
        answers = nd.array(np.arange(len(drawn)) < len(positive), dtype='float32', ctx=ctx)
        logits = nd.take(nd.reshape(objectness, shape=(-1,)), nd.array(drawn, dtype='int32', ctx=ctx))
        of_box = nd.sum(code) * 0
        if len(positive):
            found = nd.take(nd.reshape(code, shape=(-1, 4)), nd.array(positive, dtype='int32', ctx=ctx))
            of_box = nd.sum(smooth_l1(found, nd.array(np.concatenate(aims), ctx=ctx), BETA))
        return {
            'rpn_class': nd.sum(binary_cross_entropy(logits, answers)) / len(drawn),
            'rpn_box': of_box / len(drawn),
        }

    @staticmethod
    def _match(anchors: np.ndarray, truth: Truth) -> np.ndarray:
        height, width = truth.size
        inside = (anchors[:, :2] >= 0).all(axis=1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
        matches = np.full(len(anchors), IGNORED, np.int64)
        matches[inside] = match(anchors[inside], truth.boxes, POSITIVE, NEGATIVE, FLOOR)
        return matches
