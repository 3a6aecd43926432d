"""Every backbone by name: the table that the grammar of names reads."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from mxnet import gluon

from model.backbone.cifar_preresnet import CifarPreResNet, CifarWideResNet
from model.backbone.cifar_resnet_v1 import CifarResNetV1, CifarResNeXt
from model.backbone.cifar_resnet_v2 import CifarResNetV2
from model.backbone.mnasnet import ALPHAS, MnasNet
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.residual_attention import LAYOUTS, ResidualAttentionNetwork
from model.backbone.resnet_v1b import BasicBlock, Bottleneck, ResNetV1b

__all__ = ['BACKBONES', 'Backbone']


class Backbone(NamedTuple):
    """A row of the table of backbones."""

    pattern: str  # of the name's last part, a regular expression whose groups are numbers
    cifar: bool  # whether it follows ``cifar_``
    build: Callable[..., gluon.HybridBlock]  # (numbers, activation=, replaced=, attention=, norm=, **options)
    options: Tuple[str, ...]  # what of the keyword arguments it reads, besides those of the plug points
    defaults: Dict[str, Any]
    listed: Tuple[str, ...]  # the members that list_models() shows
    size: int  # pixels of its usual input
    act_type: str = 'relu'  # what its names without an activation unit have in the plugged places
    places: Tuple[str, ...] = ('branch',)  # of the attention units that it takes, see plugs.AttentionFactory
    attention: Mapping[str, Mapping[str, Any]] = {}  # published options of the attention units where they differ here


V1B_LAYERS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def _resnet_v1b(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    (depth,) = numbers
    block, layers = V1B_LAYERS[depth]
    return ResNetV1b(block, layers, **options)


def _resnet_v1b_row(depths: str, places: Tuple[str, ...]) -> Backbone:
    return Backbone(
        pattern=f'resnet({depths})_v1b',
        cifar=False,
        build=_resnet_v1b,
        options=(*_ACT_PLACES, 'deep_stem', 'stem_width', 'avg_down', 'dilated', 'last_gamma', 'initialization'),
        defaults={'classes': 1000, 'act_layers': 2},
        listed=tuple(f'resnet{depth}_v1b' for depth in depths.split('|')),
        size=224,
        places=places,
        attention={'dia': {'reduction': 20}},
    )


def _whole_blocks(depth: int, each: int, others: int, name: str) -> int:
    """Return n where ``depth`` is ``each`` n + ``others``; ``ValueError`` with the nearest of the names ``name``."""
    blocks, rest = divmod(depth - others, each)
    if blocks >= 1 and rest == 0:
        return blocks
    near = sorted({each * max(1, n) + others for n in (blocks, blocks + 1)})
    names = ', '.join(name.format(d) for d in near)
    raise ValueError(
        f'{name.format(depth)} has no whole number of blocks: the depth is {each}n + {others}, such as {names}'
    )


def _cifar_resnet_v2(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    return CifarResNetV2([_whole_blocks(*numbers, 6, 2, 'cifar_resnet{}_v2')] * 3, **options)


def _cifar_resnet_v1(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    return CifarResNetV1(_whole_blocks(*numbers, 9, 2, 'cifar_resnet{}_v1'), **options)


def _cifar_preresnet(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    return CifarPreResNet(_whole_blocks(*numbers, 9, 2, 'cifar_preresnet{}'), **options)


def _cifar_wrn(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    depth, widen = numbers
    if widen < 1:
        raise ValueError(f'wrn{depth}_{widen} has no channels: the second number is 1 or more, such as wrn{depth}_4')
    return CifarWideResNet(_whole_blocks(depth, 6, 4, f'cifar_wrn{{}}_{widen}'), widen, **options)


def _cifar_resnext(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    depth, cardinality, width = numbers
    if cardinality < 1 or width < 1:
        raise ValueError(
            f'resnext{depth}_{cardinality}x{width}d has no channels in its blocks: cardinality and width are 1 or '
            f'more, such as resnext{depth}_8x32d'
        )
    blocks = _whole_blocks(depth, 9, 2, f'cifar_resnext{{}}_{cardinality}x{width}d')
    return CifarResNeXt(blocks, cardinality, width, **options)


def _mobilenet_v2(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    return MobileNetV2(**options)


def _mnasnet(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    whole, decimals = numbers
    alpha = float(f'{whole}.{decimals}')
    if alpha not in ALPHAS:
        raise ValueError(f'mnasnet{whole}_{decimals} is none of the published widths: {", ".join(_MNASNETS)}')
    return MnasNet(alpha, **options)


_MNASNETS = tuple('mnasnet' + str(alpha).replace('.', '_') for alpha in ALPHAS)


def _residual_attention(name: str, size: int) -> Backbone:
    cifar = name.startswith('cifar_')
    member = name[len('cifar_') :] if cifar else name

    def build(numbers: Tuple[int, ...], attention: None = None, **options: Any) -> gluon.HybridBlock:
        if attention is not None:
            raise ValueError(f'{name} takes no attention units: its own modules are the attention')
        return ResidualAttentionNetwork(**LAYOUTS[name], **options)

    return Backbone(
        pattern=member,
        cifar=cifar,
        build=build,
        options=(*_ACT_PLACES, 'mask_additions'),
        defaults={'classes': 10 if cifar else 1000},
        listed=(member,),
        size=size,
        places=(),  # its modules are the attention
    )


_ACT_PLACES = ('act_layers', 'act_order', 'final_drop')

BACKBONES: Dict[str, Backbone] = {
    'basic_resnet_v1b': _resnet_v1b_row('18|34', ('branch',)),
    'resnet_v1b': _resnet_v1b_row('50|101|152', ('branch', 'convolution')),
    'cifar_resnet_v2': Backbone(
        pattern=r'resnet(\d+)_v2',
        cifar=True,
        build=_cifar_resnet_v2,
        options=(*_ACT_PLACES, 'channels', 'update_input_norm'),
        defaults={'classes': 10, 'act_layers': 4},
        listed=tuple(f'resnet{6 * n + 2}_v2' for n in range(1, 6)),
        size=32,
    ),
    'cifar_resnet_v1': Backbone(
        pattern=r'resnet(\d+)_v1',
        cifar=True,
        build=_cifar_resnet_v1,
        options=(*_ACT_PLACES, 'channels'),
        defaults={'classes': 10, 'act_layers': 3},
        listed=('resnet29_v1', 'resnet164_v1'),
        size=32,
        places=('branch', 'convolution'),
    ),
    'cifar_preresnet': Backbone(
        pattern=r'preresnet(\d+)',
        cifar=True,
        build=_cifar_preresnet,
        options=(*_ACT_PLACES, 'channels', 'branch_norm'),
        defaults={'classes': 10, 'act_layers': 3},
        listed=('preresnet29', 'preresnet164'),
        size=32,
        places=('branch', 'convolution'),
    ),
    'cifar_wrn': Backbone(
        pattern=r'wrn(\d+)_(\d+)',
        cifar=True,
        build=_cifar_wrn,
        options=(*_ACT_PLACES, 'branch_norm', 'block_drop'),
        defaults={'classes': 10, 'act_layers': 3},
        listed=('wrn16_2', 'wrn52_4'),
        size=32,
        attention={'dia': {'zero_bias': True}},
    ),
    'cifar_resnext': Backbone(
        pattern=r'resnext(\d+)_(\d+)x(\d+)d',
        cifar=True,
        build=_cifar_resnext,
        options=(*_ACT_PLACES, 'channels'),
        defaults={'classes': 10, 'act_layers': 3},
        listed=('resnext29_8x32d', 'resnext101_8x32d'),
        size=32,
        places=('branch', 'convolution'),
        attention={'dia': {'zero_bias': True}},
    ),
    'mobilenet_v2': Backbone(
        pattern='mobilenet_v2',
        cifar=False,
        build=_mobilenet_v2,
        options=_ACT_PLACES,
        defaults={'classes': 1000, 'act_layers': 7},
        listed=('mobilenet_v2',),
        size=224,
        act_type='relu6',
        places=('branch', 'convolution'),
        attention={
            'se': {'reduction': 8},
            'dca_se': {'merge_bias': False},
            'cbam': {'reduction': 8},
            'dca_cbam': {'adapter_bias': False},
            'sk': {'reduction': 8},
            'dca_sk': {'adapter': 'bottleneck', 'hand_on': 'weights'},
        },
    ),
    'mnasnet': Backbone(
        pattern=r'mnasnet([01])_(0|[1-9]\d*)',
        cifar=False,
        build=_mnasnet,
        options=(*_ACT_PLACES, 'original_init'),
        defaults={'classes': 1000, 'act_layers': 6},
        listed=_MNASNETS,
        size=224,
        places=('branch', 'convolution'),
        attention={
            'dca_se': {'reduction': (8, 16), 'adapter': 'bottleneck'},
            'cbam': {'norm_momentum': 0.9997},
            'dca_cbam': {'reduction': 8, 'adapter_bias': False, 'norm_momentum': 0.99},
        },
    ),
    **{
        name: _residual_attention(name, 32 if name.startswith('cifar_') else 448 if name.endswith('_448') else 224)
        for name in LAYOUTS
    },
}
