"""Which ground truth each box is matched with, computed by hand."""

import numpy as np

from detection.matching import IGNORED, NEGATIVE, match

# Boxes 10 pixels high; overlaps follow from how far they are moved along x.
TRUTHS = np.array([[0, 0, 9, 9], [100, 0, 109, 9]], np.float32)


def moved(*steps):
    return np.array([[step, 0, step + 9, 9] for step in steps], np.float32)


def test_positive_ignored_and_negative():
    # Overlaps with the first: 1, 8 / 12 = 0.667, 6 / 14 = 0.43, 5 / 15 = 0.33, 0; the second is found exactly.
    found = match(moved(0, 2, 4, 5, 50, 100), TRUTHS, positive=0.5, negative=0.4)
    assert found.tolist() == [0, 0, IGNORED, NEGATIVE, NEGATIVE, 1]


def test_thresholds_belong_to_the_better_side():
    # 2 / 3 is 8 / 12, an exact tie with the threshold.
    boxes, truths = moved(0, 2), TRUTHS[:1]
    threshold = np.float32(8) / np.float32(12)
    assert match(boxes, truths, positive=threshold, negative=0.4).tolist() == [0, 0]
    assert match(boxes, truths, positive=0.9, negative=threshold).tolist() == [0, IGNORED]


def test_the_best_box_of_a_ground_truth_is_its_own_down_to_the_floor():
    boxes = moved(6, 8, 104)  # 4 / 16 = 0.25 and 2 / 18 with the first, 6 / 14 = 0.43 with the second
    assert match(boxes, TRUTHS, 0.5, 0.4).tolist() == [0, NEGATIVE, 1]
    assert match(boxes, TRUTHS, 0.5, 0.4, floor=0.3).tolist() == [NEGATIVE, NEGATIVE, 1]


def test_all_boxes_that_tie_for_the_best_are_taken():
    assert match(moved(-6, 6, 7), TRUTHS[:1], 0.5, 0.4).tolist() == [0, 0, NEGATIVE]


def test_the_last_ground_truth_has_a_box_that_two_want():
    truths = np.array([[0, 0, 9, 9], [4, 0, 13, 9]], np.float32)
    assert match(moved(1), truths, 0.5, 0.4).tolist() == [1]  # though the first overlaps it more
    # By overlap alone it would belong to the first, as it does when the second has a better one.
    assert match(moved(1, 4), truths, 0.5, 0.4).tolist() == [0, 1]


def test_what_nothing_overlaps_takes_nothing():
    assert match(moved(50, 60), TRUTHS, 0.5, 0.4).tolist() == [NEGATIVE, NEGATIVE]


def test_without_ground_truth_all_is_negative():
    assert match(moved(0, 1), np.zeros((0, 4), np.float32), 0.5, 0.4).tolist() == [NEGATIVE, NEGATIVE]
    assert match(np.zeros((0, 4), np.float32), TRUTHS, 0.5, 0.4).tolist() == []
