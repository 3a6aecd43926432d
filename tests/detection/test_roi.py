"""RoIAlign, against bilinear sampling written out."""

import numpy as np
import pytest
from mxnet import autograd, nd

from detection.roi import STRIDES, RoIFeatures

SIZE = 7


def sampled(level, stride, box):
    """Compute RoIAlign of one box on a map (C, H, W): the mean of 2 x 2 bilinear samples in each bin."""
    _, height, width = level.shape
    x1, y1, x2, y2 = np.array([box[0], box[1], box[2] + 1, box[3] + 1]) / stride
    steps = (np.arange(2 * SIZE) + 0.5) / (2 * SIZE)
    weights = []
    for start, end, cells in ((y1, y2, height), (x1, x2, width)):
        at = np.clip(start + steps * (end - start), 0, cells - 1)
        tent = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0)
        weights.append(tent.reshape(SIZE, 2, cells).mean(axis=1))
    return np.einsum('yh,xw,chw->cyx', weights[0], weights[1], level)


@pytest.fixture
def levels():
    random = np.random.RandomState(0)
    return [random.normal(size=(2, 3, 512 // stride, 512 // stride)).astype(np.float32) for stride in STRIDES]


# Image, box, level. Sides of 112 pixels and more belong to P3; the geometric mean of the sides decides.
CASES = [
    (0, (10, 20, 73, 59), 0),
    (1, (10, 20, 120, 130), 0),  # 111 pixels: one short
    (1, (10, 20, 121, 131), 1),
    (0, (10, 20, 10 + 55, 20 + 223), 1),  # 56 x 224
    (1, (0, 0, 223, 223), 2),
    (0, (5, 7, 505, 500), 3),
    (1, (0, 0, 511, 511), 3),
    (0, (-300, -300, 900, 900), 3),  # the coarsest there is
]


def test_boxes_are_sampled_on_the_level_of_their_size(levels):
    boxes = nd.array([[image, *box] for image, box, _ in CASES[:-1]])
    found = RoIFeatures(SIZE)(boxes, *map(nd.array, levels)).asnumpy()
    assert found.shape == (len(CASES) - 1, 3, SIZE, SIZE)
    for features, (image, box, level) in zip(found, CASES):
        assert features == pytest.approx(sampled(levels[level][image], STRIDES[level], box), abs=1e-4)


@pytest.mark.parametrize('hybrid', [False, True])
def test_only_the_level_and_image_of_a_box_matter_and_learn(hybrid, levels):
    for image, box, level in CASES:
        maps = [nd.array(x) for x in levels]
        for x in maps:
            x.attach_grad()
        block = RoIFeatures(SIZE)
        block.hybridize(active=hybrid)
        with autograd.record():
            features = block(nd.array([[image, *box]]), *maps)
        features.backward()
        touched = [[bool(x.grad[i].abs().sum().asscalar()) for i in range(2)] for x in maps]
        assert [(i, j) for i in range(4) for j in range(2) if touched[i][j]] == [(level, image)]
        if box[0] >= 0:  # every bin is a mean, whose weights sum to 1
            assert maps[level].grad.sum().asscalar() == pytest.approx(3 * SIZE**2, rel=1e-4)


def test_no_box_gives_zeros_and_no_gradient(levels):
    maps = [nd.array(x) for x in levels]
    maps[0].attach_grad()
    boxes = nd.array([[-1, 10, 20, 73, 59], [0, 10, 20, 73, 59], [-1, -1, -1, -2, -2]])
    with autograd.record():
        found = RoIFeatures(SIZE)(boxes, *maps)
    found.backward(nd.array(np.array([1, 0, 1]).reshape(3, 1, 1, 1) * np.ones(found.shape)))
    assert (found[0].asnumpy() == 0).all()
    assert (found[2].asnumpy() == 0).all()
    assert found[1].abs().sum().asscalar() > 0
    assert (maps[0].grad.asnumpy() == 0).all()
