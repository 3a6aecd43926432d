"""The feature pyramid: maps at several scales, each with information from the coarser ones."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from detection.norms import NormFactory, level_norms, normed

__all__ = ['FeaturePyramid']


class FeaturePyramid(gluon.HybridBlock):
    """FPN: the selected maps of a :class:`detection.trunk.Trunk`, each with information from the coarser ones.

    Lin, Dollar, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection", arXiv 1612.03144:
    1x1 convolutions bring the maps to ``channels``, each is added to the sum of those coarser than itself (nearest
    neighbour), and a 3x3 convolution follows. ``in_channels`` are those of the maps it takes, which end with C5: C2 to
    C5, or C3 to C5. Returns as many, P2 or P3 to P5, and after them those that ``extra`` names:

    ``'convolutions'`` : P6, a 3x3 convolution with stride 2 on C5, and P7, another on P6 (RetinaNet; without a ReLU
        between the two, as in DCANet's code, whereas the paper has one)
    ``'pool'`` : P6, every second cell of P5 (for region proposals)

    ``norm`` (a factory, or None as published) puts a norm after each convolution.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        extra: str,
        norm: Optional[NormFactory] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.extra = extra
        xavier = mx.init.Xavier('uniform', 'avg', 3)

        def convolution(width: int, kernel: int, stride: int = 1) -> nn.Conv2D:
            # torch's Xavier counts fan_in + fan_out = k k (C_in + C_out), as MXNet's 'avg' with magnitude 3 does.
            return nn.Conv2D(channels, kernel, stride, kernel // 2, in_channels=width, weight_initializer=xavier)

        self.lateral = nn.HybridSequential()
        self.output = nn.HybridSequential()
        for width in in_channels:
            self.lateral.add(convolution(width, 1))
            self.output.add(convolution(channels, 3))
        self.extra_convolutions = nn.HybridSequential()
        if extra == 'convolutions':
            self.extra_convolutions.add(convolution(in_channels[-1], 3, 2), convolution(channels, 3, 2))
        outputs = len(in_channels) + len(self.extra_convolutions)
        self.lateral_norms = level_norms(norm, channels, len(in_channels))
        self.output_norms = level_norms(norm, channels, outputs)

    def hybrid_forward(self, F: Any, *maps: Any) -> Tuple[Any, ...]:
        merged = None
        levels = []
        for index in reversed(range(len(maps))):
            lateral = normed(self.lateral_norms, index, self.lateral[index](maps[index]))
            if merged is None:
                merged = lateral
            else:
                merged = F.elemwise_add(lateral, F.UpSampling(merged, scale=2, sample_type='nearest'))
            levels.insert(0, normed(self.output_norms, index, self.output[index](merged)))
        if self.extra == 'pool':
            levels.append(F.Pooling(levels[-1], kernel=(1, 1), stride=(2, 2), pool_type='max'))
        x = maps[-1]
        for convolution in self.extra_convolutions:
            x = normed(self.output_norms, len(levels), convolution(x))
            levels.append(x)
        return tuple(levels)
