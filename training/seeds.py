"""Every random number of a run is a pure function of (seed, purpose, epoch, step).

A resumed run therefore needs its position and nothing else, and two purposes never share a stream. Every
purpose has positions of one length: to NumPy (3,) and (3, 0) are one.
"""

import zlib

import numpy as np

__all__ = ['derive', 'stream']


def _entropy(seed: int, purpose: str, position: tuple) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *position])


def derive(seed: int, purpose: str, *position: int) -> int:
    """Return a seed in 0 ... 2^31 - 1, for generators that take one number (MXNet's)."""
    return int(_entropy(seed, purpose, position).generate_state(1)[0] >> 1)


def stream(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """NumPy's generator for this purpose and position."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, purpose, position)))
