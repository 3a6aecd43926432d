"""The common form of DIANet's CIFAR networks: a 3x3 stem, three stages of blocks, a pooled classifier."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence

from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.classifier import Classifier, FeatureInfo
from model.layers.carry import Stage
from model.layers.factories import ActivationFactory, AttentionFactory, NormFactory, batch_norm, stages_with
from model.layers.initialization import FanInUniform, HeFanOut
from model.layers.input_norm import InputNorm
from model.layers.pool import GlobalAvgPool

__all__ = ['BlockStage', 'CifarStages', 'conv', 'fan_in_uniform']


def conv(channels: int, in_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2D:
    """Return a convolution without bias that keeps the resolution up to its stride.

    Normal, He et al.'s fan-out variance.
    """
    return nn.Conv2D(
        channels,
        kernel,
        stride,
        kernel // 2,
        groups=groups,
        use_bias=False,
        in_channels=in_channels,
        weight_initializer=HeFanOut(),
    )


def fan_in_uniform(in_units: int) -> Mapping[str, Any]:
    """Return PyTorch's initial values of a dense layer: weight and bias uniform in ``+-1 / sqrt(in_units)``."""
    return {'weight_initializer': FanInUniform(), 'bias_initializer': FanInUniform(in_units)}


class BlockStage(NamedTuple):
    """``count`` blocks of ``channels`` output channels.

    ``block(in_channels, channels, stride, activation=, attention=, place=, norm=)`` makes one; ``attention`` is a
    factory bound to it, ``(channels, stride=, convolution=) -> unit``, or None, and ``place`` what kind of unit that
    makes (:class:`model.layers.factories.AttentionFactory`). In a network without shortcuts it is also given
    ``shortcuts=False``.
    """

    block: Callable[..., gluon.HybridBlock]
    count: int
    channels: int


class CifarStages(Classifier):
    """``(N, 3, H, W) -> (N, classes)``; total stride 4, any H and W.

    The published networks end in a pooling window of 8x8, and so only take 32x32 images; this one pools whatever is
    left.

    Args:
        stem: channels of the first convolution.
        stages: the three stages; all but the first begin with stride 2.
        pre_activation: whether the norm and ReLU outside the stages come after them or before them.
        activation, default_activation: factories for the places within the blocks that take the unit, and for others.
        attention: factory of the attention units, or None.
        norm: factory of the norms.
        classes: number of outputs.
        dense: initial values of the classifier, as keyword arguments of ``nn.Dense``.
        input_norm: whether a norm of the images, :class:`model.layers.input_norm.InputNorm`, comes first.
        stem_norm: whether the stem is followed by a norm, in addition to the one that ``pre_activation`` places.
        stem_relu: whether a ReLU follows the norm before the stages (GluonCV's ResNet-v1 has none).
        act_layers, act_order: which stages take ``activation``, see :func:`model.layers.factories.stages_with`.
        final_drop: dropout rate before the classifier.
        shortcuts: whether blocks have shortcuts.
    """

    def __init__(
        self,
        stem: int,
        stages: Sequence[BlockStage],
        pre_activation: bool,
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        attention: Optional[AttentionFactory] = None,
        norm: NormFactory = batch_norm,
        classes: int = 10,
        dense: Optional[Mapping[str, Any]] = None,
        input_norm: bool = False,
        stem_norm: bool = False,
        stem_relu: bool = True,
        act_layers: int = 3,
        act_order: str = 'bac',
        final_drop: float = 0.0,
        shortcuts: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        places = stages_with(act_layers, act_order, len(stages))
        self._pre_activation = pre_activation
        self.norm0 = InputNorm(3) if input_norm else None
        self.conv1 = conv(stem, 3, 3)
        self.norm1 = norm(stem) if stem_norm else None
        self.bn1 = norm(stages[-1].channels if pre_activation else stem)
        self.relu = nn.Activation('relu')
        self._stem_relu = stem_relu
        width = stem
        for index, (block, count, channels) in enumerate(stages):
            stage = Stage()
            for number in range(count):
                stage.add(
                    block(
                        width,
                        channels,
                        2 if index > 0 and number == 0 else 1,
                        activation=activation if index in places else default_activation,
                        attention=attention and partial(attention, stage=index + 1, block=number),
                        place=attention and attention.place,
                        norm=norm,
                        **({} if shortcuts else {'shortcuts': False}),
                    )
                )
                width = channels
            setattr(self, f'layer{index + 1}', stage)
        self.feature_info = tuple(
            FeatureInfo(f'layer{index + 1}', stage.channels, 2**index) for index, stage in enumerate(stages)
        )
        self.avgpool = GlobalAvgPool()
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(final_drop) if final_drop else None
        self.fc = nn.Dense(classes, in_units=width, **(dense or fan_in_uniform(width)))

    @property
    def stages(self) -> List[Stage]:
        return [self.layer1, self.layer2, self.layer3]

    def before_stages(self, F: Any, x: Any) -> Any:
        x = self.conv1(x if self.norm0 is None else self.norm0(x))
        x = x if self.norm1 is None else self.norm1(x)
        if self._pre_activation:
            return x
        return self.relu(self.bn1(x)) if self._stem_relu else self.bn1(x)

    def after_stages(self, F: Any, x: Any) -> Any:
        if self._pre_activation:
            x = self.relu(self.bn1(x))
        x = self.flat(self.avgpool(x))
        return x if self.drop is None else self.drop(x)
