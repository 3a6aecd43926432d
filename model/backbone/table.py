"""Every backbone by name: the table that the grammar of names reads."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from mxnet import gluon

from model.backbone.cifar_resnet_v2 import CifarResNetV2
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


def _cifar_resnet_v2(numbers: Tuple[int, ...], **options: Any) -> gluon.HybridBlock:
    (depth,) = numbers
    if depth < 8 or depth % 6 != 2:
        near = [6 * max(1, n) + 2 for n in (depth // 6 - 1, depth // 6, depth // 6 + 1)]
        names = ', '.join(f'resnet{d}_v2' for d in sorted(set(near)))
        raise ValueError(f'resnet{depth}_v2 has no whole number of blocks: the depth is 6n + 2, such as {names}')
    return CifarResNetV2([(depth - 2) // 6] * 3, **options)


_ACT_PLACES = ('act_layers', 'act_order', 'final_drop')

BACKBONES: Dict[str, Backbone] = {
    'resnet_v1b': Backbone(
        pattern='resnet(18|34|50|101|152)_v1b',
        cifar=False,
        build=_resnet_v1b,
        options=(*_ACT_PLACES, 'deep_stem', 'stem_width', 'avg_down', 'dilated', 'last_gamma'),
        defaults={'classes': 1000, 'act_layers': 2},
        listed=tuple(f'resnet{depth}_v1b' for depth in V1B_LAYERS),
        size=224,
        places=('branch', 'convolution'),
    ),
    'cifar_resnet_v2': Backbone(
        pattern=r'resnet(\d+)_v2',
        cifar=True,
        build=_cifar_resnet_v2,
        options=(*_ACT_PLACES, 'channels', 'update_input_norm'),
        defaults={'classes': 10, 'act_layers': 4},
        listed=tuple(f'resnet{6 * n + 2}_v2' for n in range(1, 6)),
        size=32,
    ),
}
