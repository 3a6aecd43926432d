"""Both detectors learn to find rectangles, with nothing to start from."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from detection.boxes import iou
from tests.detection.cases import rectangles, small


@pytest.mark.parametrize(
    ('kind', 'norm', 'rate', 'steps'),
    [
        ('retinanet', 'batch', 0.01, 60),
        pytest.param('cascade_rcnn', None, 0.003, 120, marks=pytest.mark.heavy),
    ],
)
def test_a_rectangle_is_found_and_named(kind, norm, rate, steps):
    det = small(kind, head_norm=norm)
    det.hybridize()
    random = np.random.RandomState(0)
    images, sizes, boxes, labels = rectangles(random)
    trainer = gluon.Trainer(det.collect_params(), 'sgd', {'learning_rate': rate, 'momentum': 0.9})
    first = None
    for _ in range(steps):
        with autograd.record():
            losses = det.losses(images, sizes, boxes, labels, random)
            total = sum(losses.values())
        total.backward()
        trainer.step(1)
        first = first or total.asscalar()
    assert total.asscalar() < 0.5 * first
    found, scores, names = (array.asnumpy() for array in det(images, nd.array(sizes)))
    for i in range(len(labels)):
        assert iou(found[i, :1], boxes[i])[0, 0] > 0.7
        assert names[i, 0] == labels[i, 0]
        assert scores[i, 0] > 0.3
    mx.nd.waitall()
