"""Every backbone by name: the table that the grammar of names reads."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from mxnet import gluon

from model.backbone.attention_module import ModuleForm
from model.backbone.cifar_preresnet import CifarPreResNet, CifarWideResNet
from model.backbone.cifar_resnet_v1 import CifarBasicResNet, CifarResNetV1, CifarResNeXt
from model.backbone.cifar_resnet_v2 import CifarResNetV2
from model.backbone.mnasnet import ALPHAS, MnasNet
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.residual_attention import (
    LAYOUTS,
    ResidualAttentionNetwork,
    cifar_paper_layout,
    imagenet_layout,
)
from model.backbone.resnet_v1b import BasicBlock, Bottleneck, Layout, ResNetV1b
from model.layers.factories import PLACES
from model.registry import BACKBONES, Backbone, register_backbone

__all__ = ['BACKBONES', 'Backbone']


# Published options of attention units on ImageNet: SimAM's lambda; the reduction of AFF and iAFF, and where they begin.
_SIMAM = {'e_lambda': 0.1}
_AFF = {unit: {'reduction': 16, 'first_stage': 3} for unit in ('aff', 'iaff')}

V1B_LAYERS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    26: (Bottleneck, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def _resnet_v1b(
    depth: int,
    groups: int = 1,
    base_width: int = 64,
    stride_first: bool = False,
    conv_bias: bool = False,
    shortcuts: bool = True,
    **options: Any,
) -> gluon.HybridBlock:
    block, layers = V1B_LAYERS[depth]
    if groups < 1 or base_width < 1:
        raise ValueError(
            f'resnext{depth}_{groups}x{base_width}d has no channels in its blocks: cardinality and width are 1 or '
            f'more, such as resnext{depth}_32x4d'
        )
    layout = Layout(groups, base_width, stride_first, conv_bias, shortcuts)
    return ResNetV1b(block, layers, layout=layout, **options)


def _resnet_v1(depth: int, **options: Any) -> gluon.HybridBlock:
    return _resnet_v1b(depth, stride_first=True, **options)


def _wide_resnet(depth: int, widen: int, **options: Any) -> gluon.HybridBlock:
    if widen < 1:
        raise ValueError(f'wide_resnet{depth}_{widen} has no channels in its blocks: take wide_resnet{depth}_2')
    return _resnet_v1b(depth, 1, 64 * widen, **options)


def _register_resnet(
    name: str,
    pattern: str,
    listed: Sequence[str],
    build: Callable[..., gluon.HybridBlock] = _resnet_v1b,
    options: Tuple[str, ...] = (),
) -> None:
    register_backbone(
        name,
        build,
        pattern=pattern,
        options=(*_ACT_PLACES, *_V1B_OPTIONS, *options),
        defaults={'act_layers': 2},
        listed=listed,
        places=PLACES,
        attention={'dia': {'reduction': 20}, 'simam': {**_SIMAM, 'inside': True}, **_AFF},
    )


def _whole_blocks(depth: int, each: int, others: int, name: str) -> int:
    """Return n where ``depth`` is ``each`` n + ``others``.

    Raises ``ValueError`` with the nearest of the names ``name``.
    """
    blocks, rest = divmod(depth - others, each)
    if blocks >= 1 and rest == 0:
        return blocks
    near = sorted({each * max(1, n) + others for n in (blocks, blocks + 1)})
    names = ', '.join(name.format(d) for d in near)
    raise ValueError(
        f'{name.format(depth)} has no whole number of blocks: the depth is {each}n + {others}, such as {names}'
    )


def _cifar_resnet_v2(depth: int, **options: Any) -> gluon.HybridBlock:
    return CifarResNetV2([_whole_blocks(depth, 6, 2, 'cifar_resnet{}_v2')] * 3, **options)


def _cifar_resnet_v1(depth: int, **options: Any) -> gluon.HybridBlock:
    return CifarBasicResNet(_whole_blocks(depth, 6, 2, 'cifar_resnet{}_v1'), **options)


def _cifar_resnet_bn_v1(depth: int, **options: Any) -> gluon.HybridBlock:
    return CifarResNetV1(_whole_blocks(depth, 9, 2, 'cifar_resnet{}bn_v1'), **options)


def _cifar_preresnet(depth: int, **options: Any) -> gluon.HybridBlock:
    return CifarPreResNet(_whole_blocks(depth, 9, 2, 'cifar_preresnet{}'), **options)


def _cifar_wrn(depth: int, widen: int, **options: Any) -> gluon.HybridBlock:
    if widen < 1:
        raise ValueError(f'wrn{depth}_{widen} has no channels: the second number is 1 or more, such as wrn{depth}_4')
    return CifarWideResNet(_whole_blocks(depth, 6, 4, f'cifar_wrn{{}}_{widen}'), widen, **options)


def _cifar_resnext(depth: int, cardinality: int, width: int, **options: Any) -> gluon.HybridBlock:
    if cardinality < 1 or width < 1:
        raise ValueError(
            f'resnext{depth}_{cardinality}x{width}d has no channels in its blocks: cardinality and width are 1 or '
            f'more, such as resnext{depth}_8x32d'
        )
    blocks = _whole_blocks(depth, 9, 2, f'cifar_resnext{{}}_{cardinality}x{width}d')
    return CifarResNeXt(blocks, cardinality, width, **options)


def _alpha(name: str, whole: int, decimals: int) -> float:
    alpha = float(f'{whole}.{decimals}')
    if alpha not in ALPHAS:
        raise ValueError(f'{name}{whole}_{decimals} is not one of the published widths: {", ".join(_of_widths(name))}')
    return alpha


def _of_widths(name: str) -> List[str]:
    return [name + str(alpha).replace('.', '_') for alpha in ALPHAS]


def _mnasnet(whole: int, decimals: int, **options: Any) -> gluon.HybridBlock:
    return MnasNet(_alpha('mnasnet', whole, decimals), **options)


def _semnasnet(whole: int, decimals: int, attention: None = None, **options: Any) -> gluon.HybridBlock:
    return MnasNet(_alpha('semnasnet', whole, decimals), mixed=True, scaled_stem=True, **options)


_MODULES = ('mask_additions', 'mask_type', 'mask_structure', 'attention_learning', 'residual_unit', 'module_units')


def _residual_attention(
    layout: Mapping[str, Any],
    name: str,
    attention: None = None,
    mask_additions: bool = False,
    mask_type: str = 'mixed',
    mask_structure: str = 'encoder_decoder',
    attention_learning: str = 'residual',
    residual_unit: str = 'preactivation',
    module_units: Optional[Sequence[int]] = None,
    **options: Any,
) -> gluon.HybridBlock:
    if attention is not None:
        raise ValueError(f'{name} does not take attention units: its own modules are the attention')
    own = dict(layout)
    counts = own.pop('form', {})
    if module_units is not None:
        counts = dict(zip(('pre', 'trunk', 'mask'), module_units))
    form = ModuleForm(
        unit=residual_unit,
        structure=mask_structure,
        type=mask_type,
        learning=attention_learning,
        additions=mask_additions,
        **counts,
    )
    return ResidualAttentionNetwork(**own, form=form, **options)


def _register_residual_attention(
    name: str,
    build: Callable[..., gluon.HybridBlock],
    pattern: str,
    listed: Sequence[str],
    size: int,
    defaults: Optional[Mapping[str, Any]] = None,
) -> None:
    register_backbone(
        name,
        build,
        pattern=pattern,
        listed=listed,
        cifar=size == 32,
        size=size,
        options=(*_ACT_PLACES, *_MODULES),
        defaults=defaults,
        places=(),  # its modules are the attention
    )


def _attention_imagenet(depth: int, **options: Any) -> gluon.HybridBlock:
    return _residual_attention(imagenet_layout(depth), f'residual_attention{depth}', **options)


def _attention_next(depth: int, **options: Any) -> gluon.HybridBlock:
    return _residual_attention(imagenet_layout(depth, 'attentionnext{}'), f'attentionnext{depth}', **options)


def _attention_inception(depth: int, **options: Any) -> gluon.HybridBlock:
    return _residual_attention(imagenet_layout(depth, 'attentioninception{}'), f'attentioninception{depth}', **options)


def _attention_paper(depth: int, **options: Any) -> gluon.HybridBlock:
    return _residual_attention(cifar_paper_layout(depth), f'cifar_residual_attention{depth}_paper', **options)


_ACT_PLACES = ('act_layers', 'act_order', 'final_drop')

_V1B_OPTIONS = (
    'deep_stem',
    'stem_width',
    'tiered_stem',
    'stem_pool',
    'avg_down',
    'dilated',
    'last_gamma',
    'initialization',
    'shortcuts',
)
_register_resnet(
    'resnet_v1b', r'resnet(18|26|34|50|101|152)_v1b', [f'resnet{depth}_v1b' for depth in (18, 34, 50, 101, 152)]
)
# With basic blocks, which have no 1x1 convolution, v1 is v1b, except for GluonCV's names of its parameters.
_register_resnet('basic_resnet_v1', r'resnet(18|34)_v1', ('resnet18_v1', 'resnet34_v1'), _resnet_v1)
_register_resnet(
    'resnet_v1',
    r'resnet(26|50|101|152)_v1',
    ('resnet50_v1', 'resnet101_v1', 'resnet152_v1'),
    _resnet_v1,
    ('conv_bias',),
)
_register_resnet('resnext', r'resnext(26|50|101|152)_(\d+)x(\d+)d', ('resnext50_32x4d', 'resnext101_32x8d'))
_register_resnet('wide_resnet', r'wide_resnet(50|101)_(\d+)', ('wide_resnet50_2', 'wide_resnet101_2'), _wide_resnet)
register_backbone(
    'cifar_resnet_v2',
    _cifar_resnet_v2,
    pattern=r'resnet(\d+)_v2',
    cifar=True,
    options=(
        *_ACT_PLACES,
        'channels',
        'input_norm',
        'activated_shortcut',
        'outer_norm',
        'update_input_norm',
        'shortcuts',
    ),
    defaults={'act_layers': 4},
    listed=[f'resnet{6 * n + 2}_v2' for n in range(1, 6)],
    places=('branch', 'sum'),
)
register_backbone(
    'cifar_resnet_v1',
    _cifar_resnet_v1,
    pattern=r'resnet(\d+)_v1',
    cifar=True,
    options=(*_ACT_PLACES, 'channels', 'stem_relu', 'shortcuts'),
    defaults={'act_layers': 3},
    listed=('resnet20_v1', 'resnet56_v1', 'resnet110_v1'),
    places=PLACES,
)
# With bottlenecks, as pytorchcv's names say.
register_backbone(
    'cifar_resnet_bn_v1',
    _cifar_resnet_bn_v1,
    pattern=r'resnet(\d+)bn_v1',
    cifar=True,
    options=(*_ACT_PLACES, 'channels', 'shortcuts'),
    defaults={'act_layers': 3},
    listed=('resnet29bn_v1', 'resnet164bn_v1'),
    places=PLACES,
)
register_backbone(
    'cifar_preresnet',
    _cifar_preresnet,
    pattern=r'preresnet(\d+)',
    cifar=True,
    options=(*_ACT_PLACES, 'channels', 'branch_norm', 'activated_shortcut', 'outer_norm', 'shortcuts'),
    defaults={'act_layers': 3},
    listed=('preresnet29', 'preresnet164'),
    places=('branch', 'convolution', 'inside', 'sum'),
)
register_backbone(
    'cifar_wrn',
    _cifar_wrn,
    pattern=r'wrn(\d+)_(\d+)',
    cifar=True,
    options=(*_ACT_PLACES, 'branch_norm', 'block_drop', 'input_norm', 'stem_norm', 'shortcuts'),
    defaults={'act_layers': 3},
    listed=('wrn16_2', 'wrn52_4'),
    places=('branch', 'sum'),
    attention={'dia': {'zero_bias': True}},
)
register_backbone(
    'cifar_resnext',
    _cifar_resnext,
    pattern=r'resnext(\d+)_(\d+)x(\d+)d',
    cifar=True,
    options=(*_ACT_PLACES, 'channels', 'shortcuts'),
    defaults={'act_layers': 3},
    listed=('resnext29_8x32d', 'resnext101_8x32d'),
    places=('branch', 'convolution', 'inside', 'sum'),
    attention={'dia': {'zero_bias': True}},
)
register_backbone(
    'mobilenet_v2',
    MobileNetV2,
    widens=True,
    options=(*_ACT_PLACES, 'width', 'width_divisor', 'expand_first', 'classifier_bias'),
    defaults={'act_layers': 7},
    act_type='relu6',
    places=('branch', 'convolution', 'inside', 'sum'),
    attention={
        'se': {'reduction': 8},
        'dca_se': {'merge_bias': False},
        'cbam': {'reduction': 8},
        'dca_cbam': {'adapter_bias': False},
        'sk': {'reduction': 8},
        'dca_sk': {'adapter': 'bottleneck', 'hand_on': 'weights'},
        'simam': {**_SIMAM, 'inside': True},
        'ca': {'inside': True},
    },
)
register_backbone(
    'mnasnet',
    _mnasnet,
    widens=True,
    pattern=r'mnasnet([01])_(0|[1-9]\d*)',
    options=(*_ACT_PLACES, 'original_init', 'scaled_stem'),
    defaults={'act_layers': 6},
    listed=_of_widths('mnasnet')[:4],
    places=('branch', 'convolution', 'inside', 'sum'),
    attention={
        'dca_se': {'reduction': (8, 16), 'adapter': 'bottleneck'},
        'cbam': {'norm_momentum': 0.9997},
        'simam': _SIMAM,
        'dca_cbam': {'reduction': 8, 'adapter_bias': False, 'norm_momentum': 0.99},
    },
)
register_backbone(
    'semnasnet',
    _semnasnet,
    pattern=r'semnasnet([01])_(0|[1-9]\d*)',
    options=(*_ACT_PLACES, 'original_init'),
    defaults={'act_layers': 6},
    listed=('semnasnet0_75', 'semnasnet1_0'),
    places=(),  # it has units of its own
)
for _name, _layout in LAYOUTS.items():
    _member = _name[len('cifar_') :] if _name.startswith('cifar_') else _name
    _size = 32 if _member != _name else 448
    _register_residual_attention(_name, partial(_residual_attention, _layout, _name), _member, [_member], _size)
_register_residual_attention(
    'residual_attention',
    _attention_imagenet,
    r'residual_attention(\d+)',
    ['residual_attention56', 'residual_attention92'],
    224,
)
_register_residual_attention(
    'cifar_residual_attention_paper',
    _attention_paper,
    r'residual_attention(\d+)_paper',
    [f'residual_attention{depth}_paper' for depth in (56, 92, 128, 164, 236, 452)],
    32,
)
_register_residual_attention(
    'attentionnext',
    _attention_next,
    r'attentionnext(\d+)',
    ['attentionnext56', 'attentionnext92'],
    224,
    {'residual_unit': 'resnext'},
)
_register_residual_attention(
    'attentioninception',
    _attention_inception,
    r'attentioninception(\d+)',
    ['attentioninception56'],
    224,
    {'residual_unit': 'inception'},
)
