"""Scaling: the same for training and evaluation, antialiased by default, and as expensive as the part that is used."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.augmentation.crop import ImagenetAugment, paint
from data.choices import INTERPOLATIONS
from data.pixels import shrink
from data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from data.scaling import scaled
from detection.preprocessing import DetectionPreprocessing

SMALL = Preprocessing(32, IMAGENET_MEAN, IMAGENET_STD)
LEVELS = list(np.tile(np.arange(256, dtype=np.float32), (3, 1)))


def stripes(side):
    """Return an image in which every second column is white: grey at a third of the size, unless aliased."""
    image = np.zeros((side, side, 3), np.uint8)
    image[:, ::2] = 255
    return image


def in_training(image, preprocessing):
    """Return the whole image as a training crop without other changes, (size, size, 3)."""
    augment = ImagenetAugment(area=(1, 1), aspect=1, flip=False, jitter=0, lighting=0)
    out = np.empty((3, preprocessing.size, preprocessing.size), np.float32)
    paint(image, augment.draw(augment.words(0, 0, 1)), 0, augment, preprocessing, LEVELS, out)
    return out.transpose(1, 2, 0)


@pytest.mark.parametrize('side', [20, 32, 40, 96, 111])
@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
def test_training_scales_as_evaluation_does(side, interpolation):
    image = np.random.RandomState(side).randint(0, 256, (side, side, 3)).astype(np.uint8)
    known = replace(SMALL, interpolation=interpolation)
    np.testing.assert_allclose(in_training(image, known), known.fit(image), rtol=0, atol=1)


def test_what_falls_between_is_not_overlooked_unless_asked():
    image, plain = stripes(96), replace(SMALL, interpolation='plain')
    for of in (SMALL.fit, lambda image: in_training(image, SMALL), lambda image: shrink(image, 32)):
        assert np.asarray(of(image), float).std() < 20
    detector = DetectionPreprocessing(32, 64)
    assert detector.fit(image).std() < 20
    for of in (plain.fit, replace(detector, interpolation='plain').fit, lambda image: in_training(image, plain)):
        assert of(image).std() > 100


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(INTERPOLATIONS))
@settings(deadline=None, max_examples=60)
def test_a_part_is_scaled_as_if_all_were_scaled_and_then_cut(height, width, interpolation):
    # Pillow scales rows and columns in the cheaper order, and clips in between, so nothing must overshoot here.
    image = np.random.RandomState(height).randint(96, 160, (height, width, 3)).astype(np.uint8)
    known = replace(SMALL, resize=40, interpolation=interpolation)
    short = min(height, width)
    sides = tuple(max(40, round(side * 40 / short)) for side in (width, height))
    if interpolation == 'plain':
        whole = cv2.resize(image, sides, interpolation=cv2.INTER_LINEAR)
    else:
        weights = Image.BICUBIC if interpolation == 'bicubic' else Image.BILINEAR
        whole = np.asarray(Image.fromarray(image).resize(sides, weights))
    left, top = ((side - 32) // 2 for side in sides)
    np.testing.assert_allclose(
        known.fit(image).astype(int), whole[top : top + 32, left : left + 32].astype(int), rtol=0, atol=2
    )


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
def test_an_image_as_thin_as_a_hair_takes_no_more_than_what_is_seen_of_it(interpolation):
    """Scaled whole, these would take 9 GiB."""
    known = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, resize=256, interpolation=interpolation)
    hair = np.full((1, 65535, 3), 10, np.uint8)
    hair[:, 32766:32769] = 200
    for image in (hair, hair.transpose(1, 0, 2)):
        pixels = known.fit(image)
        assert pixels.shape == (224, 224, 3)
        assert pixels[112, 112].tolist() == [200, 200, 200]


def test_a_wrong_name():
    with pytest.raises(ValueError, match="interpolation 'cubic' .* must be one of antialiased, plain, bicubic"):
        Preprocessing(32, IMAGENET_MEAN, IMAGENET_STD, interpolation='cubic')
    with pytest.raises(ValueError, match='must be one of'):
        scaled(stripes(8), (4, 4), 'cubic')
