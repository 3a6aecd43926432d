"""Sample what a pyramid of maps shows within boxes."""

from __future__ import annotations

from typing import Any

from mxnet import gluon

__all__ = ['RoIFeatures']

STRIDES = (4, 8, 16, 32)
SPARE = 64  # rows: enough for 64 C size^2 boxes, 100,000 of a pyramid with 32 channels
FINEST = 56  # pixels: boxes of twice this side and more are looked up in P3, and so on


class RoIFeatures(gluon.HybridBlock):
    """Boxes ``(R, 5)`` and levels P2 to P5 ``(N, C, H, W)`` -> ``(R, C, size, size)``.

    A box is the number of its image, -1 for none (whose features are zeros), then ``x1, y1, x2, y2``. Its level is
    ``floor(log2(sqrt(w h) / 56))``, from P2 to P5 (Lin et al., arXiv 1612.03144, equation 1, with 56 where the paper
    has 224, counted from P2). RoIAlign with 2 x 2 samples for each bin and no shift by half a pixel; the box ends
    where its last pixel does, at ``x2 + 1``. Boxes narrower than a cell of the map are a cell wide: so MXNet's operator
    has it.
    """

    def __init__(self, size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def hybrid_forward(self, F: Any, boxes: Any, *levels: Any) -> Any:
        # Boxes of image -1 cost nothing, but MXNet's operator then sets to zero, on a CPU, the number of the box in the
        # output as if that were its place, and leaves its own place as it was in memory. So some rows that nobody
        # needs come first, and what is chosen below never comes from such a box.
        none = F.repeat(F.zeros_like(F.slice_axis(boxes, axis=0, begin=0, end=1)) - 1, repeats=SPARE, axis=0)
        image, start, end = (
            F.slice_axis(F.concat(none, boxes, dim=0), axis=1, begin=first, end=last)
            for first, last in ((0, 1), (1, 3), (3, 5))
        )
        end = end + 1
        area = F.prod(F.relu(end - start), axis=1, keepdims=True)
        level = F.clip(F.floor(F.log2(F.sqrt(area) / FINEST + 1e-6)), 0, len(STRIDES) - 1)
        features = None
        for index, (stride, x) in enumerate(zip(STRIDES, levels)):
            here = (level == index) * (image >= 0)
            rois = F.concat(image * here + here - 1, start, end, dim=1)
            aligned = F.contrib.ROIAlign(
                x, rois, pooled_size=(self.size, self.size), spatial_scale=1 / stride, sample_ratio=2
            )
            others = F.zeros_like(aligned) if features is None else features
            features = F.where(F.reshape(here, shape=(-1,)), aligned, others)
        return F.slice_axis(features, axis=0, begin=SPARE, end=None)
