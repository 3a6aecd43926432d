"""A classifier's stages as feature maps."""

from __future__ import annotations

import itertools
from typing import Any, List, Sequence, Tuple

from mxnet import gluon

from model import get_model
from model.backbone.resnet_v1b import ResNetV1b
from model.layers.carry import split

__all__ = ['Trunk', 'trunk']


class Trunk(gluon.HybridBlock):
    """A ResNet-v1b without its classifier: ``(N, 3, H, W) -> C2, C3, C4, C5`` at strides 4, 8, 16 and 32.

    H and W are multiples of 32. What attention units pass on runs through all four stages as in the classifier, and
    the parameters have the classifier's names. ``channels`` are those of the four maps.
    """

    def __init__(self, net: ResNetV1b, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugins = net.plugins
        self.left_out = net.classifier_parameters()
        self.channels = tuple(info.channels for info in net.feature_info)
        stages = list(net.stages)
        before = itertools.takewhile(lambda item: item[1] is not stages[0], net._children.items())
        self._stem = [name for name, _ in before]
        self._names = [info.name for info in net.feature_info]
        for name in (*self._stem, *self._names):
            setattr(self, name, net._children[name])
        self._before = net.before_stages  # of the same blocks

    @property
    def stages(self) -> List[Sequence[gluon.HybridBlock]]:
        """Return the stem and the four stages, each as blocks."""
        return [[self._children[name] for name in self._stem], *([self._children[name]] for name in self._names)]

    def hybrid_forward(self, F: Any, x: Any) -> Tuple[Any, ...]:
        x = self._before(F, x)
        carry, maps = (), []
        for name in self._names:
            stage = self._children[name]
            x, carry = split(stage(x, *carry))
            maps.append(x)
        return tuple(maps)


def trunk(name: str, **options: Any) -> Trunk:
    """Return the :class:`Trunk` of the network that ``get_model(name, **options)`` makes.

    Raises ``ValueError`` for networks other than ResNet-v1b, and for options that such a detector cannot have.
    """
    for key, why in (
        ('classes', 'the backbone has no classifier'),
        ('final_drop', 'the backbone has no classifier'),
        ('dilated', 'the pyramid needs maps at strides 4, 8, 16 and 32'),
    ):
        if key in options:
            raise ValueError(f'{key} is {options[key]!r}: {why}; leave it out')
    net = get_model(name, classes=1, **options)
    if not isinstance(net, ResNetV1b):
        raise ValueError(f'{name} is not a backbone for a detector; allowed: names that end in resnet*_v1b')
    return Trunk(net)
