"""Names of 13952522076/DCANet's parameters: its ResNets, MobileNetV2s and MnasNets, with each of its units.

A network's names follow from two tables, one of the backbone's layers and one of the attention unit's. The original
renames the layers of its mobile networks for some of the connected units.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from mxnet import gluon

from model.attention.cbam import CBAM
from model.attention.gc import GC
from model.attention.ge import GE
from model.attention.se import SE
from model.attention.sge import SGE
from model.attention.sk import SK
from model.backbone.mnasnet import MnasNet
from model.backbone.mobilenet_v2 import MobileNetV2
from model.backbone.resnet_v1b import ResNetV1b

__all__ = ['names', 'shapes', 'unused']


class Layers(NamedTuple):
    """A unit's layers (or parameters): ours -> the original's."""

    prefix: str  # the unit's name in its block; empty if its layers are the block's own
    layers: Mapping[str, str]
    maps: Tuple[
        str, ...
    ] = ()  # those that act on maps of one pixel there and on vectors here: shapes with 1, 1 at the end


_VECTOR_CONNECTION = {
    'connection.adapter': 'att_fc',
    'connection.merge.conv': 'conv.0',
    'connection.merge.norm': 'conv.1',
}


def _sk(prefix: str, branches: Tuple[str, str], norms: Tuple[str, str], adapter: str) -> Layers:
    layers = {'reduce': 'conv_fc1', 'norm': 'bn_fc1', 'expand': 'conv_fc2'}
    for index in (0, 1):
        layers[f'branch{index + 1}.0'] = branches[index]
        layers[f'branch{index + 1}.1'] = norms[index]
        connection = f'connection.branches.{index}'
        layers[f'{connection}.adapter'] = adapter.format(index + 1)
        layers[f'{connection}.merge.conv'] = f'att_conv{index + 1}.0'
        layers[f'{connection}.merge.norm'] = f'att_conv{index + 1}.1'
    return Layers(prefix, layers, ('reduce', 'expand'))


_UNITS = {
    SE: Layers('se', {'reduce': 'fc.0', 'expand': 'fc.2', **_VECTOR_CONNECTION}),
    GE: Layers('ge', _VECTOR_CONNECTION),
    GC: Layers(
        'gc',
        {
            'mask': 'conv_mask',
            'reduce': 'channel_add_conv.0',
            'norm': 'channel_add_conv.1',
            'expand': 'channel_add_conv.3',
            'connection.adapter': 'att_fc',
            'connection.beta': 'weight',
        },
        ('reduce', 'norm', 'expand', 'connection.adapter'),
    ),
    CBAM: Layers(
        'cbam',
        {
            'channel.reduce': 'ChannelGate.mlp.1',
            'channel.expand': 'ChannelGate.mlp.3',
            'channel.connection.adapter': 'ChannelGate.att_fc',
            'channel.connection.merge.conv': 'ChannelGate.alpha.0',
            'channel.connection.merge.norm': 'ChannelGate.alpha.1',
            'spatial.conv': 'SpatialGate.spatial.conv',
            'spatial.norm': 'SpatialGate.spatial.bn',
            'spatial.connection.p1': 'SpatialGate.p1',
            'spatial.connection.p2': 'SpatialGate.p2',
            'spatial.connection.norm': 'SpatialGate.bnrelu.0',
        },
    ),
    SGE: Layers('sge', {'affine.weight': 'weight', 'affine.bias': 'bias'}),
}
_SK_RESNET = _sk('', ('conv2', 'conv2g'), ('bn2', 'bn2g'), 'att_fc_{}')
_SK_MOBILE = _sk('', ('conv3', 'conv5'), ('bn3', 'bn5'), 'att_fc{}')


class Place(NamedTuple):
    """An attention unit and its place in the network."""

    ours: str  # its path
    theirs: str  # that of the original's block
    unit: gluon.HybridBlock
    layers: Layers
    previous: int  # channels that enter the block, or the unit where that stands for a convolution


class Trunk(NamedTuple):
    layers: Dict[str, str]  # ours -> the original's
    places: List[Place]


def _resnet(net: ResNetV1b) -> Trunk:
    trunk = Trunk({name: name for name in ('conv1', 'bn1', 'fc')}, [])
    for number in (1, 2, 3, 4):
        for index, block in enumerate(getattr(net, f'layer{number}')):
            path = f'layer{number}.{index}'
            for part in ('conv1', 'bn1', 'conv2', 'bn2', 'conv3', 'bn3', 'downsample'):
                trunk.layers[f'{path}.{part}'] = f'{path}.{part}'
            trunk.places.extend(_places_of(block, path, path, path, _SK_RESNET, block.conv1._in_channels))
    return trunk


def _places_of(
    block: gluon.HybridBlock, ours: str, theirs: str, selects: str, sk: Layers, in_channels: int
) -> Iterator[Place]:
    if block.attention is not None:
        layers = _UNITS.get(type(block.attention))
        if layers is None:
            raise ValueError(f'DCANet has no unit like {ours}.attention, a {type(block.attention).__name__}')
        yield Place(f'{ours}.attention', theirs, block.attention, layers, in_channels)
    if getattr(block, 'select', None) is not None:
        yield Place(f'{ours}.select', selects, block.select, sk, block.select.channels)


def _unit_of_first_block(net: Union[MobileNetV2, MnasNet]) -> Optional[gluon.HybridBlock]:
    block = net.stages[0][0]
    return block.attention if block.select is None else block.select


def _mobilenet_v2(net: MobileNetV2) -> Trunk:
    blocks = [(s, i, block) for s, stage in enumerate(net.stages) for i, block in enumerate(stage)]
    unit = _unit_of_first_block(net)
    # Stem, blocks (numbered from ``first``), last convolution; the layers within a block.
    stem, path, first, last = 'features.0', 'features.{}', 1, f'features.{len(blocks) + 1}'
    expand, depthwise, project, norm, select = 'conv.0', 'conv.1', 'conv.2', 'conv.3', 'conv.1'
    if _is_connected(net) and isinstance(unit, SK):
        stem, path, first, last = 'features1.0', 'features2.{}', 0, 'features3.0'
        expand, select, project, norm = 'layer1', 'layersk', 'layer3.0', 'layer3.1'
    elif _is_connected(net) and isinstance(unit, GE):
        stem, path, first, last = 'features1', 'features2.{}', 0, 'features3'
    elif _is_connected(net):
        stem, last = f'{stem}.conv', f'{last}.conv'
    trunk = Trunk({'stem': stem, 'last': last, 'fc': 'classifier.1'}, [])
    for number, (s, i, block) in enumerate(blocks, first):
        ours, theirs = f'stages.{s}.{i}', path.format(number)
        parts = {'expand': expand, 'depthwise': depthwise, 'project.0': project, 'project.1': norm, 'select': select}
        if block.expand is None and project.startswith('conv'):
            # The layers are counted, and there is one less.
            parts.update({'depthwise': 'conv.0', 'project.0': 'conv.1', 'project.1': 'conv.2', 'select': 'conv.0'})
        selects = f'{theirs}.{parts.pop("select")}'
        trunk.layers.update({f'{ours}.{part}': f'{theirs}.{name}' for part, name in parts.items()})
        entering = block.expand or block.depthwise
        in_channels = entering[0]._in_channels if entering is not None else block.select.channels
        trunk.places.extend(_places_of(block, ours, theirs, selects, _SK_MOBILE, in_channels))
    return trunk


def _mnasnet(net: MnasNet) -> Trunk:
    if isinstance(_unit_of_first_block(net), SK):
        raise ValueError('DCANet has no MnasNet with SK, and hence no names for its parameters')
    stem, path, first, last = ('layers1', 'layers2.{}', 0, ('layers3.0', 'layers3.1'))
    if not _is_connected(net):
        stem, path, first, last = ('layers', 'layers.{}', 8, ('layers.14', 'layers.15'))
    trunk = Trunk({'last.0': last[0], 'last.1': last[1], 'fc': 'classifier.1'}, [])

    def three(ours: str, parts: Tuple[str, str, str], theirs: str) -> None:
        # Convolution, norm and activation, three times over.
        for index, part in enumerate(parts):
            trunk.layers[f'{ours}.{part}.0'] = f'{theirs}.{3 * index}'
            trunk.layers[f'{ours}.{part}.1'] = f'{theirs}.{3 * index + 1}'

    three('stem', ('0', '1', '2'), stem)
    for number, stage in enumerate(net.stages):
        for index, block in enumerate(stage):
            ours, theirs = f'stages.{number}.{index}', f'{path.format(number + first)}.{index}'
            three(ours, ('expand', 'depthwise', 'project'), f'{theirs}.layers')
            trunk.places.extend(_places_of(block, ours, theirs, theirs, _SK_MOBILE, block.expand[0]._in_channels))
    return trunk


_TRUNKS = {ResNetV1b: _resnet, MobileNetV2: _mobilenet_v2, MnasNet: _mnasnet}
_LEAVES = {'gamma': 'weight', 'beta': 'bias'}


def _is_connected(net: gluon.HybridBlock) -> bool:
    return any('connection.' in name for name in net._collect_params_with_prefix())


def _trunk(net: gluon.HybridBlock) -> Trunk:
    for kind, trunk in _TRUNKS.items():
        if isinstance(net, kind):
            return trunk(net)
    raise ValueError(f'DCANet has no {type(net).__name__}: it has ResNet-v1b, MobileNetV2 and MnasNet')


def _unit_prefix(place: Place, connected: bool) -> str:
    prefix = place.layers.prefix
    if prefix == 'gc' and connected:
        prefix = 'rgc'
    return f'{place.theirs}.{prefix}' if prefix else place.theirs


def _translate(name: str, layers: Mapping[str, str]) -> Optional[str]:
    """Return the original's name of a parameter: of the parameter itself or of the layer that it is in."""
    if name in layers:
        return layers[name]
    parts = name.split('.')
    for cut in range(len(parts) - 1, 0, -1):
        owner = '.'.join(parts[:cut])
        if owner in layers:
            *inner, leaf = parts[cut:]
            return '.'.join([layers[owner], *inner, _LEAVES.get(leaf, leaf)])
    return None


def _all_layers(net: gluon.HybridBlock) -> Tuple[Dict[str, str], List[str]]:
    """Return the layers of trunk and units, ours -> the original's, and those of ours that are ``maps`` there."""
    trunk = _trunk(net)
    connected = _is_connected(net)
    layers, maps = dict(trunk.layers), []
    for place in trunk.places:
        prefix = _unit_prefix(place, connected)
        layers.update({f'{place.ours}.{ours}': f'{prefix}.{theirs}' for ours, theirs in place.layers.layers.items()})
        maps.extend(f'{place.ours}.{ours}.' for ours in place.layers.maps)
    return layers, maps


def names(net: gluon.HybridBlock) -> Dict[str, str]:
    """Return ``{original name: our structural name}`` of all parameters and running statistics.

    Raises ``ValueError`` if the original has no such network.
    """
    layers, _ = _all_layers(net)
    apart = _unconnected(net)
    if apart:
        raise ValueError(f'DCANet connects every unit, and all parts of each; here, {apart[0]} is not connected')
    table = {}
    for ours in net._collect_params_with_prefix():
        theirs = _translate(ours, layers)
        if theirs is None:
            raise ValueError(f'DCANet has no parameter like {ours}: its networks have plain activations and no DIA')
        table[theirs] = ours
    return table


def _original_shape(name: str, shape: Tuple[int, ...], maps: List[str]) -> Tuple[int, ...]:
    on_maps = name.startswith(tuple(maps)) and name.rsplit('.', 1)[1] in ('weight', 'gamma', 'beta')
    return (*shape, 1, 1) if on_maps else tuple(shape)


def shapes(net: gluon.HybridBlock) -> Dict[str, Tuple[int, ...]]:
    """Return ``{original name: shape}`` where that is not ours: what acts on maps of one pixel there."""
    layers, maps = _all_layers(net)
    parameters = net._collect_params_with_prefix().items()
    of_theirs = {name: _original_shape(name, parameter.shape, maps) for name, parameter in parameters}
    return {_translate(n, layers): of_theirs[n] for n, p in parameters if of_theirs[n] != tuple(p.shape)}


def _parts(unit: gluon.HybridBlock) -> Dict[str, gluon.HybridBlock]:
    """Return the parts of a unit that are connected separately, as their paths followed by a dot."""
    return {'channel.': unit.channel, 'spatial.': unit.spatial} if isinstance(unit, CBAM) else {'': unit}


def _unconnected(net: gluon.HybridBlock) -> List[str]:
    """Return the parts of units that are not connected with the unit before them, in a network where others are."""
    if not _is_connected(net):
        return []
    return [
        f'{place.ours}.{path}'.rstrip('.')
        for place in _trunk(net).places[1:]
        for path, part in _parts(place.unit).items()
        if part.connection is None
    ]


def _connection_options(places: List[Place]) -> Dict[str, Any]:
    """Return the options with which the units of a network are connected, read from the connected ones."""
    options: Dict[str, Any] = {}
    for place in places:
        for part in _parts(place.unit).values():
            connection = part.connection
            branches = getattr(connection, 'branches', None)
            connection = connection if branches is None else branches[0]
            if getattr(connection, 'merge', None) is not None:
                options['merge_bias'] = connection.merge.conv.bias is not None
            layers = getattr(connection, 'adapter', None)
            if layers is not None:
                options['adapter_kind'] = 'bottleneck' if len(layers) == 6 else 'linear'
                options['adapter_bias'] = layers[0].bias is not None
    return options


def unused(net: gluon.HybridBlock) -> Dict[str, Tuple[int, ...]]:
    """Return ``{original name: shape}`` of the parameters that the original never uses: the first unit's connection."""
    if not _is_connected(net):
        return {}
    place, *others = _trunk(net).places
    options = _connection_options(others)
    reduce = getattr(getattr(place.unit, 'channel', place.unit), 'reduce', None)
    if reduce is not None:
        options['reduction'] = reduce._in_units // reduce._units
    layers, maps = _all_layers(net)
    table = {}
    for path, part in _parts(place.unit).items():
        connection = part.connection_to(place.previous, **options)
        for name, parameter in connection._collect_params_with_prefix().items():
            ours = f'{place.ours}.{path}connection.{name}'
            table[_translate(ours, layers)] = _original_shape(ours, parameter.shape, maps)
    return table
