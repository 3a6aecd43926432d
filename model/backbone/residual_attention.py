"""The Residual Attention Network: residual units, and between them modules that mask their own features.

Wang et al., "Residual Attention Network for Image Classification", CVPR 2017, arXiv 1704.06904; layers and widths of
the authors' Caffe files (fwang91/residual-attention-network) and, for CIFAR, of the PyTorch port
tengshaofeng/ResidualAttentionNetwork-pytorch or, where a name ends in ``_paper``, of the paper. What differs from the
port:

- It adds the feature map that upsampling only takes the size of: see ``mask_additions``.
- It fixes the size of every map; here maps are resized to the map that they meet, so that any input size works.
- It declares a projection for every unit, whether used or not; here only the used ones exist.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

from mxnet.gluon import nn

from model.backbone.attention_module import PLAIN, AttentionModule, ModuleForm
from model.backbone.classifier import Classifier, FeatureInfo
from model.backbone.residual_units import UNITS, conv
from model.layers.factories import ActivationFactory, NormFactory, batch_norm, stages_with
from model.layers.initialization import FanInUniform
from model.layers.pool import GlobalAvgPool

__all__ = ['LAYOUTS', 'ResidualAttentionNetwork', 'cifar_paper_layout', 'imagenet_layout']

#: Networks of one name each, as arguments of :class:`ResidualAttentionNetwork`.
LAYOUTS: Dict[str, Dict[str, Any]] = {
    # Attention-92 behind another stage, for images of twice the size.
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

# The paper's p, t and r of networks which are deeper than their number of modules says.
_FORMS = {452: {'pre': 2, 'trunk': 4, 'mask': 3}}


def modules_of(depth: int, name: str) -> Tuple[int, Dict[str, int]]:
    """Return how many modules a network of this depth has for each of three stages, and their p, t and r.

    Depth counts the layers with weights in the trunk: 3 (2 p + t) of a module, and 20 (section 4.1 of the paper).
    Raises ``ValueError`` with the nearest of the names ``name``.
    """
    form = _FORMS.get(depth, {'pre': 1, 'trunk': 2, 'mask': 1})
    each = 9 * (2 * form['pre'] + form['trunk'])
    modules, rest = divmod(depth - 20, each)
    if rest or modules < 1:
        near = ', '.join(name.format(each * max(1, modules + more) + 20) for more in (0, 1))
        raise ValueError(f'{name.format(depth)} has no whole number of modules: the depth is 36n + 20, such as {near}')
    return modules, form


def imagenet_layout(depth: int, name: str = 'residual_attention{}') -> Dict[str, Any]:
    """Return the layout of a network for ImageNet, published of 56 and 92 layers.

    The modules are shared out to the stages as 1 to 2 to 3, as Attention-92's are; Attention-56 has one in each.
    """
    count, form = modules_of(depth, name)
    middle = count
    first = count // 2 if count > 1 else 1
    return {
        'stem': ((7, 2), (3, 2, 1)),
        'channels': (64, 256, 512, 1024, 2048),
        'strides': (1, 2, 2, 2),
        'levels': (3, 2, 1),
        'modules': (first, middle, 3 * count - first - middle),
        'form': form,
    }


def cifar_paper_layout(depth: int) -> Dict[str, Any]:
    """Return the layout of the paper's own networks for CIFAR: three stages, each of as many modules and of two units.

    The paper prints neither widths nor the levels of masks. Those of ResNet-164, and masks that lead to a map of 4x4 as
    those for ImageNet lead to 7x7, give the parameters that it does print: with 100 classes 1.86 M of 92 layers (1.9 M
    printed), 5.11 M of 236 (5.1 M), and 8.77 M of 452 (8.6 M).
    """
    count, form = modules_of(depth, 'cifar_residual_attention{}_paper')
    return {
        'stem': ((3, 1), None),
        'channels': (16, 64, 128, 256),
        'strides': (1, 2, 2),
        'levels': (3, 2, 1),
        'modules': (count, count, count),
        'closing': 1,
        'form': form,
    }


class ResidualAttentionNetwork(Classifier):
    """``(N, 3, H, W) -> (N, classes)`` for any H and W: maps have at least one pixel, and the last pool is a mean.

    Args:
        channels: widths of the stem, of the stages with modules, and of a last stage of three units, if there is one.
        levels: levels of the modules in each stage with modules, see :class:`AttentionModule`.
        modules: number of modules in each of these stages.
        strides: stride of the first block of every stage, including the last one.
        stem: ``(kernel, stride)`` of the first convolution, and ``(kernel, stride, padding)`` of the pool after it, or
            None.
        activation, default_activation: factories for the places in residual blocks that take the unit, and for the
            others; the stem, the heads of masks and the last norm keep ReLU.
        norm: factory of the norms.
        classes: number of outputs.
        act_layers, act_order: which stages take ``activation``, see :func:`model.layers.factories.stages_with`; None
            means all.
        closing: number of units after the modules of each of these stages.
        form: the form of the modules, and of the units everywhere, see :class:`ModuleForm`. ``form.additions`` adds,
            after each resizing in the mask branch, the feature map from which it takes the size, and the trunk after
            the last one. So does the port (and GluonCV), whose CIFAR accuracies were trained that way; in the authors'
            network that map only gives the size. Parameters are the same either way.
        final_drop: dropout rate before the classifier.
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
        closing: int = 0,
        form: ModuleForm = PLAIN,
        final_drop: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        count = len(channels) - 1
        places = stages_with(count if act_layers is None else act_layers, act_order, count)
        width, *widths = channels
        self.form, self.closing = form, closing
        convolution, pool = stem
        unit = UNITS[form.unit]
        self.stem = nn.HybridSequential()
        self.stem.add(conv(width, 3, *convolution), norm(width), nn.Activation('relu'))
        if pool:
            self.stem.add(nn.MaxPool2D(*pool))
        # Only a pool without padding rounds down, so that one pixel would leave none.
        self._smallest = pool[0] if pool and not pool[2] else 1
        self.stages = nn.HybridSequential()
        info, total = [], convolution[1] * (pool[1] if pool else 1)
        for index, (out_width, stride) in enumerate(zip(widths, strides)):
            plugged = activation if index in places else default_activation
            stage = nn.HybridSequential()
            stage.add(unit(out_width, width, plugged, norm, stride))
            if index < len(modules):
                for _ in range(modules[index]):
                    stage.add(AttentionModule(out_width, levels[index], plugged, norm, form))
            for _ in range(closing if index < len(modules) else 2):
                stage.add(unit(out_width, out_width, plugged, norm))
            self.stages.add(stage)
            width = out_width
            total *= stride
            info.append(FeatureInfo(f'stages.{index}', width, total))
        self.feature_info = tuple(info)
        # The pre-activated kinds leave the last sum as it is.
        self.bn, self.relu = (None, None) if form.unit == 'resnext' else (norm(width), nn.Activation('relu'))
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
                f'an image of {height}x{width} pixels is too small for the first pool of this network; '
                f'give at least {self._smallest}x{self._smallest}'
            )
        return super().forward(x, *args)

    def before_stages(self, F: Any, x: Any) -> Any:
        return self.stem(x)

    def after_stages(self, F: Any, x: Any) -> Any:
        x = self.flat(self.avgpool(x if self.bn is None else self.relu(self.bn(x))))
        return x if self.drop is None else self.drop(x)
