"""Random numbers of images: pure functions of (seed, epoch, image), and of how often the image has come in that epoch.

Every image of an epoch gets 64-bit random numbers from a counter-based generator (Philox; Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), keyed by seed and epoch and indexed by the image. So its changes do not
depend on its batch, the batch size, the number of workers or where a run was resumed. SplitMix64 (Steele, Lea, Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014) expands a number to as many as are needed.
"""

from __future__ import annotations

import numpy as np

__all__ = ['CROPS', 'CUTS', 'ERASING', 'OPERATIONS', 'ORDER', 'SIDES', 'branch', 'random_words', 'uniform', 'words_of']

# Streams of random numbers within one epoch.
ORDER, CROPS, CUTS, SIDES = range(4)
# Branches of the random numbers of crops and erased rectangles.
OPERATIONS, ERASING = 1, 2
GOLDEN, OTHER = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03


def random_words(seed: int, epoch: int, stream: int, count: int) -> np.ndarray:
    """Return `count` random uint64.

    Word i is a pure function of (seed, epoch, stream, i), in every release of NumPy.
    """
    # Arrays, because NumPy converts a list with a 64-bit number to floats.
    key, counter = np.array([seed, epoch], dtype=np.uint64), np.array([0, 0, 0, stream], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def _mixed(state: np.ndarray) -> np.ndarray:
    """Return the uint64 that SplitMix64 gives for these states."""
    with np.errstate(over='ignore'):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def words_of(words: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return a random uint64 for each of the `draws` of a sampler, given `words`, one for each image.

    It is the image's own when it comes for the first time in the epoch, and a different one each further time.
    """
    own, again = words[draws % max(len(words), 1)], (draws // max(len(words), 1)).astype(np.uint64)
    with np.errstate(over='ignore'):
        return np.where(again > 0, _mixed(own + again * np.uint64(GOLDEN)), own)


def branch(words: np.ndarray, number: int) -> np.ndarray:
    """Return further random uint64 for the same images, independent of `words`."""
    with np.errstate(over='ignore'):
        return _mixed(words + np.uint64(number) * np.uint64(OTHER))


def uniform(words: np.ndarray, columns: int) -> np.ndarray:
    """Expand (N,) random uint64 to (N, columns) float64 in [0, 1): SplitMix64 seeded with each word."""
    with np.errstate(over='ignore'):
        steps = np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        state = words[:, np.newaxis] + steps
    return (_mixed(state) >> np.uint64(11)) * 2.0**-53
