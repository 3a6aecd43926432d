"""Selecting boxes by score, against cases computed by hand."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

from detection import postprocess as select


def boxes_at(*starts):
    """Return boxes of 10 x 10 pixels."""
    return [[x, 0, x + 9, 9] for x in starts]


def test_cells_have_the_order_of_the_anchors():
    x = np.arange(2 * 6 * 2 * 3).reshape(2, 6, 2, 3)  # two anchors of three values at 2 x 3 places
    found = select.cells(nd, nd.array(x), 3).asnumpy()
    assert found.shape == (2, 12, 3)
    # Image 1, row 1, column 2, anchor 1: the last one.
    assert found[1, 11].tolist() == x[1, 3:, 1, 2].tolist()
    assert found[0, 2].tolist() == x[0, :3, 0, 1].tolist()


def test_best_takes_all_where_there_are_fewer():
    scores = nd.array([[0.1, 0.9, 0.5], [3, 2, 1]])
    assert select.best(nd, scores, 2).asnumpy().tolist() == [[1, 2], [0, 1]]
    assert select.best(nd, scores, 5).asnumpy().tolist() == [[1, 2, 0], [0, 1, 2]]


def test_each_image_gathers_its_own():
    array = nd.array(np.arange(2 * 3 * 4).reshape(2, 3, 4))
    found = select.gather(nd, array, nd.array([[2, 0], [1, 1]])).asnumpy()
    assert found[:, :, 0].tolist() == [[8, 0], [16, 16]]


def test_suppression_counts_the_last_pixel():
    # Moved by 2, 8 of 12 columns are shared: 0.667, and 0.6 if the last pixel did not count.
    boxes, scores = nd.array([boxes_at(0, 2, 50)]), nd.array([[0.5, 0.9, 0.7]])
    kept, best = select.suppress(nd, boxes, scores, 0.65, 10)
    assert kept.asnumpy()[0, :2].tolist() == boxes_at(2, 50)
    assert best.asnumpy()[0] == pytest.approx([0.9, 0.7, -1])
    kept, best = select.suppress(nd, boxes, scores, 0.67, 10)
    assert kept.asnumpy()[0].tolist() == boxes_at(2, 50, 0)
    kept, best = select.suppress(nd, boxes, scores, 0.67, 2)
    assert kept.asnumpy()[0].tolist() == boxes_at(2, 50)


def test_detections_suppress_within_a_class_only():
    boxes = nd.array([boxes_at(0, 1, 50)])
    scores = nd.array([[[0.9, 0.2], [0.8, 0.6], [0.04, 0.05]]])
    found, best, labels = (array.asnumpy()[0] for array in select.detections(nd, boxes, scores, 0.05, 0.5))
    # The second box is dropped from class 0, the first from class 1; 0.05 is not above 0.05.
    assert labels[:3].tolist() == [0, 1, -1]
    assert best[:3] == pytest.approx([0.9, 0.6, -1])
    assert found[:3].tolist() == [*boxes_at(0, 1), [-1] * 4]
    assert (labels[2:] == -1).all()
    assert len(labels) == select.DETECTIONS


def test_the_best_hundred_are_kept():
    boxes = nd.array([boxes_at(*range(0, 20 * 150, 20))])
    scores = nd.array(np.linspace(0.1, 0.9, 150).reshape(1, 150, 1))
    found, best, labels = (array.asnumpy()[0] for array in select.detections(nd, boxes, scores, 0.05, 0.5))
    assert (labels == 0).all()
    assert found[:, 0].tolist() == [20 * i for i in range(149, 49, -1)]
    assert best[0] == pytest.approx(0.9)


def test_only_so_many_candidates_are_compared(monkeypatch):
    boxes = nd.array([boxes_at(0, 1, 2, 50)])
    scores = nd.array([[[0.9], [0.8], [0.7], [0.6]]])
    labels = select.detections(nd, boxes, scores, 0.05, 0.5)[2].asnumpy()
    assert (labels >= 0).sum() == 2
    monkeypatch.setattr(select, 'CANDIDATES', 3)
    labels = select.detections(nd, boxes, scores, 0.05, 0.5)[2].asnumpy()
    assert (labels >= 0).sum() == 1


def test_symbols_answer_as_arrays_do():
    random = np.random.RandomState(0)
    starts = random.uniform(0, 50, (2, 40, 2))
    boxes = np.concatenate([starts, starts + random.uniform(5, 30, (2, 40, 2))], axis=2).astype(np.float32)
    scores = random.uniform(0, 1, (2, 40, 3)).astype(np.float32)
    expected = select.detections(nd, nd.array(boxes), nd.array(scores), 0.3, 0.5)
    graph = select.detections(mx.sym, mx.sym.var('boxes'), mx.sym.var('scores'), 0.3, 0.5)
    found = mx.sym.Group(list(graph)).bind(mx.cpu(), {'boxes': nd.array(boxes), 'scores': nd.array(scores)}).forward()
    assert all((a.asnumpy() == b.asnumpy()).all() for a, b in zip(expected, found))
