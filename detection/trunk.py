"""A classifier's stages as feature maps."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

from mxnet import gluon

from model import get_model
from model.backbone.resnet_v1b import ResNetV1b
from model.carry import split

__all__ = ['Trunk', 'trunk']


class Trunk(gluon.HybridBlock):
    """A ResNet-v1b without its classifier: ``(N, 3, H, W) -> C2, C3, C4, C5`` at strides 4, 8, 16 and 32.

    H and W are multiples of 32. What attention units hand on runs through all four stages as in the classifier, and
    the parameters have the classifier's names. ``channels`` are those of the four maps.
    """

    def __init__(self, net: ResNetV1b, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugins = net.plugins
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        widest = net.fc.weight.shape[1]
        self.channels = tuple(widest // times for times in (8, 4, 2, 1))

    @property
    def stages(self) -> List[Sequence[gluon.HybridBlock]]:
        """The stem and the four stages, each as blocks."""
        return [[self.conv1, self.bn1], [self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def hybrid_forward(self, F: Any, x: Any) -> Tuple[Any, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        carry, maps = (), []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x, carry = split(stage(x, *carry))
            maps.append(x)
        return tuple(maps)


def trunk(name: str, **options: Any) -> Trunk:
    """Return the :class:`Trunk` of the network that ``get_model(name, **options)`` makes.

    ``ValueError`` for networks other than ResNet-v1b, and for options that such a detector cannot have.
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
        raise ValueError(f'{name} is no backbone for a detector: allowed are the names that end in resnet*_v1b')
    return Trunk(net)
