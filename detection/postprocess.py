"""Select boxes by score, in graphs for any batch and image size: arrays or symbols alike."""

from __future__ import annotations

from typing import Any, Tuple

__all__ = ['DETECTIONS', 'best', 'cells', 'detections', 'gather', 'suppress']

DETECTIONS = 100  # of an image, at most
# Pairs of box and class that suppression looks at, the best ones. The time grows with their square: a network that has
# learnt nothing yet may offer 400,000. The result only differs if fewer than 100 of that many survive.
CANDIDATES = 10_000


def cells(F: Any, x: Any, values: int) -> Any:
    """Turn a map ``(N, A values, H, W)`` into ``(N, H W A, values)``, in the order of the anchors."""
    return F.reshape(F.transpose(x, axes=(0, 2, 3, 1)), shape=(0, -1, values))


def best(F: Any, scores: Any, count: int) -> Any:
    """Return the indices of the ``count`` highest of ``scores`` (N, A), or of all if there are fewer."""
    # topk refuses to return more than there are, and a graph does not know how many there are; slicing takes it.
    return F.slice(F.argsort(scores, axis=1, is_ascend=False), begin=(None, 0), end=(None, count))


def gather(F: Any, array: Any, index: Any) -> Any:
    """Return the rows ``index`` (N, K) of ``array`` (N, A, D), those of its own image for each, as (N, K, D)."""
    image = F.reshape(F.contrib.arange_like(index, axis=0), shape=(-1, 1))
    return F.gather_nd(array, F.stack(F.broadcast_like(image, index), index, axis=0))


def _reach(F: Any, boxes: Any, step: float) -> Any:
    """Move the lower right corners of boxes (..., 4) by ``step``.

    MXNet's NMS computes widths as ``x2 - x1``. With the corner one pixel further, it computes the overlaps of
    :mod:`detection.boxes`.
    """
    start, end = F.split(boxes, num_outputs=2, axis=-1)
    return F.concat(start, end + step, dim=-1)


def suppress(F: Any, boxes: Any, scores: Any, overlap: float, count: int) -> Tuple[Any, Any]:
    """Return at most ``count`` of boxes (N, K, 4) with scores (N, K), best first, without regard to class.

    A box is dropped if it overlaps a better one by more than ``overlap``. Returns boxes and scores of length
    ``min(K, count)``, where unused places have the score -1.
    """
    rows = F.concat(F.expand_dims(scores, axis=2), _reach(F, boxes, 1), dim=2)
    kept = F.contrib.box_nms(
        rows, overlap_thresh=overlap, valid_thresh=-1, coord_start=1, score_index=0, force_suppress=True
    )
    kept = F.slice(kept, begin=(None, 0, 0), end=(None, count, None))
    scores = F.slice_axis(kept, axis=2, begin=0, end=1)
    return _reach(F, F.slice_axis(kept, axis=2, begin=1, end=5), -1), F.reshape(scores, shape=(0, -1))


def detections(F: Any, boxes: Any, scores: Any, threshold: float, overlap: float) -> Tuple[Any, Any, Any]:
    """Return the best ``DETECTIONS`` of candidates, each of which may have several classes.

    boxes (N, K, 4), scores (N, K, C). Of the pairs of box and class with a score above ``threshold``, those that
    overlap a better one of their class by more than ``overlap`` are dropped. Returns boxes (N, 100, 4), scores (N, 100)
    and labels (N, 100), best first, padded with -1.
    """
    label = F.reshape(F.contrib.arange_like(scores, axis=2), shape=(1, 1, -1))
    each = F.expand_dims(scores, axis=3)
    rows = F.concat(
        F.expand_dims(F.broadcast_like(label, scores), axis=3),
        each,
        F.broadcast_add(F.expand_dims(_reach(F, boxes, 1), axis=2), F.zeros_like(each)),
        dim=3,
    )
    rows = F.reshape(rows, shape=(0, -3, 0))
    # What is kept comes first, the rest is -1.
    kept = F.contrib.box_nms(
        rows,
        overlap_thresh=overlap,
        valid_thresh=threshold,
        topk=CANDIDATES,
        coord_start=2,
        score_index=1,
        id_index=0,
    )
    none = F.repeat(F.zeros_like(F.slice_axis(kept, axis=1, begin=0, end=1)) - 1, repeats=DETECTIONS, axis=1)
    kept = F.slice_axis(F.concat(kept, none, dim=1), axis=1, begin=0, end=DETECTIONS)
    label, score, start, end = (
        F.slice_axis(kept, axis=2, begin=first, end=last) for first, last in ((0, 1), (1, 2), (2, 4), (4, 6))
    )
    end = F.broadcast_sub(end, label >= 0)  # where there is a box
    return F.concat(start, end, dim=2), F.reshape(score, shape=(0, -1)), F.reshape(label, shape=(0, -1))
