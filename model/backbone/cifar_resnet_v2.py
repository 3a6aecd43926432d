"""The pre-activation ResNet that open-atac trains on CIFAR.

He et al., "Identity Mappings in Deep Residual Networks", arXiv 1603.05027, in the form of YimianDai/open-atac
(``ResNet20V2ATAC``), whose parameter names are kept.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any, List, Optional, Sequence

from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.classifier import Classifier, FeatureInfo
from model.layers.carry import Stage, join, split
from model.layers.drop_path import Residual
from model.layers.factories import (
    ActivationFactory,
    AttentionFactory,
    NormFactory,
    add_shortcut,
    batch_norm,
    stages_with,
)
from model.layers.input_norm import InputNorm
from model.layers.pool import GlobalAvgPool

__all__ = ['CifarResNetV2']


def _conv(channels: int, in_channels: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    return nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False, in_channels=in_channels)


class PreActivationBlock(Residual, gluon.HybridBlock):
    """``x + attention(conv2(A2(bn2(conv1(A1(bn1(x)))))))``, ``(N, C_in, H, W) -> (N, C, H / stride, W / stride)``.

    Where width or resolution changes, the shortcut is a bare 1x1 convolution of the raw input, or with
    ``activated_shortcut`` of A1's output; ``shortcuts=False`` leaves it out. A1 acts at the input's
    width and resolution, A2 at the output's; they are called ``msAA1`` and ``msAA2`` as in open-atac's files.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        in_channels: int,
        activation: ActivationFactory,
        attention: Optional[gluon.HybridBlock] = None,
        place: Optional[str] = None,
        norm: NormFactory = batch_norm,
        activated_shortcut: bool = False,
        shortcuts: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._activated_shortcut, self.shortcuts = activated_shortcut, shortcuts
        self.bn1 = norm(in_channels)
        self.conv1 = _conv(channels, in_channels, 3, stride)
        self.bn2 = norm(channels)
        self.conv2 = _conv(channels, channels, 3)
        changed = shortcuts and (channels != in_channels or stride != 1)
        self.downsample = _conv(channels, in_channels, 1, stride) if changed else None
        self.msAA1 = activation(in_channels)
        self.msAA2 = activation(channels)
        self.attention, self.place = attention, place

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        activated = self.msAA1(self.bn1(x))
        shortcut = x if self.shortcuts else None
        if self.downsample is not None:
            shortcut = self.downsample(activated if self._activated_shortcut else x)
        out = self.conv2(self.msAA2(self.bn2(self.conv1(activated))))
        return join(*add_shortcut(F, self, out, shortcut, carry))


class FeatureLayers(nn.HybridSequential):
    """Layers and stages in order, ``(N, 3, H, W) -> (N, C)``; the carry goes from stage to stage."""

    def _alias(self) -> str:
        return 'hybridsequential'  # which parameters are called by

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        carry = ()
        for layer in self._children.values():
            x, carry = split(layer(x, *carry)) if isinstance(layer, Stage) else (layer(x), carry)
        return x


class CifarResNetV2(Classifier):
    """Three stages of :class:`PreActivationBlock` on 32x32 images; ``(N, 3, H, W) -> (N, classes)``.

    Args:
        blocks: blocks in each stage; with b in each, the depth is 6 b + 2.
        activation: factory for the places that take the unit, ``channels -> block``.
        default_activation: factory for the places that ``act_layers`` leaves out, a ReLU in open-atac.
        attention: factory of the attention units, or None.
        norm: factory of the norms.
        classes: number of outputs.
        channels: widths of the first convolution and of the three stages.
        act_layers, act_order: which of the places stage 1, 2, 3 and tail take ``activation``, see
            :func:`model.layers.factories.stages_with`.
        final_drop: dropout rate before the classifier.
        input_norm: whether a norm of the images comes first (pytorchcv's ``preresnet20`` has none).
        activated_shortcut: see :class:`PreActivationBlock`; pytorchcv has it.
        outer_norm: whether the norm and the activation outside the blocks are at the ``'end'`` of the stages or at
            their ``'start'`` (pytorchcv's ``sepreresnet20``).
        update_input_norm: False keeps the initial running statistics of the image norm, as open-atac does on CPUs.
        shortcuts: whether blocks have shortcuts.
    """

    classifier_name = 'output'
    features: FeatureLayers = None  # a child, as in open-atac's files

    def __init__(
        self,
        blocks: Sequence[int],
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        attention: Optional[AttentionFactory] = None,
        norm: NormFactory = batch_norm,
        classes: int = 10,
        channels: Sequence[int] = (16, 16, 32, 64),
        act_layers: int = 4,
        act_order: str = 'bac',
        final_drop: float = 0.0,
        input_norm: bool = True,
        activated_shortcut: bool = False,
        outer_norm: str = 'end',
        update_input_norm: bool = True,
        shortcuts: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        places = stages_with(act_layers, act_order, len(blocks) + 1)
        chosen = [activation if place in places else default_activation for place in range(len(blocks) + 1)]
        self.features = FeatureLayers()
        if input_norm:
            self.features.add(InputNorm(3, update_running=update_input_norm))
        self.features.add(_conv(channels[0], 3, 3))
        if outer_norm == 'start':
            self.features.add(norm(channels[0]), chosen[-1](channels[0]))
        before = len(self.features)
        width = channels[0]
        for index, (count, out_width) in enumerate(zip(blocks, channels[1:])):
            stage = Stage()
            for block in range(count):
                stride = 2 if index > 0 and block == 0 else 1
                unit = attention(out_width, index + 1, block, stride) if attention else None
                place = attention.place if attention else None
                stage.add(
                    PreActivationBlock(
                        out_width, stride, width, chosen[index], unit, place, norm, activated_shortcut, shortcuts
                    )
                )
                width = out_width
            self.features.add(stage)
        if outer_norm == 'end':
            self.features.add(norm(width), chosen[-1](width))
        self.features.add(GlobalAvgPool(), nn.Flatten())
        if final_drop:
            self.features.add(nn.Dropout(final_drop))
        self.output = nn.Dense(classes, in_units=width)
        self.feature_info = tuple(
            FeatureInfo(f'features.{index + before}', out_width, 2**index)
            for index, out_width in enumerate(channels[1:])
        )

    @property
    def stages(self) -> List[Stage]:
        return [layer for layer in self.features if isinstance(layer, Stage)]

    def before_stages(self, F: Any, x: Any) -> Any:
        for layer in takewhile(lambda layer: not isinstance(layer, Stage), self.features._children.values()):
            x = layer(x)
        return x

    def after_stages(self, F: Any, x: Any) -> Any:
        layers = list(self.features._children.values())
        for layer in layers[layers.index(self.stages[-1]) + 1 :]:
            x = layer(x)
        return x

    def vectors(self, F: Any, x: Any) -> Any:
        return self.features(x)
