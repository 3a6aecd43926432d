"""The Residual Attention Network: residual blocks, and between them modules that mask their own features.

Wang et al., "Residual Attention Network for Image Classification", CVPR 2017, arXiv 1704.06904; layers and widths of
the authors' Caffe files (fwang91/residual-attention-network) and, for CIFAR, of the PyTorch port
tengshaofeng/ResidualAttentionNetwork-pytorch. What differs from the port:

- It adds the feature map that upsampling only takes the size of: see ``mask_additions``.
- It fixes the size of every map; here maps are resized to the map that they meet, so that any input size works.
- It declares a projection for every block, whether used or not; here only the used ones exist.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from mxnet import gluon
from mxnet.gluon import nn

from model.backbone.classifier import Classifier, FeatureInfo
from model.layers.factories import ActivationFactory, NormFactory, batch_norm, stages_with
from model.layers.initialization import FanInUniform
from model.layers.pool import GlobalAvgPool

__all__ = ['LAYOUTS', 'AttentionModule', 'Mask', 'ResidualAttentionNetwork', 'ResidualBlock']

TRUNK = 2  # the paper's t: residual blocks in a module's trunk

#: The published networks, as arguments of :class:`ResidualAttentionNetwork`.
LAYOUTS: Dict[str, Dict[str, Any]] = {
    'residual_attention56': {
        'stem': ((7, 2), (3, 2, 1)),
        'channels': (64, 256, 512, 1024, 2048),
        'strides': (1, 2, 2, 2),
        'levels': (3, 2, 1),
        'modules': (1, 1, 1),
    },
    'residual_attention92': {
        'stem': ((7, 2), (3, 2, 1)),
        'channels': (64, 256, 512, 1024, 2048),
        'strides': (1, 2, 2, 2),
        'levels': (3, 2, 1),
        'modules': (1, 2, 3),
    },
    # The same behind another stage, for images of twice the size.
    'residual_attention92_448': {
        'stem': ((7, 2), (3, 2, 1)),
        'channels': (64, 128, 256, 512, 1024, 2048),
        'strides': (1, 2, 2, 2, 2),
        'levels': (4, 3, 2, 1),
        'modules': (1, 1, 2, 3),
    },
    # GluonCV's, not among the originals'.
    'cifar_residual_attention56': {
        'stem': ((3, 1), None),
        'channels': (32, 128, 256, 512, 1024),
        'strides': (1, 2, 2, 1),
        'levels': (2, 1, 0),
        'modules': (1, 1, 1),
    },
    'cifar_residual_attention92': {
        'stem': ((3, 1), None),
        'channels': (32, 128, 256, 512, 1024),
        'strides': (1, 2, 2, 1),
        'levels': (2, 1, 0),
        'modules': (1, 2, 3),
    },
    'cifar_residual_attention92_pooled': {
        'stem': ((5, 1), (2, 2, 0)),
        'channels': (32, 128, 256, 512, 1024),
        'strides': (1, 2, 2, 1),
        'levels': (2, 1, 0),
        'modules': (1, 2, 3),
    },
}


def _conv(channels: int, in_channels: int, kernel: int = 1, stride: int = 1) -> nn.Conv2D:
    return nn.Conv2D(
        channels,
        kernel,
        stride,
        kernel // 2,
        use_bias=False,
        in_channels=in_channels,
        weight_initializer=FanInUniform(),
    )


def _pool() -> nn.MaxPool2D:
    return nn.MaxPool2D(3, 2, 1)


class ResidualBlock(gluon.HybridBlock):
    """A pre-activation bottleneck, ``(N, C_in, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))``.

    ``x + conv3(A3(bn3(conv2(A2(bn2(conv1(a)))))))`` with ``a = A1(bn1(x))``, C / 4 channels inside and the stride in
    the 3x3 convolution ``conv2``. Where width or size changes, the shortcut is ``conv4``, a 1x1 convolution of ``a``.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        inner = channels // 4
        self.bn1, self.relu1 = norm(in_channels), activation(in_channels)
        self.conv1 = _conv(inner, in_channels)
        self.bn2, self.relu2 = norm(inner), activation(inner)
        self.conv2 = _conv(inner, inner, 3, stride)
        self.bn3, self.relu3 = norm(inner), activation(inner)
        self.conv3 = _conv(channels, inner)
        changed = channels != in_channels or stride != 1
        self.conv4 = _conv(channels, in_channels, stride=stride) if changed else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        activated = self.relu1(self.bn1(x))
        out = self.conv1(activated)
        out = self.conv2(self.relu2(self.bn2(out)))
        out = self.conv3(self.relu3(self.bn3(out)))
        return F.elemwise_add(out, x if self.conv4 is None else self.conv4(activated))


class Mask(gluon.HybridBlock):
    """The mask branch of a module: ``(features, trunk) -> mask``, all ``(N, C, H, W)``, the mask in (0, 1).

    It goes ``levels`` max pools down and comes up again (section 3.1 of the paper); R is a residual block::

        down    d_k = R(pool(d_(k-1)))  from  d_0 = features;  at the lowest level two R in a row
        up      u_k = R(resize(u_(k+1)) + S_k(d_k)),  S_k = R another one
        head    sigmoid(conv(relu(bn(conv(relu(bn(resize(u_1))))))))

    Resizing is bilinear with aligned corners, to the size of the level above. With ``additions`` it is followed by
    ``+ d_k`` and, before the head, by ``+ trunk``. Without levels there is nothing to resize and to add: the head sees
    ``R(R(features))``.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        additions: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._levels, self._additions = levels, additions

        def blocks(count: int) -> nn.HybridSequential:
            row = nn.HybridSequential()
            for _ in range(count):
                row.add(ResidualBlock(channels, channels, activation, norm))
            return row

        between = max(0, levels - 1)  # levels that have one above and one below
        self.pool = _pool()
        self.down = blocks(between)
        self.bottom = blocks(2)
        self.skip = blocks(between)
        self.up = blocks(between)
        self.head = nn.HybridSequential()
        for _ in range(2):
            self.head.add(norm(channels), nn.Activation('relu'), _conv(channels, channels))

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
        return F.Activation(self.head(out), act_type='sigmoid')  # on CPUs much faster than the plain operator


class AttentionModule(gluon.HybridBlock):
    """``last((1 + mask) * trunk)`` of ``first(x)``, equation 3 of the paper: ``(N, C, H, W) -> (N, C, H, W)``.

    ``levels`` is the number of max pools in the mask branch; the paper takes as many as lead to a map of 7x7.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        mask_additions: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.levels = levels
        self.first = ResidualBlock(channels, channels, activation, norm)
        self.trunk = nn.HybridSequential()
        for _ in range(TRUNK):
            self.trunk.add(ResidualBlock(channels, channels, activation, norm))
        self.mask = Mask(channels, levels, activation, norm, mask_additions)
        self.last = ResidualBlock(channels, channels, activation, norm)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.first(x)
        trunk = self.trunk(x)
        return self.last(F.elemwise_mul(1 + self.mask(x, trunk), trunk))


class ResidualAttentionNetwork(Classifier):
    """``(N, 3, H, W) -> (N, classes)`` for any H, W: maps round up to one pixel at least, and the last pool is a mean.

    Parameters
    ----------
    channels : width of the stem, of the stages with modules, and of the last stage, which is three blocks
    levels : of the modules of each stage with modules, see :class:`AttentionModule`
    modules : how many there are in each of these stages
    strides : of the first block of every stage, the last stage included
    stem : ``(kernel, stride)`` of the first convolution, ``(kernel, stride, padding)`` of the pool behind it or None
    activation, default_activation : factories for the places in residual blocks that take the unit and for the
        others; stem, the heads of masks and the last norm keep ReLU
    act_layers, act_order : which stages take ``activation``, see :func:`model.layers.factories.stages_with`; None: all
    mask_additions : True adds, after each resizing in the mask branch, the feature map that it takes the size from, and
        the trunk after the last. So does the port (and GluonCV), whose CIFAR accuracies were trained that way; in the
        authors' network that map only gives the size. Parameters are the same either way.
    final_drop : dropout rate before the classifier
    """

    def __init__(
        self,
        channels: Sequence[int],
        levels: Sequence[int],
        modules: Sequence[int],
        strides: Sequence[int],
        stem: Sequence[Optional[Sequence[int]]],
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        norm: NormFactory = batch_norm,
        classes: int = 1000,
        act_layers: Optional[int] = None,
        act_order: str = 'bac',
        mask_additions: bool = False,
        final_drop: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        count = len(modules) + 1
        places = stages_with(count if act_layers is None else act_layers, act_order, count)
        width, *widths = channels
        convolution, pool = stem
        self.stem = nn.HybridSequential()
        self.stem.add(_conv(width, 3, *convolution), norm(width), nn.Activation('relu'))
        if pool:
            self.stem.add(nn.MaxPool2D(*pool))
        # Only a pool without padding rounds down, so that one pixel would leave none.
        self._smallest = pool[0] if pool and not pool[2] else 1
        self.stages = nn.HybridSequential()
        info, total = [], convolution[1] * (pool[1] if pool else 1)
        for index, (out_width, stride) in enumerate(zip(widths, strides)):
            plugged = activation if index in places else default_activation
            stage = nn.HybridSequential()
            stage.add(ResidualBlock(out_width, width, plugged, norm, stride))
            if index < len(modules):
                for _ in range(modules[index]):
                    stage.add(AttentionModule(out_width, levels[index], plugged, norm, mask_additions))
            else:
                for _ in range(2):
                    stage.add(ResidualBlock(out_width, out_width, plugged, norm))
            self.stages.add(stage)
            width = out_width
            total *= stride
            info.append(FeatureInfo(f'stages.{index}', width, total))
        self.feature_info = tuple(info)
        self.bn = norm(width)
        self.relu = nn.Activation('relu')
        self.avgpool = GlobalAvgPool()
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(final_drop) if final_drop else None
        init = FanInUniform(width)
        self.fc = nn.Dense(classes, in_units=width, weight_initializer=init, bias_initializer=init)

    def forward(self, x: Any, *args: Any) -> Any:
        # A symbol has no size to look at; its graph is checked when it gets one.
        height, width = getattr(x, 'shape', (0, 0, self._smallest, self._smallest))[2:]
        if min(height, width) < self._smallest:
            raise ValueError(
                f'an image of {height}x{width} pixels leaves nothing behind the first pool of this network; '
                f'give at least {self._smallest}x{self._smallest}'
            )
        return super().forward(x, *args)

    def before_stages(self, F: Any, x: Any) -> Any:
        return self.stem(x)

    def after_stages(self, F: Any, x: Any) -> Any:
        x = self.flat(self.avgpool(self.relu(self.bn(x))))
        return x if self.drop is None else self.drop(x)
