"""Choose the boxes that a network learns from.

GluonCV's samplers draw from NumPy's or MXNet's global random numbers; a run that is resumed has to draw the same, so
those here take the generator.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from detection.matching import NEGATIVE

__all__ = ['sample']


def sample(
    matches: np.ndarray, count: int, positive_share: float, random: np.random.RandomState
) -> Tuple[np.ndarray, np.ndarray]:
    """Choose ``count`` boxes, at most ``positive_share`` of them positive, the others negative, all equally likely.

    ``matches`` (A,) is what :func:`detection.matching.match` returned. Returns the indices of the positive and of the
    negative ones; fewer than ``count`` where there are no more. Ignored boxes are never chosen.
    """

    def some(candidates: np.ndarray, wanted: int) -> np.ndarray:
        if len(candidates) <= wanted:
            return candidates
        return random.choice(candidates, wanted, replace=False)

    positives = some(np.flatnonzero(matches >= 0), int(count * positive_share))
    return positives, some(np.flatnonzero(matches == NEGATIVE), count - len(positives))
