"""Post-activation ResNets for CIFAR: He et al.'s with basic blocks, and DIANet's ResNet and ResNeXt.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, and Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", arXiv 1611.05431 (block of type C), in the form of gbup-group/DIANet
(``dia_resnet.py``, ``dia_resnext.py``; Huang et al., arXiv 1905.10671). The two with bottlenecks differ in the width
within the blocks, the groups of the 3x3 convolution and the classifier's initial values.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Optional, Sequence

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.cifar_stages import BlockStage, CifarStages, conv
from model.backbone.post_activation import BasicBranch, BottleneckBranch, PostActivation
from model.layers.factories import (
    FOR_A_CONVOLUTION,
    ActivationFactory,
    BoundAttention,
    Convolution,
    NormFactory,
    entry_for,
    unit_for,
)
from model.layers.initialization import HeFanOut

__all__ = ['BasicBlock', 'Bottleneck', 'CifarBasicResNet', 'CifarResNeXt', 'CifarResNetV1']


class _Block(PostActivation, gluon.HybridBlock):
    """``relu(shortcut(x) + attention(branch(x)))``; subclasses define the branch, made before :meth:`_end`.

    Where width or resolution changes, the shortcut is a 1x1 convolution with a norm; ``shortcuts=False`` leaves it out.
    """

    def __init__(
        self,
        in_channels: int,
        attention: Optional[BoundAttention],
        place: Optional[str],
        shortcuts: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.place, self.shortcuts = place, shortcuts
        self.entry = entry_for(attention, place, in_channels)
        self.select = None

    def _end(
        self, in_channels: int, channels: int, stride: int, attention: Optional[BoundAttention], norm: NormFactory
    ) -> None:
        self.attention = unit_for(attention, self.place, channels, stride)
        self.downsample = None
        if self.shortcuts and (channels != in_channels or stride != 1):
            self.downsample = nn.HybridSequential()
            self.downsample.add(conv(channels, in_channels, 1, stride), norm(channels))
        self.relu_out = nn.Activation('relu')


class BasicBlock(BasicBranch, _Block):
    """Two 3x3 convolutions, each with a norm: ``(N, C_in, H, W) -> (N, channels, H / stride, W / stride)``.

    The first has the stride; the activation unit stands between them, and the ReLU after the addition stays. An
    attention unit of the place ``'convolution'`` replaces the first one, its norm and its activation, one of the
    place ``'inside'`` for the second and its norm.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, attention, place, **kwargs)
        he = HeFanOut()
        if place == 'convolution':
            convolution = Convolution(in_channels, activation, norm, stride, weight_initializer=he)
            self.select = attention(channels, stride=stride, convolution=convolution)
        else:
            self.conv1 = conv(channels, in_channels, 3, stride)
            self.bn1 = norm(channels)
            self.relu1 = activation(channels)
        if place == 'inside':
            convolution = Convolution(channels, None, norm, weight_initializer=he)
            self.select = attention(channels, stride=stride, convolution=convolution)
        else:
            self.conv2 = conv(channels, channels, 3)
            self.bn2 = norm(channels)
        self._end(in_channels, channels, stride, attention, norm)


class Bottleneck(BottleneckBranch, _Block):
    """1x1, 3x3, 1x1 convolution: ``(N, C_in, H, W) -> (N, channels, H / stride, W / stride)``.

    The first leads to ``inner`` channels, the 3x3 one has the stride and ``groups``; each has a norm. Activation units
    stand after the first two; the ReLU after the addition stays. An attention unit of the place ``'convolution'`` or
    ``'inside'`` replaces the 3x3 convolution, its norm and its activation.
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
        super().__init__(in_channels, attention, place, **kwargs)
        self.conv1 = conv(inner, in_channels, 1)
        self.bn1 = norm(inner)
        self.relu1 = activation(inner)
        if place in FOR_A_CONVOLUTION:
            convolution = Convolution(inner, activation, norm, stride, groups, weight_initializer=HeFanOut())
            self.select = attention(inner, stride=stride, convolution=convolution)
        else:
            self.conv2 = conv(inner, inner, 3, stride, groups)
            self.bn2 = norm(inner)
            self.relu2 = activation(inner)
        self.conv3 = conv(channels, inner, 1)
        self.bn3 = norm(channels)
        self._end(in_channels, channels, stride, attention, norm)


class CifarBasicResNet(CifarStages):
    """ResNet with ``blocks`` basic blocks per stage and ``channels`` of stem and stages; the depth is 6 ``blocks`` + 2.

    He et al.'s own networks for CIFAR (section 4.2) in GluonCV's form (``cifar_resnet20_v1``): the shortcut has a
    projection where the paper's pads, and no ReLU follows the stem. With ``stem_relu`` one does, as in the paper and in
    pytorchcv (``resnet20_cifar10``). The other parameters are those of
    :class:`model.backbone.cifar_stages.CifarStages`.
    """

    def __init__(
        self, blocks: int, channels: Sequence[int] = (16, 16, 32, 64), stem_relu: bool = False, **options: Any
    ) -> None:
        stages = [BlockStage(BasicBlock, blocks, width) for width in channels[1:]]
        super().__init__(channels[0], stages, pre_activation=False, stem_relu=stem_relu, **options)


class CifarResNetV1(CifarStages):
    """ResNet with ``blocks`` bottlenecks per stage; the depth is 9 ``blocks`` + 2.

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
