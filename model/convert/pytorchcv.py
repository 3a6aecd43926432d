"""Names of pytorchcv's networks (``pytorchcv.model_provider``): ResNets, mobile networks, and those for CIFAR."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from mxnet import gluon

from model.attention.bam import BAM
from model.attention.cbam import CBAM
from model.attention.dia import DIA
from model.attention.se import SE
from model.backbone.cifar_preresnet import CifarPreResNet, CifarWideResNet
from model.backbone.cifar_resnet_v1 import CifarBasicResNet, CifarResNetV1, CifarResNeXt
from model.backbone.cifar_resnet_v2 import CifarResNetV2
from model.backbone.mnasnet import MnasNet
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.residual_attention import ResidualAttentionNetwork
from model.backbone.residual_units import ResidualBlock
from model.backbone.resnet_v1b import ResNetV1b
from model.convert.counterparts import Found, by_rules
from model.convert.naming import Layers, Naming, as_maps, covered, named, of_family
from model.convert.residual_attention import check_form
from model.convert.tables import expand

__all__ = ['COPIES', 'counterpart', 'names', 'shapes']

SOURCE = 'pytorchcv'
COPIES = True  # each block has the weights of its stage's LSTM


def _conv_bn(ours: str, theirs: str) -> Dict[str, str]:
    """Return a convolution with its norm, as a sequence here."""
    return {f'{ours}.0': f'{theirs}.conv', f'{ours}.1': f'{theirs}.bn'}


_SE: Layers = {'reduce': 'se.conv1', 'expand': 'se.conv2'}
_UNITS: Mapping[type, Layers] = {
    SE: _SE,
    CBAM: {
        'channel.reduce': 'cbam.ch_gate.mlp.fc1',
        'channel.expand': 'cbam.ch_gate.mlp.fc2',
        'spatial.conv': 'cbam.sp_gate.conv.conv',
        'spatial.norm': 'cbam.sp_gate.conv.bn',
    },
    BAM: {
        'reduce': 'bam.ch_att.init_fc.fc',
        'norm': 'bam.ch_att.init_fc.bn',
        'expand': 'bam.ch_att.final_fc',
        'spatial.0': 'bam.sp_att.init_conv.conv',
        'spatial.1': 'bam.sp_att.init_conv.bn',
        'spatial.3': 'bam.sp_att.dil_convs.conv1.conv',
        'spatial.4': 'bam.sp_att.dil_convs.conv1.bn',
        'spatial.6': 'bam.sp_att.dil_convs.conv2.conv',
        'spatial.7': 'bam.sp_att.dil_convs.conv2.bn',
        'spatial.9': 'bam.sp_att.final_conv',
    },
    DIA: {
        f'cell.{ours}_{layer}': f'attention.lstm.{theirs}_amps.amp1.{fc}'
        for ours, theirs in (('input', 'x'), ('state', 'h'))
        for layer, fc in (('reduce', 'fc1'), ('expand', 'fc2'))
    },
}
_UNIT = 'features.stage{s:1}.unit{b:1}'


def _body(block: gluon.Block, prefix: str = '') -> Layers:
    """Return a residual block; its shortcut is a convolution, that with a norm, or those behind a pool."""
    layers = {}
    for number in (1, 2, 3):
        theirs = f'{prefix}body.conv{number}'
        layers.update({f'conv{number}': f'{theirs}.conv', f'bn{number}': f'{theirs}.bn'})
    if isinstance(block.downsample, gluon.nn.HybridSequential):
        conv = len(block.downsample) - 2
        theirs = f'{prefix}identity_block.conv' if conv else f'{prefix}identity_conv'
        layers.update({f'downsample.{conv}': f'{theirs}.conv', f'downsample.{conv + 1}': f'{theirs}.bn'})
    else:
        layers['downsample'] = f'{prefix}identity_conv'
    return layers


def _body_of_bam(block: gluon.Block) -> Layers:
    return _body(block, 'res_unit.')


def _resnet(net: ResNetV1b) -> Naming:
    stem = {'conv1': 'features.init_block.conv.conv', 'bn1': 'features.init_block.conv.bn'}
    if isinstance(net.conv1, gluon.nn.HybridSequential):
        stem = {'conv1.6': 'features.init_block.conv3.conv', 'bn1': 'features.init_block.conv3.bn'}
        for number in (1, 2):
            theirs = f'features.init_block.conv{number}'
            stem.update({f'conv1.{3 * number - 3}': f'{theirs}.conv', f'conv1.{3 * number - 2}': f'{theirs}.bn'})
    with_bam = any(isinstance(stage[0].entry, BAM) for stage in net.stages)
    return Naming({**stem, 'fc': 'output'}, _UNIT, _body_of_bam if with_bam else _body, _UNITS)


_CIFAR_STEM = {'conv1': 'features.init_block.conv', 'bn1': 'features.init_block.bn', 'fc': 'output'}
_CIFAR = Naming(_CIFAR_STEM, _UNIT, _body, _UNITS)
_PRE_ACTIVATION = Naming(
    {'conv1': 'features.init_block', 'bn1': 'features.post_activ.bn', 'fc': 'output'}, _UNIT, _body, _UNITS
)
_INVERTED = {**_conv_bn('expand', 'conv1'), **_conv_bn('depthwise', 'conv2'), **_conv_bn('project', 'conv3')}
_MNASNET = {
    **_conv_bn('expand', 'exp_conv'),
    **_conv_bn('depthwise', 'dw_conv'),
    **_conv_bn('project', 'pw_conv'),
    **{f'excite.{ours}': theirs for ours, theirs in _SE.items()},
}


def _joined(*rows: Tuple[int, int]) -> Any:
    """Return names of blocks where the stages that keep the resolution are one with the stage before them.

    ``rows`` has for each of ours the original's stage and how many units that has before.
    """
    return lambda s, b: f'features.stage{rows[s][0]}.unit{rows[s][1] + b + 1}'


def _mnasnet_block(net: MnasNet) -> Any:
    before = len(net.stages[2])
    inner = _joined((1, 0), (2, 0), (3, 0), (3, before), (4, 0))
    return lambda s, b: 'features.final_block.conv1' if s == 5 else inner(s, b)


def _of_v2(net: gluon.HybridBlock) -> Layers:
    if net.feature_info[0].name == 'features.1':  # the first stage comes right behind the stem
        return {'features.0': 'features.init_block', 'features.4': 'features.post_activ.bn', 'output': 'output'}
    return {'features.0': 'features.init_block.conv', 'features.1': 'features.init_block.bn', 'output': 'output'}


def _families(net: gluon.HybridBlock) -> Dict[type, Naming]:
    families = {
        CifarBasicResNet: _CIFAR,
        CifarResNetV1: _CIFAR,
        CifarResNeXt: _CIFAR,
        CifarPreResNet: _CIFAR if not getattr(net, '_pre_activation', True) else _PRE_ACTIVATION,
        CifarWideResNet: _PRE_ACTIVATION,
        CifarResNetV2: Naming(_of_v2(net), _UNIT, _body, _UNITS),
        MobileNetV2: Naming(
            {**_conv_bn('stem', 'features.init_block'), **_conv_bn('last', 'features.final_block'), 'fc': 'output'},
            _joined((1, 0), (2, 0), (3, 0), (4, 0), (4, 4), (5, 0), (5, 3)),
            _INVERTED,
        ),
    }
    if isinstance(net, ResNetV1b):
        families[ResNetV1b] = _resnet(net)
    if isinstance(net, MnasNet):
        stem = {
            **_conv_bn('stem.0', 'features.init_block.conv1'),
            **_conv_bn('stem.1', 'features.init_block.conv2.dw_conv'),
            **_conv_bn('stem.2', 'features.init_block.conv2.pw_conv'),
        }
        outside = {**stem, **_conv_bn('last', 'features.final_block.conv2'), 'fc': 'output'}
        families[MnasNet] = Naming(outside, _mnasnet_block(net), _MNASNET)
    return families


def _residual_attention(net: ResidualAttentionNetwork) -> Iterator[Tuple[str, str]]:
    """Pairs of the original's prefixes and ours."""

    def block(theirs: str, ours: str) -> Iterator[Tuple[str, str]]:
        for number in (1, 2, 3):
            yield f'{theirs}.body.conv{number}.conv', f'{ours}.conv{number}'
            yield f'{theirs}.body.conv{number}.bn', f'{ours}.bn{number}'
        yield f'{theirs}.identity_conv', f'{ours}.conv4'

    yield 'features.init_block.conv.conv', 'stem.0'
    yield 'features.init_block.conv.bn', 'stem.1'
    yield 'features.post_activ.bn', 'bn'
    yield 'output', 'fc'
    for index, stage in enumerate(net.stages):
        for place, member in enumerate(stage):
            theirs, ours = f'features.stage{index + 1}.unit{place + 1}', f'stages.{index}.{place}'
            if isinstance(member, ResidualBlock):
                yield from block(theirs, ours)
                continue
            rows = [(f'{theirs}.init_blocks', '1', 'first'), (f'{theirs}.hg.skip_seq.skip1', '1', 'trunk.0')]
            rows.append((f'{theirs}.hg.skip_seq.skip1', '2', 'trunk.1'))
            levels = member.levels
            for level in range(1, levels + 1):
                down, up = (f'mask.{way}.{level - 1}' for way in ('down', 'up'))
                if level == levels:
                    down, up = 'mask.bottom.0', 'mask.bottom.1'
                rows.append((f'{theirs}.hg.down_seq.down{level}.res_blocks', '1', down))
                rows.append((f'{theirs}.hg.up_seq.up{level}.res_blocks', '1', up))
            for prefix, number, own in rows:
                yield from block(f'{prefix}.blocks.block{number}', f'{ours}.{own}')
            for level in range(1, levels):
                yield from block(f'{theirs}.hg.skip_seq.skip{level + 1}.skip1', f'{ours}.mask.skip.{level - 1}')
            for number, (norm, conv) in enumerate(((0, 2), (3, 5)), 1):
                yield f'{theirs}.middle_block.conv{number}.bn', f'{ours}.mask.head.{norm}'
                yield f'{theirs}.middle_block.conv{number}.conv', f'{ours}.mask.head.{conv}'
            yield from block(f'{theirs}.final_block', f'{ours}.last')


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}``. Raises ``ValueError`` if pytorchcv has no such network."""
    if isinstance(net, ResidualAttentionNetwork):
        check_form(net, SOURCE)
        return covered(net, expand(net, _residual_attention(net)), SOURCE)
    return named(net, of_family(net, _families(net), SOURCE), SOURCE)


def shapes(net: gluon.HybridBlock) -> Dict[str, Tuple[int, ...]]:
    """Return ``{original name: shape}`` where that is not ours: SE's layers, and MobileNetV2's classifier."""
    pattern = r'.*\.se\.conv[12]\.weight' + (r'|output\.weight' if isinstance(net, MobileNetV2) else '')
    return as_maps(net, names(net), pattern)


_CLASSES = {'cifar10': 10, 'cifar100': 100, 'svhn': 10, 'cub': 200}
_UNIT_OPTIONS: Dict[str, Dict[str, Any]] = {'dia': {'reduction': 4}}


def _imagenet(unit: Optional[str], depth: str, first: str, data: Optional[str] = None) -> Found:
    unit = (unit or '').rstrip('_')
    basic = depth in ('18', '34')
    # Those that end in b have the stride in the 3x3 convolution; CBAM's and BAM's names say nothing of it.
    v1 = not basic and not first and unit not in ('cbam', 'bam')
    options = dict(_UNIT_OPTIONS.get(unit, {}))
    if data:
        options['classes'] = _CLASSES[data]
    return f'{unit + "_" if unit else ""}resnet{depth}_v1{"" if v1 else "b"}', options


def _cifar(unit: Optional[str], pre: Optional[str], depth: str, bottleneck: Optional[str], data: str) -> Found:
    options = {'classes': _CLASSES[data]}
    lead = 'cifar_' + (f'{unit}_' if unit else '')
    if depth == '1001':
        bottleneck = 'bn'
    if not pre:
        if not bottleneck:
            options['stem_relu'] = True
        return f'{lead}resnet{depth}{bottleneck or ""}_v1', options
    options['activated_shortcut'] = True
    if unit == 'se':
        options['outer_norm'] = 'start'
    if bottleneck:
        return f'{lead}preresnet{depth}', {**options, 'branch_norm': False}
    return f'{lead}resnet{depth}_v2', {**options, 'input_norm': False}


def _mobilenet(kept: Optional[str], width: str) -> Found:
    options: Dict[str, Any] = {'classifier_bias': False}
    if not kept:
        options['expand_first'] = True
    if width != 'w1':
        options.update(width={'w3d4': 0.75, 'wd2': 0.5, 'wd4': 0.25}[width], width_divisor=1)
    return 'mobilenet_v2', options


_DATA = 'cifar100|cifar10|svhn'
_RULES = {
    r'(?P<unit>se|dia|cbam_|bam_)?resnet(?P<depth>18|34|50|101|152)(?P<first>b?)(_(?P<data>cub))?': _imagenet,
    r'(?P<unit>se|dia)?resnetbc(?P<depth>26)(?P<first>b)(_(?P<data>cub))?': _imagenet,
    r'resneta(?P<depth>18|50|101|152)b?': lambda depth: (
        f'resnet{depth}_v1b',
        {'deep_stem': True, 'avg_down': True},
    ),
    r'(?P<se>se)?(?P<member>resnext(50|101)_\d+x\d+d)': lambda se, member: (f'{"se_" if se else ""}{member}', {}),
    rf'(?P<unit>se|dia)?(?P<pre>pre)?resnet(?P<depth>\d+)(?P<bottleneck>bn)?_(?P<data>{_DATA})': _cifar,
    rf'(?P<member>resnext\d+_\d+x\d+d)_(?P<data>{_DATA})': lambda member, data: (
        f'cifar_{member}',
        {'classes': _CLASSES[data], 'channels': (64, 256, 512, 1024)},
    ),
    rf'(?P<member>wrn\d+_\d+)_(?P<data>{_DATA})': lambda member, data: (f'cifar_{member}', {'classes': _CLASSES[data]}),
    r'mobilenetv2(?P<kept>b)?_(?P<width>w1|w3d4|wd2|wd4)': _mobilenet,
    r'mnasnet_a1': lambda: ('semnasnet1_0', {}),
    r'mnasnet_b1': lambda: ('mnasnet1_0', {}),
    r'resattnet(?P<depth>56|92)': lambda depth: (f'residual_attention{depth}', {'mask_additions': True}),
}
_REFUSED = {
    r'(se|dia)?preresnet(bc)?\d+b?(_w.*)?': 'of pre-activation ResNets there are only those for CIFAR',
    r'.*resnet(10|12|14|16|26|38|200|269|bc14b|bc38b)(b|_.*)?': 'its depth is not 18, 34, 50, 101, 152 or bc26b',
    r'resnet18_w.*': 'ResNets are as wide as published here',
    r'resnetd\d+b': 'it is the dilated network for segmentation, whose stem is another',
    r'mnasnet_small': 'its stages are others than those of MnasNet-A1 and -B1',
    r'wrn\d+_\d+_(1|32)bit_.*': 'its convolutions are scaled and have one bit',
    r'wrn50_2': 'its convolutions have biases in place of norms',
    r'resattnet(128|164|200|236|452)': 'its modules are longer; there are 56 and 92 layers',
}


def counterpart(name: str) -> Found:
    """Return our name and arguments for pytorchcv's ``name``.

    Raises ``ValueError`` with the reason if there is none.
    """
    return by_rules(SOURCE, name, _RULES, _REFUSED)
