"""A detector's preprocessing of images and boxes, and its inverse, against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.preprocessing import DetectionPreprocessing, flip

PUBLISHED = DetectionPreprocessing()


@pytest.mark.parametrize(
    ('size', 'scaled', 'padded'),
    [
        ((640, 480), (1067, 800), (1088, 800)),  # the short side binds: 800 / 480
        ((640, 360), (1333, 750), (1344, 768)),  # the long one: 1333 / 640
        ((480, 640), (800, 1067), (800, 1088)),
        ((500, 500), (800, 800), (800, 800)),
        ((4000, 100), (1333, 33), (1344, 64)),
    ],
)
def test_sizes_of_the_published_scaling(size, scaled, padded):
    assert PUBLISHED.scaled_size(*size) == scaled
    assert PUBLISHED.padded_size(*size) == padded
    assert PUBLISHED.fit(np.zeros((*size[::-1], 3), np.uint8)).shape == (*scaled[::-1], 3)


def test_normalised_as_mmdetection_does_and_padded_with_zeros():
    small = DetectionPreprocessing(32, 64)
    image = np.arange(40 * 32 * 3, dtype=np.uint8).reshape(40, 32, 3)
    row = small.normalise(image)
    by_hand = (image.astype(np.float64) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(row, by_hand.transpose(2, 0, 1), atol=1e-5)
    data, sizes = small.batch([row, row[:, :32, :20]])
    assert data.shape == (2, 3, 64, 32)
    assert sizes.tolist() == [[40, 32], [32, 20]]
    assert (data[0, :, :40] == row).all()
    assert not data[0, :, 40:].any()
    assert (data[1, :, :32, :20] == row[:, :32, :20]).all()
    assert not data[1, :, 32:].any()
    assert not data[1, :, :, 20:].any()


def test_boxes_are_scaled_cut_and_brought_back():
    half = DetectionPreprocessing(240, 1000)
    boxes = np.float32([[10, 20, 101, 99], [600, 400, 700, 500]])
    scaled = half.scaled_boxes(boxes, 640, 480)
    assert scaled.tolist() == [[5, 10, 50.5, 49.5], [300, 200, 319, 239]]
    assert half.original_boxes(scaled, 640, 480)[0].tolist() == boxes[0].tolist()


def test_a_mirrored_box_holds_the_same_pixels():
    image = np.zeros((8, 11), int)
    image[2:5, 1:4] = 1
    (left, top, right, bottom), _ = flip(np.float32([[1, 2, 3, 4], [0, 0, 10, 7]]), 11).astype(int)
    mirror = image[:, ::-1]
    assert mirror[top : bottom + 1, left : right + 1].all()
    assert mirror.sum() == (bottom - top + 1) * (right - left + 1)


@given(st.integers(1, 200), st.lists(st.tuples(*[st.floats(0, 199, width=32)] * 4), max_size=3))
def test_mirroring_twice_changes_nothing(width, boxes):
    boxes = np.float32(boxes).reshape(-1, 4)
    np.testing.assert_allclose(flip(flip(boxes, width), width), boxes, atol=1e-3)


@given(st.integers(32, 5000), st.integers(32, 5000))
def test_both_limits_hold_and_one_binds(width, height):
    scaled = PUBLISHED.scaled_size(width, height)
    assert max(scaled) <= 1333
    assert min(scaled) <= 800
    assert max(scaled) == 1333 or min(scaled) == 800
    assert all(side % 32 == 0 and side >= own for side, own in zip(PUBLISHED.padded_size(width, height), scaled))


def test_it_survives_a_manifest():
    some = DetectionPreprocessing(240, 400, (0.1, 0.2, 0.3), (1, 2, 3))
    assert DetectionPreprocessing.from_dict(some.to_dict()) == some
    assert DetectionPreprocessing.from_dict({}) == replace(PUBLISHED, interpolation='plain')  # an earlier manifest
    for wrong in (
        {'size': 3},
        {'short': 0},
        {'interpolation': 'best'},
        {'short': 900, 'max_size': 800},
        {'std': [0, 1, 1]},
        None,
    ):
        with pytest.raises(ValueError, match='preprocessing'):
            DetectionPreprocessing.from_dict(wrong)
