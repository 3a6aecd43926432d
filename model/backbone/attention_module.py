"""The attention module of Residual Attention Networks: a trunk, and a mask that weights its features.

Wang et al., "Residual Attention Network for Image Classification", CVPR 2017, arXiv 1704.06904, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict

from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.residual_units import UNITS, conv
from model.layers.broadcast import add_to_channels, scale_channels
from model.layers.factories import ActivationFactory, NormFactory, batch_norm
from model.layers.pool import GlobalAvgPool

__all__ = ['LEARNING', 'MASK_STRUCTURES', 'MASK_TYPES', 'PLAIN', 'AttentionModule', 'Mask', 'ModuleForm']

LOCAL = 3  # residual units of a mask without encoder and decoder
EPSILON = 1e-5


@dataclass(frozen=True)
class ModuleForm:
    """The form of a network's modules, apart from their width and the depth of their masks.

    Attributes:
        pre: the paper's p, residual units before the module divides into trunk and mask, and as many behind it.
        trunk: the paper's t, residual units in the trunk.
        mask: the paper's r, residual units between two pools of the mask.
        unit: kind of the residual units, a key of :data:`model.backbone.residual_units.UNITS`.
        structure: of the mask, see :class:`Mask`: one of `MASK_STRUCTURES`.
        type: of the attention, one of `MASK_TYPES`: what makes a mask of the last map ``z`` of the mask branch.
            ``'mixed'``: ``sigmoid(z)``; ``'channel'``: ``z / |z|``, the norm over the channels of a position;
            ``'spatial'``: ``sigmoid((z - mean) / deviation)``, both over the positions of a channel (the paper's f1, f2
            and f3).
        learning: one of `LEARNING`: ``'residual'`` multiplies the trunk by ``1 + mask``, ``'naive'`` by ``mask``.
        additions: whether each resizing in the mask is followed by the sum with the map that it takes the size from.
    """

    pre: int = 1
    trunk: int = 2
    mask: int = 1
    unit: str = 'preactivation'
    structure: str = 'encoder_decoder'
    type: str = 'mixed'
    learning: str = 'residual'
    additions: bool = False


#: The form of the published networks, except for their numbers of units.
PLAIN = ModuleForm()
LEARNING = ('residual', 'naive')
MASK_STRUCTURES = ('encoder_decoder', 'convolutions')


class MixedMask(gluon.HybridBlock):
    """``sigmoid(z)``, ``(N, C, H, W) -> (N, C, H, W)``."""

    bounded = True

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.Activation(x, act_type='sigmoid')  # on CPUs much faster than the plain operator


class ChannelMask(gluon.HybridBlock):
    """``z`` over its Euclidean norm at each position, ``(N, C, H, W) -> (N, C, H, W)``, from -1 to 1."""

    bounded = False

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        # Within the root, since its gradient at 0 is infinite.
        return F.broadcast_div(x, F.sqrt(F.sum(F.square(x), axis=1, keepdims=True) + EPSILON))


class SpatialMask(gluon.HybridBlock):
    """``sigmoid`` of ``z`` normalised over the positions of each channel, ``(N, C, H, W) -> (N, C, H, W)``."""

    bounded = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool = GlobalAvgPool()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        centred = add_to_channels(F, x, -F.Flatten(self.pool(x)))
        variance = F.Flatten(self.pool(F.square(centred)))
        return F.Activation(scale_channels(F, centred, 1 / F.sqrt(variance + EPSILON)), act_type='sigmoid')


#: Blocks by the names of :attr:`ModuleForm.type`.
MASK_TYPES: Dict[str, Callable[[], gluon.HybridBlock]] = {
    'mixed': MixedMask,
    'channel': ChannelMask,
    'spatial': SpatialMask,
}


def _pool() -> nn.MaxPool2D:
    return nn.MaxPool2D(3, 2, 1)


def _head(channels: int, norm: NormFactory, unit: str) -> nn.HybridSequential:
    """Return the two 1x1 convolutions of a mask.

    A norm and a ReLU come before each of them, with ResNeXt units before the second only.
    """
    head = nn.HybridSequential()
    for place in range(2):
        if place or unit != 'resnext':
            head.add(norm(channels), nn.Activation('relu'))
        head.add(conv(channels, channels))
    return head


def _units(
    kind: str, channels: int, activation: ActivationFactory, norm: NormFactory, count: int
) -> nn.HybridSequential:
    row = nn.HybridSequential()
    for _ in range(count):
        row.add(UNITS[kind](channels, channels, activation, norm))
    return row


def _alone_or_in_a_row(units: nn.HybridSequential) -> gluon.HybridBlock:
    """Return a single unit itself, so that its name in parameter files has no number."""
    return units[0] if len(units) == 1 else units


class Mask(gluon.HybridBlock):
    """The mask branch of a module: ``(features, trunk) -> mask``, all ``(N, C, H, W)``.

    With the structure ``'encoder_decoder'`` it goes ``levels`` max pools down and comes up again (section 3.1 of the
    paper); R is a residual unit::

        down    d_k = R(pool(d_(k-1)))  from  d_0 = features, r units in a row; at the lowest level one more
        up      u_k = R(resize(u_(k+1)) + S_k(d_k)),  S_k = R another one
        head    type(conv(relu(bn(conv(relu(bn(resize(u_1))))))))

    Resizing is bilinear with aligned corners, to the size of the level above. With ``form.additions`` it is followed by
    ``+ d_k`` and, before the head, by ``+ trunk``. Without levels there is nothing to resize and to add: the head sees
    ``R(R(features))``. With the structure ``'convolutions'`` there are no levels, and `LOCAL` units before the head.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        form: ModuleForm = PLAIN,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        local = form.structure == 'convolutions'
        self._levels, self._additions = (0 if local else levels), form.additions
        units = partial(_units, form.unit, channels, activation, norm)

        between = max(0, self._levels - 1)  # levels that have one above and one below
        self.pool = _pool()
        self.down = nn.HybridSequential()
        for _ in range(between):
            self.down.add(_alone_or_in_a_row(units(form.mask)))
        self.bottom = units(LOCAL if local else form.mask + 1)
        self.skip = units(between)
        self.up = units(between)
        self.head = _head(channels, norm, form.unit)
        self.activation = MASK_TYPES[form.type]()

    @staticmethod
    def _resize(F: Any, x: Any, like: Any) -> Any:
        # Where both have one size MXNet leaves the gradient of ``like``, which is none, unwritten.
        return F.contrib.BilinearResize2D(x, F.BlockGrad(like), mode='like', align_corners=True)

    def hybrid_forward(self, F: Any, x: Any, trunk: Any) -> Any:
        maps = [x]
        for block in self.down:
            maps.append(block(self.pool(maps[-1])))
        out = self.bottom(self.pool(maps[-1]) if self._levels else x)
        for level in reversed(range(1, len(maps))):
            out = F.elemwise_add(self._resize(F, out, maps[level]), self.skip[level - 1](maps[level]))
            if self._additions:
                out = F.elemwise_add(out, maps[level])
            out = self.up[level - 1](out)
        if self._levels:
            out = self._resize(F, out, x)
            if self._additions:
                out = F.elemwise_add(out, trunk)
        return self.activation(self.head(out))


class AttentionModule(gluon.HybridBlock):
    """``last((1 + mask) * trunk)`` of ``first(x)``, equation 3 of the paper: ``(N, C, H, W) -> (N, C, H, W)``.

    ``levels`` is the number of max pools in the mask branch; the paper takes as many as lead to a map of 7x7. With
    ``form.learning`` ``'naive'`` it is ``last(mask * trunk)``, equation 1.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        form: ModuleForm = PLAIN,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.levels = 0 if form.structure == 'convolutions' else levels
        self._naive = form.learning == 'naive'
        units = partial(_units, form.unit, channels, activation, norm)
        self.first = _alone_or_in_a_row(units(form.pre))
        self.trunk = units(form.trunk)
        self.mask = Mask(channels, levels, activation, norm, form)
        self.last = _alone_or_in_a_row(units(form.pre))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.first(x)
        trunk = self.trunk(x)
        mask = self.mask(x, trunk)
        return self.last(F.elemwise_mul(mask if self._naive else 1 + mask, trunk))
