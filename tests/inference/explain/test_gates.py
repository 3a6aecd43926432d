"""Gates: against what the units do to their maps, against their formulas, and without a trace left in the network."""

import mxnet as mx
import numpy as np
import pytest

from inference.explain.gates import GateReader
from inference.explain.hooks import blocks_of
from inference.graph import trace
from model import get_model
from model.activation.gate import Gate as ActivationGate
from model.attention import ATTENTIONS
from model.attention.aff import AFF
from model.attention.bam import BAM
from model.attention.dia import DIA
from model.attention.unit import AttentionUnit
from model.backbone.attention_module import AttentionModule
from tests.inference.explain.conftest import images, make
from tests.model.cases import COVERING

UNITS = [
    f'cifar_{prefix}{unit}_resnet20bn_v1'
    for unit, row in ATTENTIONS.items()
    if row.place != 'sum'
    for prefix in ('', *(['dca_'] if row.connects else []))
]
ACTIVATIONS = ['atac', 'atac_spatial', 'atac_sequential', 'xunit']


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def array(parameter):
    return parameter.data().asnumpy()


def seen(net, blocks, data):
    """Return (first input, first output) of each block while the network runs operator by operator."""
    table, handles = {}, []

    def first(arrays):
        return arrays[0].asnumpy() if isinstance(arrays, (list, tuple)) else arrays.asnumpy()

    for block in blocks:
        hook = lambda block, inputs, out: table.__setitem__(block, (first(inputs), first(out)))  # noqa: E731
        handles.append(block.register_forward_hook(hook))
    net(mx.nd.array(data))
    for handle in handles:
        handle.detach()
    return table


def over_space(values, maps):
    """Return gates as they apply to maps (N, C, H, W): per channel, per group of channels, or per position."""
    if values.ndim == 2:
        return values[:, :, None, None]
    return np.repeat(values, maps.shape[1] // values.shape[1], axis=1)


@pytest.mark.parametrize('name', UNITS)
def test_attention_units(name):
    net, data = make(name), images()
    units = {path: block for path, block in blocks_of(net) if isinstance(block, AttentionUnit)}
    gates = {(gate.path, gate.name): gate for gate in GateReader(net)(data)}
    assert {path for path, _ in gates} == set(units)
    branches = [unit for u in units.values() if hasattr(u, 'branch1') for unit in (u.branch1, u.branch2)]
    table = seen(net, [*units.values(), *branches], data)
    for path, unit in units.items():
        x, out = table[unit]
        if branches:
            one, two = gates[path, 'branch 1'], gates[path, 'branch 2']
            np.testing.assert_allclose(one.values + two.values, 1, rtol=1e-5)
            ours = sum(over_space(g.values, x) * table[b][1] for g, b in ((one, unit.branch1), (two, unit.branch2)))
        elif (path, 'term') in gates:
            ours = x + over_space(gates[path, 'term'].values, x)
        else:
            kept = 1 if isinstance(unit, BAM) else 0
            ours = x * (kept + over_space(gates[path, 'gate'].values, x))
        np.testing.assert_allclose(ours, out, rtol=1e-4, atol=1e-5 * np.abs(out).max())
    for gate in gates.values():
        assert gate.unit == type(units[gate.path]).__name__
        assert gate.values.std() > 0 or gate.unit == 'SK'  # a hidden layer of one unit may be dead
        assert not gate.bounded or 0 <= gate.values.min() <= gate.values.max() <= 1


@pytest.mark.parametrize('name', ['cifar_aff_resnet20bn_v1', 'cifar_iaff_resnet8_v2'])
def test_fusions(name):
    net, data = make(name), images()
    units = {path: block for path, block in blocks_of(net) if isinstance(block, AFF)}
    table, handles = {}, []
    for unit in units.values():
        hook = lambda unit, inputs, out: table.__setitem__(unit, [array.asnumpy() for array in (*inputs, out)])  # noqa: E731
        handles.append(unit.register_forward_hook(hook))
    net(mx.nd.array(data))
    for handle in handles:
        handle.detach()
    gates = GateReader(net)(data)
    names = ['first gate', 'gate'] if 'iaff' in name else ['gate']
    assert [gate.name for gate in gates] == names * len(units)
    for gate in gates[len(names) - 1 :: len(names)]:
        branch, shortcut, out = table[units[gate.path]]
        np.testing.assert_allclose(gate.values * shortcut + (1 - gate.values) * branch, out, rtol=1e-4, atol=1e-5)
    for gate in gates:
        assert gate.values.shape[2:] == table[units[gate.path]][0].shape[2:]
        assert 0 <= gate.values.min() < gate.values.max() <= 1


def test_se_by_its_formula():
    net, data = make('cifar_se_resnet20bn_v1'), images()
    for gate in GateReader(net)(data):
        unit = dict(blocks_of(net))[gate.path]
        mean = seen(net, [unit], data)[unit][0].mean(axis=(2, 3))
        hidden = np.maximum(mean @ array(unit.reduce.weight).T + array(unit.reduce.bias), 0)
        expected = sigmoid(hidden @ array(unit.expand.weight).T + array(unit.expand.bias))
        np.testing.assert_allclose(gate.values, expected, rtol=1e-4, atol=1e-6)


def test_gc_by_its_formula():
    net, data = make('cifar_gc_resnet20bn_v1'), images()
    positions = [gate for gate in GateReader(net)(data) if gate.name == 'positions']
    assert len(positions) == 6
    for gate in positions:
        unit = dict(blocks_of(net))[gate.path]
        x = seen(net, [unit], data)[unit][0]
        logits = np.einsum('c,nchw->nhw', array(unit.mask.weight).ravel(), x) + array(unit.mask.bias)
        weights = np.exp(logits - logits.max(axis=(1, 2), keepdims=True))
        weights /= weights.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(gate.values[:, 0], weights, rtol=1e-3, atol=1e-7)
        np.testing.assert_allclose(gate.by_position, gate.values[:, 0])


def test_sk_by_its_formula():
    net, data = make('cifar_sk_resnet20bn_v1', reduction=4), images()
    gates = GateReader(net)(data)
    assert [gate.name for gate in gates] == ['branch 1', 'branch 2'] * 6
    for one in gates[::2]:
        unit = dict(blocks_of(net))[one.path]
        table = seen(net, [unit.branch1, unit.branch2], data)
        total = sum(out.mean(axis=(2, 3)) for _, out in table.values())
        norm = unit.norm
        centred = total @ array(unit.reduce.weight).T - array(norm.running_mean)
        hidden = centred / np.sqrt(array(norm.running_var) + 1e-5) * array(norm.gamma) + array(norm.beta)
        logits = (np.maximum(hidden, 0) @ array(unit.expand.weight).T).reshape(2, 2, -1)
        np.testing.assert_allclose(one.values, sigmoid(logits[:, 0] - logits[:, 1]), rtol=1e-3, atol=1e-5)


def test_dia_by_its_recurrence():
    net, data = make('cifar_dia_resnet29bn_v1'), images()
    gates = GateReader(net)(data)
    assert [gate.name for gate in gates] == ['hidden', 'cell'] * 9
    units = {path: block for path, block in blocks_of(net) if isinstance(block, DIA)}
    table = seen(net, units.values(), data)

    def linear(x, reduce, expand):
        hidden = np.maximum(x @ array(reduce.weight).T + array(reduce.bias), 0)
        return hidden @ array(expand.weight).T + array(expand.bias)

    for hidden, cell in zip(gates[::2], gates[1::2]):
        unit = units[hidden.path]
        x, out = table[unit]
        lstm, y = unit.cell, x.mean(axis=(2, 3))
        if unit.first:
            h = c = np.zeros_like(y)
        sums = linear(y, lstm.input_reduce, lstm.input_expand) + linear(h, lstm.state_reduce, lstm.state_expand)
        i, f, g, o = np.split(sums, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * sigmoid(c)
        np.testing.assert_allclose(cell.values, c, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(hidden.values, h, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(x * h[:, :, None, None], out, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    'options',
    [
        *({'act_type': act} for act in ACTIVATIONS),
        {'act_type': 'atac', 'act_global': True},
        {'act_type': 'atac', 'act_kernel': 3, 'act_relu': False, 'act_placement': 'after'},
        {'act_type': 'atac', 'act_placement': 'before'},
    ],
)
def test_activation_units(options):
    net, data = make('cifar_resnet8_v2', **options), images()
    units = {path: block for path, block in blocks_of(net) if isinstance(block, ActivationGate)}
    gates = GateReader(net)(data)
    assert [gate.path for gate in gates] == list(units)
    assert len(gates) == 7
    table = seen(net, units.values(), data)
    for gate in gates:
        x, out = table[units[gate.path]]
        np.testing.assert_allclose(x * gate.values, out, rtol=1e-4, atol=1e-5)
        assert (gate.by_position is None) == options.get('act_global', False)
        assert gate.by_channel.shape == x.shape[:2]


@pytest.mark.parametrize('name', ['cifar_residual_attention92', 'residual_attention56'])
def test_masks_at_every_level(name):
    side = 32 if name.startswith('cifar') else 64
    net, data = make(name, side), images(1, side)
    modules = {path: block for path, block in blocks_of(net) if isinstance(block, AttentionModule)}
    gates = GateReader(net)(data)
    table = seen(net, [block for m in modules.values() for block in (m.trunk, m.last, m.mask)], data)
    for path, module in modules.items():
        ours = [gate for gate in gates if gate.path == path]
        levels = [f'level {level}' for level in range(module.levels, 0, -1)] or ['level 0']
        assert [gate.name for gate in ours] == [*levels, 'mask']
        mask = ours[-1].values
        trunk = table[module.trunk][1]
        np.testing.assert_allclose((1 + mask) * trunk, table[module.last][0], rtol=1e-4, atol=1e-5)
        assert (0 < mask).all()
        assert (mask < 1).all()
        for gate in ours[:-1]:
            level = int(gate.name[6:])
            assert gate.values.shape[2] == max(1, -(-trunk.shape[2] // 2**level))
            assert not gate.bounded


@pytest.mark.parametrize(
    'options',
    [
        {'mask_type': 'channel', 'attention_learning': 'naive'},
        {'mask_type': 'spatial', 'residual_unit': 'resnext'},
        {'mask_structure': 'convolutions', 'attention_learning': 'naive', 'residual_unit': 'inception'},
    ],
    ids=str,
)
def test_masks_of_other_forms(options):
    net, data = make('cifar_residual_attention56_paper', **options), images(1)
    modules = {path: block for path, block in blocks_of(net) if isinstance(block, AttentionModule)}
    masks = {gate.path: gate for gate in GateReader(net)(data) if gate.name == 'mask'}
    assert masks.keys() == modules.keys()
    table = seen(net, [block for m in modules.values() for block in (m.trunk, m.last)], data)
    kept = 0 if options.get('attention_learning') == 'naive' else 1
    for path, module in modules.items():
        mask = masks[path]
        expected = (kept + mask.values) * table[module.trunk][1]
        np.testing.assert_allclose(expected, table[module.last][0], rtol=1e-4, atol=1e-5)
        assert mask.bounded == (options.get('mask_type') != 'channel')
        assert -1 <= mask.values.min() < mask.values.max() <= 1
        assert not mask.bounded or mask.values.min() >= 0


@pytest.mark.parametrize('unit', [unit for unit, row in ATTENTIONS.items() if row.shares])
def test_a_shared_unit_has_gates_at_each_block(unit):
    net, data = make(f'cifar_share_{unit}_resnet20bn_v1'), images()
    by_block = {}
    for gate in GateReader(net)(data):
        by_block.setdefault(gate.path[: len('layer1.0')], []).append(gate)
    assert list(by_block) == [f'layer{stage}.{block}' for stage in (1, 2, 3) for block in (0, 1)]
    for stage in (1, 2, 3):
        first, second = by_block[f'layer{stage}.0'], by_block[f'layer{stage}.1']
        assert [(gate.unit, gate.name) for gate in first] == [(gate.unit, gate.name) for gate in second]
        assert any((one.values != other.values).any() for one, other in zip(first, second))


@pytest.mark.parametrize(
    'name', ['cifar_atac_dca_cbam_resnet14_v2', 'cifar_dia_resnet20bn_v1', 'cifar_gc_resnet20bn_v1']
)
@pytest.mark.parametrize('hybridize', [False, True])
def test_reading_leaves_no_trace(name, hybridize):
    net, data = make(name), images()
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    expected = net(mx.nd.array(data)).asnumpy()
    graph, symbol = net._cached_op, trace(net).symbol().tojson()
    reader = GateReader(net)
    first = reader(data)
    assert trace(net).symbol().tojson() == symbol
    assert len(trace(net).heads) == 1
    assert net._cached_op is graph
    for _, block in blocks_of(net):
        assert not block._forward_hooks
        assert 'transform' not in vars(block)
    np.testing.assert_array_equal(net(mx.nd.array(data)).asnumpy(), expected)
    for one, two in zip(first, reader(data)):
        np.testing.assert_array_equal(one.values, two.values)


def test_a_failing_trace_leaves_no_trace_either():
    net = make('cifar_se_resnet20bn_v1')
    unit = net.layer2[0].attention
    net.layer3[0].hybrid_forward = None  # not callable: the trace ends in the third stage
    with pytest.raises(TypeError):
        GateReader(net)
    assert 'transform' not in vars(unit)
    assert not net.layer1[0].attention._forward_hooks


def test_dia_of_several_layers():
    net, data = make('cifar_dia_resnet20bn_v1', layers=2, cell_output='tanh'), images(2)
    gates = GateReader(net)(data)
    assert [gate.name for gate in gates] == ['hidden 1', 'cell 1', 'hidden', 'cell'] * 6
    assert not any(gate.bounded for gate in gates)
    units = [block for _, block in blocks_of(net) if isinstance(block, DIA)]
    table = seen(net, units, data)
    for unit, gate in zip(units, gates[2::4]):
        x, out = table[unit]
        np.testing.assert_allclose(x * gate.values[:, :, None, None], out, rtol=1e-4, atol=1e-6)


def test_batches_do_not_matter():
    net, data = make('cifar_dia_resnet20bn_v1'), images(20)
    reader = GateReader(net)
    for whole, last in zip(reader(data), reader(data[16:])):
        np.testing.assert_allclose(whole.values[16:], last.values, rtol=1e-5, atol=1e-6)


def test_a_network_without_attention():
    with pytest.raises(ValueError, match='CifarResNetV2 has no attention'):
        GateReader(make('cifar_resnet8_v2'))


@pytest.mark.parametrize('case', COVERING, ids=str)
def test_every_kind_of_network(case):
    side = case.input_shape[2]
    net = get_model(case.name, **case.options)
    net.initialize()
    net(mx.nd.zeros((1, 3, side, side)))
    words = ('atac', 'dia_', '_sk', 'sk_', 'attention', *(f'{unit}_' for unit in ATTENTIONS))
    if not any(word in case.name for word in words):
        with pytest.raises(ValueError, match='has no attention'):
            GateReader(net)
        return
    for gate in GateReader(net)(images(1, side)):
        assert np.isfinite(gate.values).all()
        assert not gate.bounded or 0 <= gate.values.min() <= gate.values.max() <= 1
