"""Networks of inverted residual blocks: the common form of MobileNetV2 and MnasNet.

Sandler et al., "MobileNetV2", arXiv 1801.04381, section 3; places of the attention units as in DCANet
(13952522076/DCANet, arXiv 2007.05099).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Optional, Sequence

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from model.attention.se import SE
from model.backbone.classifier import Classifier, FeatureInfo
from model.layers.carry import Stage, join, split
from model.layers.drop_path import Residual
from model.layers.factories import (
    FOR_A_CONVOLUTION,
    ActivationFactory,
    AttentionFactory,
    BoundAttention,
    Convolution,
    NormFactory,
    add_shortcut,
    stages_with,
    unit_for,
)
from model.layers.initialization import HeFanOut, initialize_dense
from model.layers.pool import GlobalAvgPool

__all__ = ['InvertedResidual', 'InvertedResidualNetwork', 'Row', 'conv_norm']


class Row(NamedTuple):
    """A stage: ``repeats`` blocks with ``channels`` output channels, the first of which has the stride.

    ``excite`` adds squeeze and excitation after the depth-wise convolution, that many times as narrow as the block's
    input; 0 for none.
    """

    expansion: int
    channels: int
    repeats: int
    stride: int
    kernel: int = 3
    excite: int = 0


def conv_norm(
    channels: int,
    in_channels: int,
    norm: NormFactory,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Optional[ActivationFactory] = None,
) -> nn.HybridSequential:
    """Return a convolution without bias, a norm and, if given, an activation.

    The convolution is initialised after He et al., by fan-out, which is not divided by the number of groups.
    """
    layers = nn.HybridSequential()
    layers.add(
        nn.Conv2D(
            channels,
            kernel,
            stride,
            kernel // 2,
            groups=groups,
            use_bias=False,
            in_channels=in_channels,
            weight_initializer=HeFanOut(),
        ),
        norm(channels),
    )
    if activation is not None:
        layers.add(activation(channels))
    return layers


class InvertedResidual(Residual, gluon.HybridBlock):
    """``x + attention(project(depthwise(expand(x))))``, ``(N, C_in, H, W) -> (N, C, H / stride, W / stride)``.

    A 1x1 convolution to ``expansion`` times the input's width (where that is 1, only with ``always_expand``), a
    depth-wise one with the stride, squeeze and excitation if ``excite`` is not 0 (see :class:`Row`), and a 1x1
    convolution without activation. The shortcut is the identity or, where width or resolution change, absent;
    an attention unit on the branch acts in either case, one of the place ``'sum'`` where there is a shortcut. A unit of
    the place ``'convolution'`` replaces the depth-wise convolution, its norm and its activation; selective kernels
    have the kernels that they have, whatever ``kernel`` is.

    ``attention`` is a factory bound to this block, ``(channels, stride=, convolution=) -> unit``, or None; ``place``
    says which kind of unit it makes (:class:`model.layers.factories.AttentionFactory`).
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        expansion: int,
        stride: int,
        kernel: int,
        activation: ActivationFactory,
        norm: NormFactory,
        attention: Optional[BoundAttention] = None,
        place: Optional[str] = None,
        excite: int = 0,
        always_expand: bool = False,
    ) -> None:
        super().__init__()
        width = expansion * in_channels
        expands = expansion != 1 or always_expand
        self.expand = conv_norm(width, in_channels, norm, activation=activation) if expands else None
        self.select = self.depthwise = None
        if place in FOR_A_CONVOLUTION:
            convolution = Convolution(
                width,
                activation,
                norm,
                stride,
                groups=width,
                kernel=kernel,
                expanded=expands,
                weight_initializer=HeFanOut(),
            )
            self.select = attention(width, stride=stride, convolution=convolution)
        else:
            self.depthwise = conv_norm(width, width, norm, kernel, stride, groups=width, activation=activation)
        self.excite = SE(width, expansion * excite) if excite else None
        self.project = conv_norm(channels, width, norm)
        self.place = place
        self.shortcut = stride == 1 and channels == in_channels
        summed = place != 'sum' or self.shortcut
        self.attention = unit_for(attention, place, channels, stride) if summed else None

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        out = x if self.expand is None else self.expand(x)
        if self.select is not None:
            out, carry = split(self.select(out, *carry))
        else:
            out = self.depthwise(out)
        if self.excite is not None:
            out = self.excite(out)
        out = self.project(out)
        if self.shortcut:
            return join(*add_shortcut(F, self, out, x, carry))
        if self.attention is not None:
            out, carry = split(self.attention(out, *carry))
        return join(out, carry)


class InvertedResidualNetwork(Classifier):
    """Stem, stages of :class:`InvertedResidual`, 1x1 convolution, mean over space, dropout, classifier.

    ``(N, 3, H, W) -> (N, classes)``, for any H and W; total stride 32. Convolutions are initialised as in He et al., by
    fan-out.

    Args:
        stem: what comes before the stages.
        width: channels of the stem.
        rows: the stages.
        last: channels of the last convolution.
        activation, default_activation: factories for the places within the blocks that take the unit, and for the
            others; the last convolution always has the latter.
        attention: factory of the attention units, or None.
        norm: factory of the norms.
        classes: number of outputs.
        act_layers, act_order: which stages take ``activation``, see :func:`model.layers.factories.stages_with`.
        final_drop: dropout rate before the classifier.
        dense_initializer: for all fully connected weights, including those of attention units; their biases start at
            zero.
        expand_first: whether blocks that do not widen their input also have the 1x1 convolution before the depth-wise
            one.
        classifier_bias: whether the classifier has a bias.
    """

    def __init__(
        self,
        stem: gluon.HybridBlock,
        width: int,
        rows: Sequence[Row],
        last: int,
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        attention: Optional[AttentionFactory],
        norm: NormFactory,
        classes: int,
        act_layers: int,
        act_order: str,
        final_drop: float,
        dense_initializer: mx.init.Initializer,
        expand_first: bool = False,
        classifier_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        places = stages_with(act_layers, act_order, len(rows))
        self.stem = stem
        self.stages = nn.HybridSequential()
        info, total = [], 2  # the stem's stride
        for index, row in enumerate(rows):
            stage = Stage()
            for number in range(row.repeats):
                stage.add(
                    InvertedResidual(
                        row.channels,
                        width,
                        row.expansion,
                        row.stride if number == 0 else 1,
                        row.kernel,
                        activation=activation if index in places else default_activation,
                        norm=norm,
                        attention=attention and partial(attention, stage=index + 1, block=number),
                        place=attention and attention.place,
                        excite=row.excite,
                        always_expand=expand_first,
                    )
                )
                width = row.channels
            self.stages.add(stage)
            total *= row.stride
            info.append(FeatureInfo(f'stages.{index}', width, total))
        self.feature_info = tuple(info)
        self.last = conv_norm(last, width, norm, activation=default_activation)
        self.avgpool = GlobalAvgPool()
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(final_drop) if final_drop else None
        self.fc = nn.Dense(classes, in_units=last, use_bias=classifier_bias)
        initialize_dense(self, dense_initializer)

    def before_stages(self, F: Any, x: Any) -> Any:
        return self.stem(x)

    def after_stages(self, F: Any, x: Any) -> Any:
        x = self.flat(self.avgpool(self.last(x)))
        return x if self.drop is None else self.drop(x)
