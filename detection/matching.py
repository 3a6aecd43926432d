"""Assign a ground truth to each box."""

from __future__ import annotations

import numpy as np

from detection.boxes import iou

__all__ = ['IGNORED', 'NEGATIVE', 'match']

NEGATIVE, IGNORED = -1, -2


def match(
    boxes: np.ndarray,
    truths: np.ndarray,
    positive: float,
    negative: float,
    floor: float = 0.0,
) -> np.ndarray:
    """Return for each of ``boxes`` (A, 4) the index of its ground truth in ``truths`` (M, 4), as int64 (A,).

    A box takes the ground truth that it overlaps most if that is ``positive`` or more; it is ``NEGATIVE`` when its best
    overlap is below ``negative``, and ``IGNORED`` in between. Then every ground truth takes all boxes that tie for the
    best overlap with it, if that is ``floor`` or more, whatever these had; where several ground truths ask for one
    box, the last has it. MXNet's ``bipartite_matching`` gives each ground truth one box only.

    A ground truth that nothing overlaps takes nothing (with a floor of 0 mmdetection gives it all boxes).
    """
    chosen = np.full(len(boxes), NEGATIVE, np.int64)
    if not len(truths) or not len(boxes):
        return chosen
    overlaps = iou(boxes, truths)
    best = overlaps.max(axis=1)
    chosen[best >= negative] = IGNORED
    confident = best >= positive
    chosen[confident] = overlaps[confident].argmax(axis=1)
    best_of_truth = overlaps.max(axis=0)
    wanted = (overlaps == best_of_truth) & (best_of_truth >= floor) & (best_of_truth > 0)
    for truth in range(len(truths)):  # in this order: the last one stays
        chosen[wanted[:, truth]] = truth
    return chosen
