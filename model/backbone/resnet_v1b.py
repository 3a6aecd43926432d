"""ResNet-v1b: the ImageNet ResNet with the stride in the 3x3 convolution; ResNet-v1, ResNeXt and Wide ResNet.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; structure and parameter names of GluonCV's
``resnet*_v1b``, places of the activation units of YimianDai/open-atac's ``ResNet50_v1bATAC``. ResNeXt (Xie et al.,
arXiv 1611.05431) and the Wide ResNet (Zagoruyko and Komodakis, arXiv 1605.07146) differ in the 3x3 convolution's groups
and width, :class:`Layout`; the stems and shortcuts of ResNet-C and -D are those of He et al., arXiv 1812.01187.
"""

from __future__ import annotations

from functools import partial
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Type

from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.classifier import Classifier, FeatureInfo
from model.backbone.post_activation import BasicBranch, BottleneckBranch, PostActivation
from model.layers.carry import Stage
from model.layers.factories import (
    FOR_A_CONVOLUTION,
    ActivationFactory,
    AttentionFactory,
    BoundAttention,
    Convolution,
    NormFactory,
    batch_norm,
    entry_for,
    stages_with,
    unit_for,
)
from model.layers.initialization import initialize
from model.layers.pool import GlobalAvgPool

__all__ = ['BasicBlock', 'Bottleneck', 'Layout', 'ResNetV1b', 'STEM_POOLS']

PLANES = (64, 128, 256, 512)
STEM_POOLS = ('max', 'ceil', 'none')


class Layout(NamedTuple):
    """The properties of a network's bottlenecks.

    Attributes:
        groups: of the 3x3 convolution (ResNeXt's cardinality).
        base_width: channels of each group in the first stage; the 3x3 convolution has ``groups * base_width / 64``
            times the planes.
        stride_first: the first 1x1 convolution has the stride, as in the paper and ResNet-v1, instead of the 3x3 one.
        conv_bias: the 1x1 convolutions of the branch have biases, as in GluonCV's ResNet-v1.
        shortcuts: False for blocks, including basic ones, without shortcuts.
    """

    groups: int = 1
    base_width: int = 64
    stride_first: bool = False
    conv_bias: bool = False
    shortcuts: bool = True

    def width(self, planes: int) -> int:
        return planes * self.base_width // 64 * self.groups


PLAIN = Layout()


def _conv(
    channels: int,
    in_channels: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = False,
) -> nn.Conv2D:
    padding = dilation * (kernel // 2)
    return nn.Conv2D(channels, kernel, stride, padding, dilation, groups, use_bias=use_bias, in_channels=in_channels)


class _Residual(PostActivation, gluon.HybridBlock):
    """``relu(shortcut(x) + attention(branch(x)))``; subclasses define the branch.

    ``attention`` is a factory bound to this block, ``(channels, stride=, convolution=) -> unit``, or None; ``place``
    says which kind of unit it makes (:class:`model.layers.factories.AttentionFactory`).
    """

    expansion: int

    def __init__(
        self,
        planes: int,
        stride: int,
        in_channels: int,
        dilation: int,
        first_dilation: int,
        activation: ActivationFactory,
        attention: Optional[BoundAttention],
        place: Optional[str],
        downsample: Optional[gluon.HybridBlock],
        norm: NormFactory,
        last_gamma: bool,
        layout: Layout,
    ) -> None:
        super().__init__()
        self.place, self.layout, self.shortcuts = place, layout, layout.shortcuts
        last_norm = partial(norm, gamma_initializer='zeros') if last_gamma else norm
        # The unit that replaces a 3x3 convolution of the branch, if its place is that one.
        select = attention if place in FOR_A_CONVOLUTION else None
        self.entry = entry_for(attention, place, in_channels)
        self._add_branch(planes, stride, in_channels, dilation, first_dilation, activation, norm, last_norm, select)
        self.attention = unit_for(attention, place, planes * self.expansion, stride)
        self.downsample = downsample
        self.relu_out = nn.Activation('relu')


class BasicBlock(BasicBranch, _Residual):
    """Two 3x3 convolutions, ``(N, C_in, H, W) -> (N, planes, H / stride, W / stride)``.

    The activation unit stands between them; the ReLU after the addition stays. An attention unit of the place
    ``'convolution'`` replaces the first convolution, its norm and its activation, one of the place ``'inside'`` for
    the second convolution and its norm.
    """

    expansion = 1

    def _add_branch(
        self,
        planes: int,
        stride: int,
        in_channels: int,
        dilation: int,
        first_dilation: int,
        activation: ActivationFactory,
        norm: NormFactory,
        last_norm: NormFactory,
        select: Optional[BoundAttention],
    ) -> None:
        self.select = None
        if self.place == 'convolution':
            convolution = Convolution(in_channels, activation, norm, stride, dilation=first_dilation)
            self.select = select(planes, stride=stride, convolution=convolution)
        else:
            self.conv1 = _conv(planes, in_channels, 3, stride, first_dilation)
            self.bn1 = norm(planes)
            self.relu1 = activation(planes)
        if self.place == 'inside':
            convolution = Convolution(planes, None, last_norm, dilation=dilation)
            self.select = select(planes, stride=stride, convolution=convolution)
        else:
            self.conv2 = _conv(planes, planes, 3, 1, dilation)
            self.bn2 = last_norm(planes)


class Bottleneck(BottleneckBranch, _Residual):
    """1x1, 3x3 (with the stride), 1x1 convolution: ``(N, C_in, H, W) -> (N, 4 planes, H / stride, W / stride)``.

    The :class:`Layout` may widen or group the 3x3 convolution, or move the stride to the first one.

    Activation units stand after the first two convolutions; the ReLU after the addition stays. An attention unit of the
    place ``'convolution'`` or ``'inside'`` replaces the 3x3 convolution, its norm and its activation.
    """

    expansion = 4

    def _add_branch(
        self,
        planes: int,
        stride: int,
        in_channels: int,
        dilation: int,
        first_dilation: int,
        activation: ActivationFactory,
        norm: NormFactory,
        last_norm: NormFactory,
        select: Optional[BoundAttention],
    ) -> None:
        groups, bias = self.layout.groups, self.layout.conv_bias
        width = self.layout.width(planes)
        first, second = (stride, 1) if self.layout.stride_first else (1, stride)
        self.conv1 = _conv(width, in_channels, 1, first, use_bias=bias)
        self.bn1 = norm(width)
        self.relu1 = activation(width)
        self.select = None
        if select is not None:
            convolution = Convolution(width, activation, norm, second, groups, dilation=first_dilation)
            self.select = select(width, stride=stride, convolution=convolution)
        else:
            self.conv2 = _conv(width, width, 3, second, first_dilation, groups)
            self.bn2 = norm(width)
            self.relu2 = activation(width)
        self.conv3 = _conv(4 * planes, width, 1, use_bias=bias)
        self.bn3 = last_norm(4 * planes)


def _shortcut(channels: int, in_channels: int, stride: int, avg_down: bool, norm: NormFactory) -> nn.HybridSequential:
    """1x1 convolution with the stride and a norm; with ``avg_down`` an average pool takes the stride."""
    layers = nn.HybridSequential()
    if avg_down:
        layers.add(nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    layers.add(_conv(channels, in_channels, 1, stride), norm(channels))
    return layers


def _stem(widths: Sequence[int], last_stride: int, norm: NormFactory) -> gluon.HybridBlock:
    """Return the first convolution: 7x7 to one width, or three 3x3 to three widths.

    The first has stride 2; of three, the last may have a stride too.
    """
    if len(widths) == 1:
        return nn.Conv2D(widths[0], 7, 2, 3, use_bias=False, in_channels=3)
    first, second, third = widths
    stem = nn.HybridSequential()
    stem.add(_conv(first, 3, 3, 2), norm(first), nn.Activation('relu'))
    stem.add(_conv(second, first, 3), norm(second), nn.Activation('relu'))
    stem.add(_conv(third, second, 3, last_stride))
    return stem


def _pool(kind: str) -> Optional[gluon.HybridBlock]:
    """Return the pool that halves the stem's map: see ``stem_pool`` of :class:`ResNetV1b`."""
    if kind == 'none':
        return None
    return nn.MaxPool2D(3, 2, 0 if kind == 'ceil' else 1, ceil_mode=kind == 'ceil')


class ResNetV1b(Classifier):
    """``(N, 3, H, W) -> (N, classes)``; total stride 32, or 8 if dilated.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        layers: blocks in each stage.
        activation, default_activation: factories for the places within the blocks that take the unit, and for others.
        attention: factory of the attention units, or None.
        norm: factory of the norms.
        classes: number of outputs.
        act_layers, act_order: which stages take ``activation`` (open-atac: 2 means stages 3 and 4).
        layout: what is particular to the bottlenecks.
        deep_stem, stem_width: three 3x3 convolutions in place of the 7x7, to ``stem_width``, the same, and twice that
            (GluonCV's v1c, v1d and, with 64, v1s; in open-atac the flag is broken).
        tiered_stem: the deep stem begins with three quarters of its width (timm's ``resnet50t``).
        stem_pool: ``'max'`` of 3x3; ``'ceil'``, the same without padding, which rounds its size up as Caffe does; or
            ``'none'``: the deep stem's last convolution has the stride instead (timm's ``gcresnet50t``).
        avg_down: average pooling takes the shortcut's stride.
        dilated: stages 3 and 4 keep their resolution, with dilation 2 and 4.
        last_gamma: the last norm of each block starts at zero.
        initialization: initial values, see :func:`model.layers.initialization.initialize`.
        final_drop: dropout rate before the classifier.
    """

    def __init__(
        self,
        block: Type[_Residual],
        layers: Sequence[int],
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        attention: Optional[AttentionFactory] = None,
        norm: NormFactory = batch_norm,
        classes: int = 1000,
        layout: Layout = PLAIN,
        act_layers: int = 2,
        act_order: str = 'bac',
        deep_stem: bool = False,
        stem_width: int = 32,
        tiered_stem: bool = False,
        stem_pool: str = 'max',
        avg_down: bool = False,
        dilated: bool = False,
        last_gamma: bool = False,
        initialization: str = 'msra',
        final_drop: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        places = stages_with(act_layers, act_order, len(layers))
        deep_stem = deep_stem or tiered_stem
        if stem_pool == 'none' and not deep_stem:
            raise ValueError("stem_pool is 'none', which only works with a deep stem: give deep_stem=True too")
        self.stem_pool, self.layout = stem_pool, layout
        widths = (3 * (stem_width // 4) if tiered_stem else stem_width, stem_width, 2 * stem_width)
        self.conv1 = _stem(widths if deep_stem else (64,), 2 if stem_pool == 'none' else 1, norm)
        width = widths[-1] if deep_stem else 64
        self.bn1 = norm(width)
        self.relu = nn.Activation('relu')
        self.maxpool = _pool(stem_pool)
        width, self.feature_info = self._add_stages(
            block,
            layers,
            width,
            dilated,
            avg_down,
            activations=[activation if index in places else default_activation for index in range(len(layers))],
            attention=attention,
            norm=norm,
            last_gamma=last_gamma,
            layout=layout,
        )
        self.avgpool = GlobalAvgPool()
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(final_drop) if final_drop else None
        self.fc = nn.Dense(classes, in_units=width)
        initialize(self, initialization)

    def _add_stages(
        self,
        block: Type[_Residual],
        layers: Sequence[int],
        width: int,
        dilated: bool,
        avg_down: bool,
        activations: Sequence[ActivationFactory],
        attention: Optional[AttentionFactory],
        norm: NormFactory,
        **of_blocks: Any,
    ) -> Tuple[int, Tuple[FeatureInfo, ...]]:
        """Add the stages behind a stem of this width; return the width behind them and what is known of each."""
        info, total = [], 4
        for index, (planes, count) in enumerate(zip(PLANES, layers)):
            dilation = {2: 2, 3: 4}.get(index, 1) if dilated else 1
            stage = Stage()
            for number in range(count):
                first = number == 0
                stride = 2 if first and index > 0 and dilation == 1 else 1
                channels = planes * block.expansion
                shortcut = None
                # A dilated stage keeps its projection even if stride and width would allow the
                # identity.
                if self.layout.shortcuts and first and (stride != 1 or width != channels):
                    shortcut = _shortcut(channels, width, stride, avg_down, norm)
                stage.add(
                    block(
                        planes,
                        stride,
                        width,
                        dilation=dilation,
                        # The first block of a dilated stage still sees features at the dilation of the stage before.
                        first_dilation=max(1, dilation // 2) if first else dilation,
                        activation=activations[index],
                        attention=attention and partial(attention, stage=index + 1, block=number),
                        place=attention and attention.place,
                        downsample=shortcut,
                        norm=norm,
                        **of_blocks,
                    )
                )
                width = channels
            setattr(self, f'layer{index + 1}', stage)
            total *= 2 if index > 0 and dilation == 1 else 1
            info.append(FeatureInfo(f'layer{index + 1}', width, total))
        return width, tuple(info)

    @property
    def stages(self) -> List[Stage]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def before_stages(self, F: Any, x: Any) -> Any:
        x = self.relu(self.bn1(self.conv1(x)))
        return x if self.maxpool is None else self.maxpool(x)

    def after_stages(self, F: Any, x: Any) -> Any:
        x = self.flat(self.avgpool(x))
        return x if self.drop is None else self.drop(x)
