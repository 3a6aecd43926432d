"""Names of timm's networks (``timm.create_model``): ResNets with their attention units, MobileNetV2 and MnasNets."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from mxnet import gluon

from model.attention.cbam import CBAM
from model.attention.eca import ECA
from model.attention.gc import GC
from model.attention.se import SE
from model.attention.sk import SK
from model.backbone.mnasnet import MnasNet
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.resnet_v1b import ResNetV1b
from model.convert.counterparts import Found, by_rules
from model.convert.naming import Layers, Naming, as_maps, named, of_family

__all__ = ['counterpart', 'flipped', 'names', 'shapes']

SOURCE = 'timm'


def _below(prefix: str, layers: Layers) -> Dict[str, str]:
    return {ours: f'{prefix}.{theirs}' for ours, theirs in layers.items()}


def _pairs(ours: str, conv: str, norm: str) -> Dict[str, str]:
    return {f'{ours}.0': conv, f'{ours}.1': norm}


_GC = {'mask': 'conv_attn', 'reduce': 'mlp_add.fc1', 'norm': 'mlp_add.norm', 'expand': 'mlp_add.fc2'}
_UNITS = {
    SE: {'reduce': 'se.fc1', 'expand': 'se.fc2'},
    ECA: {'conv': 'se.conv'},
    GC: _below('se', _GC),
    CBAM: {
        'channel.reduce': 'se.channel.fc1',
        'channel.expand': 'se.channel.fc2',
        'spatial.conv': 'se.spatial.conv.conv',
        'spatial.norm': 'se.spatial.conv.bn',
    },
}


def _resnet_block(block: gluon.Block) -> Layers:
    selects = isinstance(block.select, SK)
    if not selects:
        return {name: name for name in ('conv1', 'bn1', 'conv2', 'bn2', 'conv3', 'bn3', 'downsample')}
    place = 'conv2' if hasattr(block, 'conv3') else 'conv1'  # which convolution a basic block's stands for
    layers = {f'select.{ours}': f'{place}.attn.{theirs}' for ours, theirs in _SK.items()}
    for index in (1, 2):
        layers.update(
            _pairs(f'select.branch{index}', *(f'{place}.paths.{index - 1}.{part}' for part in ('conv', 'bn')))
        )
    for number in (1, 2, 3):
        layers.update({f'conv{number}': f'conv{number}.conv', f'bn{number}': f'conv{number}.bn'})
    return {**layers, 'downsample': 'downsample'}


_SK = {'reduce': 'fc_reduce', 'norm': 'bn', 'expand': 'fc_select'}


def _byob_block(block: gluon.Block) -> Layers:
    """Return a block of ``byobnet``: each convolution with its norm has a name."""
    layers = {'select.conv': 'conv2_kxk.conv', 'select.norm': 'conv2_kxk.bn'}
    for number, name in enumerate(('conv1_1x1', 'conv2_kxk', 'conv3_1x1'), 1):
        layers.update({f'conv{number}': f'{name}.conv', f'bn{number}': f'{name}.bn'})
    if block.downsample is not None:
        conv = len(block.downsample) - 2  # behind a pool, where there is one
        layers.update({f'downsample.{conv}': 'shortcut.conv', f'downsample.{conv + 1}': 'shortcut.bn'})
    return layers


_RESNET = Naming({name: name for name in ('conv1', 'bn1', 'fc')}, 'layer{s:1}.{b}', _resnet_block, _UNITS)
_LEGACY = Naming(
    {'conv1': 'layer0.conv1', 'bn1': 'layer0.bn1', 'fc': 'last_linear'},
    'layer{s:1}.{b}',
    _resnet_block,
    {SE: {'reduce': 'se_module.fc1', 'expand': 'se_module.fc2'}},
)
_BYOB = Naming(
    {
        **_pairs('conv1', 'stem.conv1.conv', 'stem.conv1.bn'),
        'conv1.3': 'stem.conv2.conv',
        'conv1.4': 'stem.conv2.bn',
        'conv1.6': 'stem.conv3.conv',
        'bn1': 'stem.conv3.bn',
        'fc': 'head.fc',
    },
    'stages.{s}.{b}',
    _byob_block,
    {GC: _below('attn', _GC)},
)


def _inverted(block: gluon.Block) -> Layers:
    parts = ['depthwise', 'project'] if block.expand is None else ['expand', 'depthwise', 'project']
    convs = ['conv_dw', 'conv_pw'] if block.expand is None else ['conv_pw', 'conv_dw', 'conv_pwl']
    layers = {'excite.reduce': 'se.conv_reduce', 'excite.expand': 'se.conv_expand'}
    for number, (part, conv) in enumerate(zip(parts, convs), 1):
        layers.update(_pairs(part, conv, f'bn{number}'))
    return layers


_HEAD = {**_pairs('last', 'conv_head', 'bn2'), 'fc': 'classifier'}
_FAMILIES = {
    MobileNetV2: Naming({**_pairs('stem', 'conv_stem', 'bn1'), **_HEAD}, 'blocks.{s}.{b}', _inverted),
    MnasNet: Naming(
        {
            **_pairs('stem.0', 'conv_stem', 'bn1'),
            **_pairs('stem.1', 'blocks.0.0.conv_dw', 'blocks.0.0.bn1'),
            **_pairs('stem.2', 'blocks.0.0.conv_pw', 'blocks.0.0.bn2'),
            **_HEAD,
        },
        'blocks.{s:1}.{b}',
        _inverted,
    ),
}


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}``. Raises ``ValueError`` if timm has no such network."""
    kinds = {'none': _BYOB, 'ceil': _LEGACY}
    families = {ResNetV1b: kinds.get(getattr(net, 'stem_pool', None), _RESNET), **_FAMILIES}
    return named(net, of_family(net, families, SOURCE), SOURCE)


def shapes(net: gluon.HybridBlock) -> Dict[str, Tuple[int, ...]]:
    """Return ``{original name: shape}`` where that is not ours: of the units' layers."""
    return as_maps(net, names(net), r'.*\.(fc1|fc2|fc_reduce|fc_select|conv_reduce|conv_expand)\.weight')


def flipped(net: gluon.HybridBlock) -> List[str]:
    """Return the names whose arrays have their second axis the other way round: CBAM's mean precedes its maximum."""
    return [name for name in names(net) if name.endswith('se.spatial.conv.conv.weight')]


# The letter at the end of a ResNet's name: its stem and shortcuts.
_LETTERS: Dict[str, Dict[str, Any]] = {
    '': {},
    'c': {'deep_stem': True},
    'd': {'deep_stem': True, 'avg_down': True},
    's': {'deep_stem': True, 'stem_width': 64},
    't': {'tiered_stem': True, 'avg_down': True},
}
_SE = {'reduction_divisor': 8}
_GCA = {'reduction': 8, 'reduction_divisor': 8, 'norm_epsilon': 1e-6}
_OF_UNITS: Dict[str, Dict[str, Any]] = {
    'se': _SE,
    'eca': {},
    'cbam': {'unit_bias': False},
    'gca': _GCA,
    # Basic blocks, bottlenecks, grouped bottlenecks.
    'sk18': {'reduction': 8, 'reduction_divisor': 16, 'sk_split': True},
    'sk50': {'reduction_divisor': 8, 'sk_split': True},
    'skx': {'reduction_divisor': 32},
}


def _sk_key(depth: str, width: Optional[str]) -> str:
    return 'skx' if width else 'sk18' if depth in ('18', '34') else 'sk50'


def _resnet(
    depth: str, letter: Optional[str], width: Optional[str], unit: Optional[str] = None, norm: Optional[str] = None
) -> Found:
    options = {**_LETTERS[letter or ''], **({'norm': 'group'} if norm else {})}
    if unit:
        options.update(_OF_UNITS[_sk_key(depth, width) if unit == 'sk' else unit])
        unit = {'gca': 'gc'}.get(unit, unit)
    member = f'resnext{depth}_{width}' if width else f'resnet{depth}_v1b'
    return (f'{unit}_' if unit else '') + member, options


def _legacy(depth: str, width: Optional[str]) -> Found:
    options = {'stem_pool': 'ceil'}
    if width:
        return f'se_resnext{depth}_{width}', options
    return f'se_resnet{depth}_v1', options


def _byob(depth: str) -> Found:
    options = {**_GCA, 'tiered_stem': True, 'stem_pool': 'none', 'inside': True}
    return f'gc_resnet{depth}_v1b', options


def _alpha(digits: str) -> float:
    return int(digits) / 100


def _mnasnet(unit: Optional[str], digits: str) -> Found:
    alpha = str(_alpha(digits)).replace('.', '_')
    if unit:
        return f'semnasnet{alpha}', {}
    return f'mnasnet{alpha}', {'scaled_stem': True} if alpha != '1_0' else {}


def _mobilenet(digits: str) -> Found:
    return 'mobilenet_v2', {'width': _alpha(digits)} if digits != '100' else {}


_DEPTHS = '18|26|34|50|101|152'
_RULES = {
    rf'(?P<unit>se|eca|sk)?resne(?:x?)t(?P<depth>{_DEPTHS})(?P<letter>[cdst])?'
    r'(?:_(?P<width>\d+x\d+d))?(?P<norm>_gn)?': _resnet,
    # Units that are an argument of create_model: block_args={'attn_layer': 'cbam'}.
    rf'resnet(?P<depth>{_DEPTHS})(?P<letter>[cdst])?(?P<width>)?\[(?P<unit>se|eca|cbam|gca)\]': _resnet,
    r'legacy_seresnet(?P<depth>50|101|152)(?P<width>)?': _legacy,
    r'legacy_seresnext(?P<depth>26|50|101)_(?P<width>\d+x\d+d)': _legacy,
    r'gcresnet(?P<depth>50)t': _byob,
    r'(?P<name>wide_resnet(50|101)_2)': lambda name: (name, {}),
    r'(?P<unit>se)?mnasnet_(?P<digits>050|075|100|140)': _mnasnet,
    r'mobilenetv2_(?P<digits>\d\d\d)': _mobilenet,
}
_REFUSED = {
    r'legacy_seresnet(18|34)': 'its blocks have one more ReLU, in front of the SE unit',
    r'mobilenetv2_\d\d\dd': 'it has more blocks, and a stem that is not as wide',
    r'mnasnet_small|semnasnet_small': 'its stages are others than those of MnasNet-A1 and -B1',
    r'.*resnet(aa|blur|rs|v2_|.*_clip).*': 'its downsampling, stem or order of layers has no option here',
    r'.*(ts|q)(_.*)?': 'its stem, activations and blocks are those of other papers',
    r'.*_pruned|ecaresnetlight': 'its layers have widths that follow no rule',
    r'.*(200|269).*': 'its depth is not one of 18, 26, 34, 50, 101 and 152',
}


def counterpart(name: str) -> Found:
    """Return our name and arguments for timm's ``name``. Raises ``ValueError`` with the reason if there is none.

    A unit that ``create_model`` takes as an argument stands in brackets: ``'resnet50[cbam]'`` for
    ``create_model('resnet50', block_args={'attn_layer': 'cbam'})``.
    """
    return by_rules(SOURCE, name.partition('.')[0], _RULES, _REFUSED)
