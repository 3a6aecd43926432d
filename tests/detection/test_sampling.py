"""How many boxes are sampled, which ones, and that the seed determines them."""

import numpy as np

from detection.matching import IGNORED, NEGATIVE
from detection.sampling import sample

MATCHES = np.array([0] * 10 + [NEGATIVE] * 30 + [IGNORED] * 20 + [1] * 10)


def draws(count, share, seed=0, matches=MATCHES):
    positive, negative = sample(matches, count, share, np.random.RandomState(seed))
    assert len(set(positive)) == len(positive)
    assert len(set(negative)) == len(negative)
    assert (matches[positive] >= 0).all()
    assert (matches[negative] == NEGATIVE).all()
    return positive, negative


def test_positives_are_limited_and_negatives_fill_up():
    positive, negative = draws(16, 0.25)
    assert (len(positive), len(negative)) == (4, 12)
    # There are only 20 positives: more negatives make up for them, 30 at most.
    assert [len(part) for part in draws(46, 0.5)] == [20, 26]
    assert [len(part) for part in draws(100, 0.5)] == [20, 30]


def test_a_seed_draws_the_same_and_another_one_others():
    first, again, other = (draws(16, 0.5, seed) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(first, again))
    assert any(set(a) != set(b) for a, b in zip(first, other))


def test_all_are_equally_likely():
    counts = np.zeros(len(MATCHES))
    random = np.random.RandomState(0)
    for _ in range(2000):
        for part in sample(MATCHES, 16, 0.5, random):
            counts[part] += 1
    assert np.abs(counts[MATCHES >= 0] / 2000 - 8 / 20).max() < 0.05
    assert np.abs(counts[MATCHES == NEGATIVE] / 2000 - 8 / 30).max() < 0.05
    assert (counts[MATCHES == IGNORED] == 0).all()


def test_nothing_to_draw_from():
    assert [len(part) for part in draws(8, 0.5, matches=np.full(5, IGNORED))] == [0, 0]
    assert [len(part) for part in draws(8, 0.5, matches=np.full(5, NEGATIVE))] == [0, 5]
