"""Residual units that the trunks and masks of Residual Attention Networks are made of.

Wang et al., arXiv 1704.06904, build theirs of pre-activation residual units, of ResNeXt units and of Inception units.
All are ``(N, C_in, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))``.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict

from mxnet import gluon
from mxnet.gluon import nn

from model.layers.drop_path import Residual
from model.layers.factories import ActivationFactory, NormFactory, batch_norm
from model.layers.initialization import FanInUniform

__all__ = ['UNITS', 'InceptionUnit', 'ResNeXtUnit', 'ResidualBlock', 'conv']

CARDINALITY = 32  # groups of the ResNeXt unit's 3x3 convolution


def conv(channels: int, in_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2D:
    """Return a convolution without bias that keeps the size of a map, apart from its stride."""
    return nn.Conv2D(
        channels,
        kernel,
        stride,
        kernel // 2,
        groups=groups,
        use_bias=False,
        in_channels=in_channels,
        weight_initializer=FanInUniform(),
    )


class ResidualBlock(Residual, gluon.HybridBlock):
    """A pre-activation bottleneck, ``(N, C_in, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))``.

    ``x + conv3(A3(bn3(conv2(A2(bn2(conv1(a)))))))`` with ``a = A1(bn1(x))``, C / 4 channels inside and the stride in
    the 3x3 convolution ``conv2``. Where width or size changes, the shortcut is ``conv4``, a 1x1 convolution of ``a``.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        inner = channels // 4
        self.bn1, self.relu1 = norm(in_channels), activation(in_channels)
        self.conv1 = conv(inner, in_channels)
        self.bn2, self.relu2 = norm(inner), activation(inner)
        self.conv2 = conv(inner, inner, 3, stride)
        self.bn3, self.relu3 = norm(inner), activation(inner)
        self.conv3 = conv(channels, inner)
        changed = channels != in_channels or stride != 1
        self.conv4 = conv(channels, in_channels, stride=stride) if changed else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        activated = self.relu1(self.bn1(x))
        out = self.conv1(activated)
        out = self.conv2(self.relu2(self.bn2(out)))
        out = self.conv3(self.relu3(self.bn3(out)))
        return self.summed(F, out, x if self.conv4 is None else self.conv4(activated))


class ResNeXtUnit(Residual, gluon.HybridBlock):
    """A post-activation ResNeXt unit, as in the authors' AttentionNeXt-56-deploy.prototxt.

    ``A3(bn3(conv3(A2(bn2(conv2(A1(bn1(conv1(x)))))))) + shortcut)`` with C / 2 channels inside and `CARDINALITY` groups
    in the 3x3 convolution ``conv2``, which has the stride. Narrower units take as many groups as divide C / 2. Where
    width or size changes, the shortcut is a 1x1 convolution of ``x`` and a norm. ``conv3`` has a norm, too.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        inner = channels // 2
        self.conv1, self.bn1, self.relu1 = conv(inner, in_channels), norm(inner), activation(inner)
        self.conv2 = conv(inner, inner, 3, stride, math.gcd(inner, CARDINALITY))
        self.bn2, self.relu2 = norm(inner), activation(inner)
        self.conv3, self.bn3, self.relu3 = conv(channels, inner), norm(channels), activation(channels)
        self.shortcut = None
        if channels != in_channels or stride != 1:
            self.shortcut = nn.HybridSequential()
            self.shortcut.add(conv(channels, in_channels, stride=stride), norm(channels))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(self.summed(F, out, x if self.shortcut is None else self.shortcut(x)))


class InceptionUnit(Residual, gluon.HybridBlock):
    """A pre-activation unit of three branches, whose concatenation a 1x1 convolution brings back to C channels.

    The branches are those of Inception-ResNet's 35x35 block (Szegedy et al., arXiv 1602.07261, figure 10), 1x1; 1x1 and
    3x3; 1x1, 3x3 and 3x3, each C / 8 channels wide, as 32 are of 256 there. The last convolution of each has the
    stride. The authors published no file of AttentionInception, so that this is our reading of "Inception" as its unit.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        inner = max(1, channels // 8)
        self.bn, self.relu = norm(in_channels), activation(in_channels)
        self.branches = nn.HybridSequential()
        for kernels in ((1,), (1, 3), (1, 3, 3)):
            branch, width = nn.HybridSequential(), in_channels
            for place, kernel in enumerate(kernels):
                last = place == len(kernels) - 1
                branch.add(conv(inner, width, kernel, stride if last else 1), norm(inner), activation(inner))
                width = inner
            self.branches.add(branch)
        self.merge = conv(channels, 3 * inner)
        changed = channels != in_channels or stride != 1
        self.shortcut = conv(channels, in_channels, stride=stride) if changed else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        activated = self.relu(self.bn(x))
        out = self.merge(F.concat(*(branch(activated) for branch in self.branches), dim=1))
        return self.summed(F, out, x if self.shortcut is None else self.shortcut(activated))


#: ``(channels, in_channels, activation, norm, stride) -> unit``, by the names of the option ``residual_unit``.
UNITS: Dict[str, Callable[..., gluon.HybridBlock]] = {
    'preactivation': ResidualBlock,
    'resnext': ResNeXtUnit,
    'inception': InceptionUnit,
}
