"""RandAugment and TrivialAugment against torchvision 0.28: the space of operations, each of them, and the draws.

`torchvision.npz` holds what torchvision made of a small image, with linear interpolation: CRC-32 of the pixels for each
operation, strength and sign; the pixels themselves where Pillow interpolates, of a corner of the image, every second
strength with a negative sign.
"""

import math
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.augmentation.auto import STRENGTHS, AutoAugment, magnitude_of
from data.augmentation.draws import random_words
from data.augmentation.operations import OPERATIONS

WITNESS = dict(np.load(Path(__file__).with_name('torchvision.npz')))
IMAGE = WITNESS['image']
CASES = [(kind, name) for kind in ('rand', 'trivial') for name in OPERATIONS]
WORDS = random_words(3, 1, 2, 20_000)


@pytest.mark.parametrize(('kind', 'name'), CASES)
def test_strengths_are_torchvisions(kind, name):
    magnitudes = [magnitude_of(kind, name, strength, *IMAGE.shape[:2]) for strength in range(STRENGTHS)]
    np.testing.assert_allclose(magnitudes, WITNESS[f'{kind} {name} magnitudes'], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(('kind', 'name'), CASES)
def test_operations_give_torchvisions_pixels(kind, name):
    magnitudes, before = WITNESS[f'{kind} {name} magnitudes'], IMAGE.copy()
    if f'{kind} {name} images' in WITNESS:
        expected = WITNESS[f'{kind} {name} images']
        small = np.ascontiguousarray(IMAGE[: expected.shape[1], : expected.shape[2]])
        for strength, (magnitude, image) in enumerate(zip(magnitudes, expected)):
            found = OPERATIONS[name](small, -magnitude if strength % 2 else magnitude)
            assert abs(found.astype(int) - image).max() <= 1
    else:
        for sign, digests in zip((1, -1), WITNESS[f'{kind} {name} digests']):
            found = [zlib.crc32(np.ascontiguousarray(OPERATIONS[name](IMAGE, sign * each))) for each in magnitudes]
            assert found == digests.tolist()
    np.testing.assert_array_equal(IMAGE, before)


def test_the_space_is_torchvisions():
    names = [key.split()[1] for key in WITNESS if key.startswith('rand') and key.endswith('signed')]
    assert names == list(OPERATIONS)


def chi_square(counts, expected):
    return float(((np.asarray(counts) - expected) ** 2 / expected).sum())


def test_randaugment_draws_every_operation_alike_and_signs_evenly():
    drawn = AutoAugment('rand', ops=2, magnitude=9).draw(WORDS)
    assert {change.strength for changes in drawn for change in changes} == {9}
    pairs = Counter((first.operation, second.operation) for first, second in drawn)
    # 196 pairs of equal probability; a chi-square of 195 degrees is above 291 once in 100,000.
    assert chi_square([pairs[a, b] for a in range(14) for b in range(14)], len(WORDS) / 196) < 291
    signs = Counter((change.operation, change.negative) for changes in drawn for change in changes)
    assert chi_square(list(signs.values()), 2 * len(WORDS) / 28) < 70  # 27 degrees


def test_randaugment_leaves_operations_out_and_varies_strengths_as_timm():
    """timm's rand-m9-mstd0.5: random.gauss around 9 of 10, cut off at 10, of operations each applied with 0.5."""
    plain = AutoAugment('rand', ops=2, magnitude=27).draw(WORDS)
    halves = AutoAugment('rand', ops=2, magnitude=27, share=0.5).draw(WORDS)
    numbers = Counter(map(len, halves))
    assert chi_square([numbers[0], numbers[1], numbers[2]], len(WORDS) * np.array([0.25, 0.5, 0.25])) < 23  # 2 degrees
    assert all(set(half) <= set(both) for half, both in zip(halves, plain))
    varied = AutoAugment('rand', ops=2, magnitude=27, deviation=1.5).draw(WORDS)
    assert [[(one.operation, one.negative) for one in changes] for changes in varied] == [
        [(one.operation, one.negative) for one in changes] for changes in plain
    ]
    below = np.array([0.5 + 0.5 * math.erf((edge - 27) / 1.5 / math.sqrt(2)) for edge in np.arange(23.5, 30)])
    expected = np.diff([0, *below, 1]) * 2 * len(WORDS)  # up to 23, 24 to 29, 30
    strengths = Counter(min(max(change.strength, 23), 30) for changes in varied for change in changes)
    assert chi_square([strengths[each] for each in range(23, 31)], expected) < 35  # 7 degrees


def test_trivialaugment_draws_one_operation_of_any_strength():
    drawn = [change for (change,) in AutoAugment('trivial').draw(WORDS)]
    cells = Counter((change.operation, change.strength) for change in drawn)
    assert chi_square([cells[a, b] for a in range(14) for b in range(STRENGTHS)], len(WORDS) / 434) < 570  # 433 degrees


@pytest.mark.parametrize('kind', ['rand', 'trivial'])
def test_signs_are_for_what_torchvision_gives_one(kind):
    augment = AutoAugment(kind, ops=1, magnitude=17)
    for place, name in enumerate(OPERATIONS):
        (change,) = next(changes for changes in augment.draw(WORDS) if changes[0].operation == place)
        magnitude = magnitude_of(kind, name, change.strength, *IMAGE.shape[:2])
        for negative in (False, True):
            signed = -magnitude if negative and WITNESS[f'{kind} {name} signed'] else magnitude
            found = augment.apply(IMAGE, [change._replace(negative=negative)])
            np.testing.assert_array_equal(found, OPERATIONS[name](IMAGE, signed))


def test_operations_come_one_after_another():
    augment = AutoAugment('rand', ops=3, magnitude=20)
    for changes in augment.draw(WORDS[:20]):
        one_by_one = IMAGE
        for change in changes:
            one_by_one = augment.apply(one_by_one, [change])
        np.testing.assert_array_equal(augment.apply(IMAGE, changes), one_by_one)


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 7), (2, 3)])
def test_images_may_be_as_small_as_they_like(height, width):
    pixels = np.ascontiguousarray(IMAGE[:height, :width])
    for name, operation in OPERATIONS.items():
        for strength in (0, 30):
            found = operation(pixels, magnitude_of('trivial', name, strength, height, width))
            assert (found.shape, found.dtype) == (pixels.shape, np.uint8)


@pytest.mark.parametrize('wrong', [{'kind': 'off'}, {'ops': 0}, {'magnitude': 31}, {'magnitude': -1}])
def test_no_other_policies(wrong):
    with pytest.raises(ValueError, match='must lie|is none of'):
        AutoAugment(**{'kind': 'rand', **wrong})
