"""The post-activation ResNet and ResNeXt of DIANet, for CIFAR.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, and Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", arXiv 1611.05431 (block of type C), in the form of gbup-group/DIANet
(``dia_resnet.py``, ``dia_resnext.py``; Huang et al., arXiv 1905.10671). The two differ in the width within the blocks,
the groups of the 3x3 convolution and the classifier's initial values.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Optional, Sequence

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.cifar_stages import BlockStage, CifarStages, conv
from model.layers.carry import join, split
from model.layers.factories import (
    FOR_A_CONVOLUTION,
    ActivationFactory,
    BoundAttention,
    Convolution,
    NormFactory,
    add_shortcut,
    unit_for,
)
from model.layers.initialization import HeFanOut

__all__ = ['Bottleneck', 'CifarResNeXt', 'CifarResNetV1']


class Bottleneck(gluon.HybridBlock):
    """``relu(shortcut(x) + attention(branch(x)))``, ``(N, C_in, H, W) -> (N, channels, H / stride, W / stride)``.

    The branch is a 1x1 convolution to ``inner`` channels, a 3x3 one with stride and ``groups``, a 1x1 one to
    ``channels``, each with a norm. Activation units stand after the first two; the ReLU after the addition stays. An
    attention unit of the place ``'convolution'`` stands for the 3x3 convolution, its norm and its activation. Where
    width or resolution changes, the shortcut is a 1x1 convolution with a norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        activation: ActivationFactory,
        attention: Optional[BoundAttention],
        place: Optional[str],
        norm: NormFactory,
        inner: int,
        groups: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conv1 = conv(inner, in_channels, 1)
        self.bn1 = norm(inner)
        self.relu1 = activation(inner)
        self.select = None
        if place in FOR_A_CONVOLUTION:
            convolution = Convolution(inner, activation, norm, stride, groups, weight_initializer=HeFanOut())
            self.select = attention(inner, stride=stride, convolution=convolution)
        else:
            self.conv2 = conv(inner, inner, 3, stride, groups)
            self.bn2 = norm(inner)
            self.relu2 = activation(inner)
        self.conv3 = conv(channels, inner, 1)
        self.bn3 = norm(channels)
        self.place = place
        self.attention = unit_for(attention, place, channels, stride)
        self.downsample = None
        if channels != in_channels or stride != 1:
            self.downsample = nn.HybridSequential()
            self.downsample.add(conv(channels, in_channels, 1, stride), norm(channels))
        self.relu_out = nn.Activation('relu')

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        out = self.relu1(self.bn1(self.conv1(x)))
        if self.select is not None:
            out, carry = split(self.select(out, *carry))
        else:
            out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        out, carry = add_shortcut(F, self.attention, self.place, out, shortcut, carry)
        return join(self.relu_out(out), carry)


class CifarResNetV1(CifarStages):
    """ResNet with ``blocks`` blocks per stage; the depth is 9 ``blocks`` + 2.

    ``channels`` are those of the stem and the stages; within a block there are a quarter. The other parameters are
    those of :class:`model.backbone.cifar_stages.CifarStages`.
    """

    def __init__(self, blocks: int, channels: Sequence[int] = (16, 64, 128, 256), **options: Any) -> None:
        stages = [BlockStage(partial(Bottleneck, inner=width // 4), blocks, width) for width in channels[1:]]
        super().__init__(channels[0], stages, pre_activation=False, **options)


class CifarResNeXt(CifarStages):
    """ResNeXt with ``blocks`` blocks per stage, ``cardinality`` groups, each ``width`` wide in the first stage.

    The groups widen with the stages as ``channels`` do: the blocks of stage s have ``cardinality * width *
    channels[s] / channels[1]`` channels inside. The published network is 8x32d, which are 256, 512 and 1024. The
    ``channels`` of stem and stages, which the name does not give, are DIANet's, half of what ResNeXt has elsewhere:
    8x64d with ``channels=(64, 256, 512, 1024)`` is the ResNeXt-29, 8x64d of Xie et al. The other parameters are those
    of :class:`model.backbone.cifar_stages.CifarStages`.
    """

    def __init__(
        self, blocks: int, cardinality: int, width: int, channels: Sequence[int] = (32, 128, 256, 512), **options: Any
    ) -> None:
        stages = []
        for out in channels[1:]:
            inner = cardinality * (width * out // channels[1])
            stages.append(BlockStage(partial(Bottleneck, inner=inner, groups=cardinality), blocks, out))
        # He et al.'s fan-in variance and no bias, where ResNet has PyTorch's defaults.
        dense = {'weight_initializer': mx.init.Normal(math.sqrt(2 / channels[-1])), 'bias_initializer': 'zeros'}
        super().__init__(channels[0], stages, pre_activation=False, dense=dense, **options)
