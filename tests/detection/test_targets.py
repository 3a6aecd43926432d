"""Each detector's losses, computed box by box from the outputs of its network."""

import math

import numpy as np
import pytest
from mxnet import autograd, nd

from detection.boxes import encode, iou
from detection.cascade import STAGES, CascadeRCNN, Drawn, Stage, draw
from detection.detector import Truth
from detection.matching import IGNORED, NEGATIVE, match
from tests.detection.cases import outspoken, small

# Two images padded to 96 x 128; by itself, the first would be padded to 64 x 96. The last row of boxes only fills up.
SIZES = np.array([[60, 90], [96, 100]], np.float32)
BOXES = np.array([[[10, 10, 50, 50], [60, 5, 88, 55]], [[5, 5, 40, 40], [-1, -1, -1, -1]]], np.float32)
LABELS = np.array([[0, 1], [1, -1]], np.float32)


def images():
    return nd.array(np.random.RandomState(0).normal(size=(2, 3, 96, 128)).astype(np.float32))


def rows(maps, values):
    """Return maps (N, A values, H, W) as (N, anchors, values), written out."""
    flat = []
    for level in maps:
        count, channels, height, width = level.shape
        split = level.asnumpy().reshape(count, channels // values, values, height, width)
        flat.append(split.transpose(0, 3, 4, 1, 2).reshape(count, -1, values))
    return np.concatenate(flat, axis=1).astype(np.float64)


def smooth(difference, beta):
    return sum(d * d / (2 * beta) if d < beta else d - beta / 2 for d in np.abs(difference))


def anchors_of(grids, maps):
    return np.concatenate([grid.of(*level.shape[2:]) for grid, level in zip(grids, maps)])


def test_retinanet():
    det = outspoken(small('retinanet'))
    with autograd.train_mode():
        maps = det.maps(images())
        losses = det.losses(images(), SIZES, BOXES, LABELS, None)
    anchors = anchors_of(det.anchors, maps)
    logits, codes = rows(maps[:5], 2), rows(maps[5:], 4)
    own = [(64, 96), (96, 128)]
    of_class = of_box = positives = 0
    for i, (height, width) in enumerate(own):
        truths = BOXES[i][LABELS[i] >= 0]
        overlaps = iou(anchors, truths)
        # The cell's corner, from the centre of its anchors, says whether it lies in the image's own padding.
        cells = []
        for grid, level in zip(det.anchors, maps):
            count = level.shape[2] * level.shape[3]
            for cell in range(count):
                y, x = divmod(cell, level.shape[3])
                cells += [(y * grid.stride < height) and (x * grid.stride < width)] * grid.count
        best_of = np.where(np.array(cells)[:, None], overlaps, -1).max(axis=0)
        found = 0
        for a in np.flatnonzero(cells):
            truth = int(overlaps[a].argmax()) if overlaps[a].max() >= 0.5 else None
            for t in range(len(truths)):
                truth = t if overlaps[a, t] == best_of[t] else truth
            if truth is None and overlaps[a].max() >= 0.4:
                continue
            for name in range(2):
                p = 1 / (1 + math.exp(-logits[i, a, name]))
                if truth is not None and LABELS[i, truth] == name:
                    of_class -= 0.25 * (1 - p) ** 2 * math.log(p)
                else:
                    of_class -= 0.75 * p**2 * math.log(1 - p)
            if truth is not None:
                found += 1
                of_box += smooth(codes[i, a] - encode(anchors[a : a + 1], truths[truth : truth + 1])[0], 0.11)
        positives += max(found, 1)
    assert positives > 4
    assert losses['class'].asscalar() == pytest.approx(of_class / positives, rel=1e-4)
    assert losses['box'].asscalar() == pytest.approx(of_box / positives, rel=1e-4)


def test_region_proposals():
    det = outspoken(small('cascade_rcnn', rpn_samples=10_000))  # all anchors are drawn
    levels = det.neck(*det.backbone(images()))
    maps = det.rpn_head(*levels)
    truths = [Truth(BOXES[i][LABELS[i] >= 0], LABELS[i][LABELS[i] >= 0].astype(int), SIZES[i]) for i in range(2)]
    losses = det.rpn.losses(maps, truths, np.random.RandomState(0))
    anchors = anchors_of(det.rpn.anchors, maps)
    logits, codes = rows(maps[:5], 1)[..., 0], rows(maps[5:], 4)
    of_class = of_box = drawn = positives = 0
    for i, (height, width) in enumerate(SIZES):
        inside = [a for a, b in enumerate(anchors) if min(b) >= 0 and b[2] < width and b[3] < height]
        matches = match(anchors[inside], truths[i].boxes, 0.7, 0.3, 0.3)
        for a, chosen in zip(inside, matches):
            if chosen == IGNORED:
                continue
            drawn += 1
            p = 1 / (1 + math.exp(-logits[i, a]))
            of_class -= math.log(1 - p if chosen == NEGATIVE else p)
            if chosen != NEGATIVE:
                positives += 1
                of_box += smooth(codes[i, a] - encode(anchors[a : a + 1], truths[i].boxes[[chosen]])[0], 1 / 9)
    assert positives
    assert losses['rpn_class'].asscalar() == pytest.approx(of_class / drawn, rel=1e-4)
    assert losses['rpn_box'].asscalar() == pytest.approx(of_box / drawn, rel=1e-4)


def test_proposals_are_decoded_anchors_without_doubles_in_order():
    det = outspoken(small('cascade_rcnn', proposals=50))
    maps = det.rpn_head(*det.neck(*det.backbone(images())))
    boxes, scores = (array.asnumpy() for array in det.rpn(nd.array(SIZES), *maps))
    assert boxes.shape == (2, 50, 4)
    assert (np.diff(scores, axis=1) <= 0).all()
    objectness = rows(maps[:5], 1)[..., 0]
    for i in range(2):
        # The best of a level always survives.
        assert scores[i, 0] == pytest.approx(1 / (1 + math.exp(-objectness[i].max())), rel=1e-5)
        assert (boxes[i] >= 0).all()
        assert (boxes[i, :, 2] <= SIZES[i, 1] - 1).all()
    # Overlaps above 0.7 remain only between levels.
    alone = [x * 0 - 50 if index % 5 else x for index, x in enumerate(maps[:5])] + list(maps[5:])
    found, scores = (array.asnumpy()[0] for array in det.rpn(nd.array(SIZES), *alone))
    first = found[scores > 1e-6]
    assert len(first) > 5
    assert (iou(first, first) - np.eye(len(first))).max() <= 0.7 + 1e-5


def truth():
    return Truth(np.array([[0, 0, 9, 9], [50, 0, 59, 9]], np.float32), np.array([3, 1]), np.array([100.0, 100.0]))


def test_a_stage_draws_ground_truths_too_and_encodes_with_its_stds():
    boxes = np.array([[1, 0, 10, 9], [80, 80, 89, 89], [4, 0, 13, 9]], np.float32)  # 9 / 11, 0 and 6 / 14 of the first
    drawn = draw(boxes, truth(), STAGES[0], 100, np.random.RandomState(0))
    assert drawn.boxes.tolist() == [[0, 0, 9, 9], [50, 0, 59, 9], [1, 0, 10, 9], [80, 80, 89, 89], [4, 0, 13, 9]]
    assert drawn.labels.tolist() == [4, 2, 4, 0, 0]
    assert drawn.added.tolist() == [True, True, False, False, False]
    assert drawn.aims == pytest.approx(np.array([[0] * 4, [0] * 4, [-0.1 / 0.1, 0, 0, 0]]))
    strict = draw(boxes, truth(), Stage(0.9, (1, 1, 1, 1), 1.0), 100, np.random.RandomState(0))
    assert strict.labels.tolist() == [4, 2, 0, 0, 0]


def test_a_quarter_of_what_a_stage_draws_is_positive_at_most():
    boxes = np.tile(truth().boxes, (20, 1)) + np.array([0, 0, 1, 1], np.float32)
    far = np.tile(np.array([[80, 80, 89, 89]], np.float32), (50, 1))
    drawn = draw(np.concatenate([boxes, far]), truth(), STAGES[0], 16, np.random.RandomState(0))
    assert len(drawn.aims) == 4
    assert (drawn.labels > 0).sum() == 4
    assert len(drawn.boxes) == 16


def test_losses_of_a_stage():
    logits = nd.array(np.log([[1, 2, 5], [2, 1, 1], [1, 1, 2]]))
    code = nd.array([[0.5, 0, 0, 2], [9, 9, 9, 9], [9, 9, 9, 9]])
    boxes, aims = np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32)
    drawn = [
        Drawn(boxes, np.array([2.0]), aims, np.array([False])),
        Drawn(boxes[[0, 0]], np.array([0.0, 0.0]), aims[:0], np.array([False, False])),
    ]
    of_class, of_box = CascadeRCNN._stage_losses(logits, code, drawn)
    assert of_class.asscalar() == pytest.approx((math.log(8 / 5) + math.log(2) + math.log(4)) / 3, rel=1e-5)
    assert of_box.asscalar() == pytest.approx((0.125 + 1.5) / 3, rel=1e-5)  # all three boxes count


def test_the_next_stage_gets_the_moved_boxes_without_the_ground_truths():
    boxes = np.array([[0, 0, 9, 9], [10, 10, 19, 19], [90, 90, 99, 99]], np.float32)
    drawn = [Drawn(boxes, np.zeros(3), boxes[:0], np.array([True, False, False]))]
    rois = CascadeRCNN._rois(drawn, nd.zeros(1).context)
    code = nd.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    (moved,) = CascadeRCNN._moved(rois, code, drawn, [truth()], STAGES[0])
    # A tenth of ten pixels to the right, and the second box is clipped at the image's edge.
    assert moved == pytest.approx(np.array([[11, 10, 20, 19], [91, 91, 99, 99]]), abs=1e-4)


def test_random_numbers_decide_what_is_drawn():
    det = small('cascade_rcnn', samples=16, rpn_samples=16)
    values = [
        [loss.asscalar() for loss in det.losses(images(), SIZES, BOXES, LABELS, np.random.RandomState(s)).values()]
        for s in (0, 0, 1)
    ]
    assert values[0] == values[1]
    assert values[0] != values[2]
    assert len(values[0]) == 2 + 2 * len(STAGES)
