"""The pre-activation networks of DIANet, for CIFAR: PreResNet with bottlenecks, and the Wide ResNet.

He et al., "Identity Mappings in Deep Residual Networks", arXiv 1603.05027, and Zagoruyko and Komodakis, "Wide Residual
Networks", arXiv 1605.07146, in the form of gbup-group/DIANet (``dia_preresnet.py``, ``dia_wrn.py``; Huang et al., arXiv
1905.10671). DIANet ends each branch with one more batch norm, which is what the attention unit sees and scales; here
``branch_norm`` says whether: None where there is a unit on the branch, True everywhere, False nowhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Optional, Sequence, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.cifar_stages import BlockStage, CifarStages, conv
from model.layers.carry import join, split
from model.layers.drop_path import Residual
from model.layers.factories import (
    FOR_A_CONVOLUTION,
    ActivationFactory,
    BoundAttention,
    Convolution,
    NormFactory,
    add_shortcut,
    unit_for,
)
from model.layers.initialization import FanInUniform, HeFanOut

__all__ = ['CifarPreResNet', 'CifarWideResNet', 'PreActivationBottleneck', 'WideBlock']


class _PreActivation(Residual, gluon.HybridBlock):
    """The end of both blocks: norm and attention on the branch's output, then addition of the shortcut, without ReLU.

    ``shortcuts=False`` omits the shortcut.
    """

    def __init__(self, shortcuts: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shortcuts = shortcuts

    def _end(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        attention: Optional[BoundAttention],
        place: Optional[str],
        norm: NormFactory,
        branch_norm: Optional[bool],
    ) -> None:
        wanted = place == 'branch' if branch_norm is None else branch_norm
        self.branch_norm = norm(channels) if wanted else None
        self.place = place
        self.attention = unit_for(attention, place, channels, stride)
        changed = self.shortcuts and (channels != in_channels or stride != 1)
        self.downsample = conv(channels, in_channels, 1, stride) if changed else None

    def _finish(self, F: Any, out: Any, shortcut: Any, carry: Tuple[Any, ...]) -> Any:
        if self.branch_norm is not None:
            out = self.branch_norm(out)
        return join(*add_shortcut(F, self, out, shortcut, carry))


class PreActivationBottleneck(_PreActivation):
    """``shortcut(x) + attention(branch(x))``, ``(N, C_in, H, W) -> (N, channels, H / stride, W / stride)``.

    The branch has 1x1, 3x3 (with the stride) and 1x1 convolution, ``channels / 4`` wide inside, each after a norm and
    an activation unit. An attention unit of the place ``'convolution'`` replaces the 3x3 convolution and the norm and
    activation after it. Where width or resolution changes, the shortcut is a bare 1x1 convolution of the raw input, or
    with ``activated_shortcut`` of the activated one.
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
        branch_norm: Optional[bool] = None,
        activated_shortcut: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._activated_shortcut = activated_shortcut
        inner = channels // 4
        self.bn1 = norm(in_channels)
        self.relu1 = activation(in_channels)
        self.conv1 = conv(inner, in_channels, 1)
        self.bn2 = norm(inner)
        self.relu2 = activation(inner)
        self.select = None
        if place in FOR_A_CONVOLUTION:
            convolution = Convolution(inner, activation, norm, stride, weight_initializer=HeFanOut())
            self.select = attention(inner, stride=stride, convolution=convolution)
        else:
            self.conv2 = conv(inner, inner, 3, stride)
            self.bn3 = norm(inner)
            self.relu3 = activation(inner)
        self.conv3 = conv(channels, inner, 1)
        self._end(in_channels, channels, stride, attention, place, norm, branch_norm)

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        activated = self.relu1(self.bn1(x))
        out = self.relu2(self.bn2(self.conv1(activated)))
        if self.select is not None:
            out, carry = split(self.select(out, *carry))
        else:
            out = self.relu3(self.bn3(self.conv2(out)))
        shortcut = x if self.shortcuts else None
        if self.downsample is not None:
            shortcut = self.downsample(activated if self._activated_shortcut else x)
        return self._finish(F, self.conv3(out), shortcut, carry)


class WideBlock(_PreActivation):
    """``shortcut + attention(branch(x))``, ``(N, C_in, H, W) -> (N, channels, H / stride, W / stride)``.

    The branch has two 3x3 convolutions, the first with the stride, each after a norm and an activation unit; dropout of
    the rate ``drop`` precedes the second. Where width or resolution changes, the shortcut is a bare 1x1 convolution of
    the activated input, elsewhere the raw input.
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
        branch_norm: Optional[bool] = None,
        drop: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if place == 'convolution':
            raise ValueError('a basic block has no place for units that replace a convolution: use a bottleneck')
        self.bn1 = norm(in_channels)
        self.relu1 = activation(in_channels)
        self.conv1 = conv(channels, in_channels, 3, stride)
        self.bn2 = norm(channels)
        self.relu2 = activation(channels)
        self.drop = nn.Dropout(drop) if drop else None
        self.conv2 = conv(channels, channels, 3)
        self._end(in_channels, channels, stride, attention, place, norm, branch_norm)

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        activated = self.relu1(self.bn1(x))
        shortcut = x if self.shortcuts else None
        if self.downsample is not None:
            shortcut = self.downsample(activated)
        out = self.relu2(self.bn2(self.conv1(activated)))
        if self.drop is not None:
            out = self.drop(out)
        return self._finish(F, self.conv2(out), shortcut, carry)


class CifarPreResNet(CifarStages):
    """PreResNet with ``blocks`` bottlenecks per stage and ``channels`` of stem and stages; the depth is 9 blocks + 2.

    ``activated_shortcut`` is that of :class:`PreActivationBottleneck`: DIANet projects the raw input, He et al.'s code
    and pytorchcv the activated one. ``outer_norm`` says whether the norm and the ReLU outside of the blocks stand at
    the ``'end'`` of the stages or at their ``'start'`` (pytorchcv's ``sepreresnet164bn``). The other parameters are
    those of :class:`model.backbone.cifar_stages.CifarStages`.
    """

    def __init__(
        self,
        blocks: int,
        channels: Sequence[int] = (16, 64, 128, 256),
        branch_norm: Optional[bool] = None,
        activated_shortcut: bool = False,
        outer_norm: str = 'end',
        **options: Any,
    ) -> None:
        block = partial(PreActivationBottleneck, branch_norm=branch_norm, activated_shortcut=activated_shortcut)
        stages = [BlockStage(block, blocks, width) for width in channels[1:]]
        super().__init__(channels[0], stages, pre_activation=outer_norm == 'end', **options)


class CifarWideResNet(CifarStages):
    """Wide ResNet with ``blocks`` blocks per stage, ``widen`` times as wide as ResNet; the depth is 6 blocks + 4.

    ``block_drop`` is the dropout rate within the blocks (DIANet trains with 0.3); with ``input_norm`` and ``stem_norm``
    there are norms of the images and behind the stem, as in GluonCV. The other parameters are those of
    :class:`model.backbone.cifar_stages.CifarStages`.
    """

    def __init__(
        self, blocks: int, widen: int, branch_norm: Optional[bool] = None, block_drop: float = 0.0, **options: Any
    ) -> None:
        block = partial(WideBlock, branch_norm=branch_norm, drop=block_drop)
        stages = [BlockStage(block, blocks, width * widen) for width in (16, 32, 64)]
        # PyTorch's weights, but no bias.
        dense = {'weight_initializer': FanInUniform(), 'bias_initializer': 'zeros'}
        super().__init__(16, stages, pre_activation=True, dense=dense, **options)
