"""The augmentation equals its definition, step by step in floating point, and draws from the right distributions."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.crop import EIGENVALUES, EIGENVECTORS, ORDERS, ImagenetAugment, paint
from data.images import read_image
from data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from tests.data.classification.conftest import of_records
from tests.data.conftest import make_jpeg

WEIGHTS = np.array([0.299, 0.587, 0.114])
NORMAL = Preprocessing(16, IMAGENET_MEAN, IMAGENET_STD)
TABLE = NORMAL.batch(np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)).reshape(3, 256)


def painted(image, augment, augment_params, row, table=TABLE, preprocessing=NORMAL):
    out = np.empty((3, preprocessing.size, preprocessing.size), dtype=np.float32)
    paint(image, augment_params, row, augment, preprocessing, table, out)
    return out


def test_colours_equal_their_definition_step_by_step():
    """Apply brightness, contrast and saturation one after the other to (H, W, 3) floats, then the lighting."""
    augment, image = ImagenetAugment(), read_image(make_jpeg(3), 'image')
    plain = ImagenetAugment(jitter=0, lighting=0)
    identity = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    words = augment.words(1, 2, 60)
    augment_params = augment.draw(words)
    # The same random numbers without colour changes give the crop by itself.
    for row in range(60):
        cut = painted(image, plain, augment_params, row, identity).transpose(1, 2, 0).astype(np.float64)
        numbers = colour_numbers(words[row])
        factors = 1 + 0.4 * (2 * numbers[:3] - 1)
        for kind in ORDERS[int(numbers[3] * 6)]:
            f, grey = factors[kind], (cut @ WEIGHTS)[..., np.newaxis]
            towards = {0: 0.0, 1: grey.mean(), 2: grey}[kind]
            cut = f * cut + (1 - f) * towards
        normal = [
            math.sqrt(-2 * math.log(1 - numbers[4])) * math.cos(2 * math.pi * numbers[5]),
            math.sqrt(-2 * math.log(1 - numbers[4])) * math.sin(2 * math.pi * numbers[5]),
            math.sqrt(-2 * math.log(1 - numbers[6])) * math.cos(2 * math.pi * numbers[7]),
        ]
        cut = cut + EIGENVECTORS @ (0.1 * np.array(normal) * EIGENVALUES)
        expected = np.clip(np.round(cut), 0, 255).transpose(2, 0, 1)
        # OpenCV's product has 10 bits after the point.
        np.testing.assert_allclose(painted(image, augment, augment_params, row, identity), expected, rtol=0, atol=1.01)


def splitmix(state):
    """Yield the published generator's numbers one at a time."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        yield ((z ^ (z >> 31)) >> 11) / 2**53


def colour_numbers(word):
    numbers = splitmix(int(word))
    next(numbers)  # the one for mirroring
    return np.array([next(numbers) for _ in range(9)])


def test_lighting_has_the_principal_components_of_imagenet():
    np.testing.assert_allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=2e-3)
    light = np.array(ImagenetAugment().draw(ImagenetAugment().words(0, 0, 40000)).light)
    covariance = EIGENVECTORS @ np.diag((0.1 * EIGENVALUES) ** 2) @ EIGENVECTORS.T
    np.testing.assert_allclose(np.cov(light.T), covariance, rtol=0.05, atol=0.01)
    assert abs(light.mean(0)).max() < 0.1


@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=200)
def test_cuts_lie_inside_and_obey_their_bounds(seed, height, width):
    augment = ImagenetAugment()
    top, left, h, w = augment.cut(augment.draw(augment.words(seed, 0, 1)).places[0], height, width)
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h >= 1
    assert w >= 1
    if min(height, width) >= 40:
        assert 0.07 < h * w / (height * width) <= 1
        assert 0.7 < w / h < 1.43


def test_cuts_are_uniform_in_area_and_in_the_logarithm_of_the_aspect():
    augment = ImagenetAugment()
    places = augment.draw(augment.words(7, 0, 4000)).places
    cuts = np.array([augment.cut(place, 3000, 3000) for place in places], dtype=np.float64)
    area, aspect = cuts[:, 2] * cuts[:, 3] / 9e6, np.log(cuts[:, 3] / cuts[:, 2])
    # Large areas fit less often, so small ones are tested.
    small = area[area < 0.5]
    assert abs(np.histogram(small, 7, (0.08, 0.5))[0] / len(small) - 1 / 7).max() < 0.02
    limit = math.log(4 / 3)
    inner = aspect[area < 0.5]
    assert abs(np.histogram(inner, 5, (-limit, limit))[0] / len(inner) - 0.2).max() < 0.03
    free = cuts[area < 0.5]
    assert abs((free[:, 0] / (3000 - free[:, 2])).mean() - 0.5) < 0.02
    assert abs((free[:, 1] / (3000 - free[:, 3])).mean() - 0.5) < 0.02


def test_half_of_the_images_are_mirrored_and_each_option_does_something():
    augment = ImagenetAugment()
    words = augment.words(0, 0, 2000)
    assert 0.45 < np.mean(augment.draw(words).flip) < 0.55
    assert not any(ImagenetAugment(flip=False).draw(words).flip)
    image = read_image(make_jpeg(5), 'image')
    results = set()
    for change in ({}, {'jitter': 0}, {'lighting': 0}, {'area': (0.5, 0.5)}, {'aspect': 1}):
        changed = ImagenetAugment(**change)
        results.add(painted(image, changed, changed.draw(words), 0).tobytes())
    assert len(results) == 5
    row = augment.draw(words).flip.index(True)
    mirrored, straight = (
        painted(image, ImagenetAugment(flip=flip, jitter=0, lighting=0), augment.draw(words), row)
        if flip
        else painted(image, ImagenetAugment(jitter=0, lighting=0), ImagenetAugment(flip=False).draw(words), row)
        for flip in (True, False)
    )
    np.testing.assert_array_equal(mirrored, straight[:, :, ::-1])


def test_without_changes_the_whole_image_is_normalised_as_evaluation_does_it():
    augment = ImagenetAugment(area=(1, 1), aspect=1, flip=False, jitter=0, lighting=0)
    image = read_image(make_jpeg(1, 16, 16), 'image')
    out = painted(image, augment, augment.draw(augment.words(0, 0, 1)), 0)
    np.testing.assert_array_equal(out, NORMAL.batch(image[np.newaxis])[0])


def test_draws_are_pinned():
    """A resumed run must continue in the same way after an update."""
    augment = ImagenetAugment()
    augment_params = augment.draw(augment.words(1, 2, 3))
    cuts = [augment.cut(place, 375, 500) for place in augment_params.places]
    assert (cuts, augment_params.flip) == (PINNED_CUTS, PINNED_FLIPS)
    np.testing.assert_allclose([*augment_params.colour[0, 0, :3], augment_params.light[0][0]], PINNED_COLOUR, rtol=1e-6)


PINNED_CUTS = [(94, 146, 236, 185), (31, 157, 173, 168), (26, 2, 346, 460)]
PINNED_FLIPS = [True, False, True]
PINNED_COLOUR = [1.16638607461892, 0.08314902211197674, 0.016148191687845568, -1.556674677998758]


@pytest.mark.parametrize(
    'wrong', [{'area': (0, 1)}, {'area': (0.5, 0.4)}, {'aspect': 0.9}, {'jitter': 2}, {'lighting': -1}]
)
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImagenetAugment(**wrong)


def test_opencv_takes_one_thread_each(rec):
    cv2.setNumThreads(2)
    of_records(rec, batch_size=4)
    assert cv2.getNumThreads() == 1
