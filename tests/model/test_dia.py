"""The DIA-LSTM in all its forms against the published cell in NumPy, in float64: states and numerical gradients."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from model import count, get_model
from model.attention import attention_factory
from model.attention.dia import DIA, LightLSTM
from model.convert import load_state_dict, to_state_dict
from model.convert.dianet import names

CHANNELS, BLOCKS = 4, 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def published(v, pooled, layers, bottleneck, output):
    """Return the gates for the blocks of a stage: gbup-group/DIANet's LSTMCell(nlayers) on their pooled vectors."""

    def maps(kind, layer, x):
        if layer == 0 and bottleneck:
            hidden = np.maximum(x @ v[f'{kind}_reduce.weight'].T + v[f'{kind}_reduce.bias'], 0)
            return hidden @ v[f'{kind}_expand.weight'].T + v[f'{kind}_expand.bias']
        name = f'{kind}s.{layer - bottleneck}'
        return x @ v[f'{name}.weight'].T + v[f'{name}.bias']

    states = [(np.zeros_like(pooled[0]),) * 2 for _ in range(layers)]
    gates = []
    for y in pooled:
        for layer, (h, c) in enumerate(states):
            i, f, g, o = np.split(maps('input', layer, y) + maps('state', layer, h), 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            y = sigmoid(o) * (sigmoid(c) if output == 'sigmoid' else np.tanh(c))
            states[layer] = y, c
        gates.append(y)
    return gates


def drawn(cell, seed=0):
    rng = np.random.RandomState(seed)
    cell.initialize()
    cell.cast('float64')
    for parameter in cell.collect_params().values():
        parameter.set_data(mx.nd.array(rng.normal(0, 0.7, parameter.shape), dtype='float64'))
    return cell


@pytest.mark.parametrize('layers', [1, 3])
@pytest.mark.parametrize(
    'options',
    [
        {'reduction': 1},
        {'reduction': 4, 'output': 'tanh'},
        {'bottleneck': False},
        {'bottleneck': False, 'output': 'tanh'},
    ],
)
def test_the_cell_and_its_gradients(layers, options):
    form = {'bottleneck': options.get('bottleneck', True), 'output': options.get('output', 'sigmoid'), 'layers': layers}
    cell = drawn(LightLSTM(CHANNELS, **{'reduction': 2, **options}, layers=layers))
    units = [DIA(cell, first=block == 0) for block in range(BLOCKS)]
    rng = np.random.RandomState(1)
    maps = [rng.normal(size=(2, CHANNELS, 3, 2)) for _ in range(BLOCKS)]
    weights = [rng.normal(size=x.shape) for x in maps]
    parameters = cell._collect_params_with_prefix()
    values = {name: parameter.data().asnumpy() for name, parameter in parameters.items()}

    def loss(values):
        gates = published(values, [x.mean(axis=(2, 3)) for x in maps], **form)
        return sum((w * x * h[:, :, None, None]).sum() for w, x, h in zip(weights, maps, gates))

    carry, outs, total = (), [], 0
    with autograd.record(train_mode=False):
        for unit, x, w in zip(units, maps, weights):
            out, *carry = unit(mx.nd.array(x, dtype='float64'), *carry)
            outs.append(out)
            total = total + (mx.nd.array(w, dtype='float64') * out).sum()
    total.backward()
    expected = published(values, [x.mean(axis=(2, 3)) for x in maps], **form)
    assert len(carry) == 2 * layers
    for x, h, out in zip(maps, expected, outs):
        np.testing.assert_allclose(out.asnumpy(), x * h[:, :, None, None], rtol=1e-10, atol=1e-12)
    for name, value in values.items():
        for place in list(np.ndindex(*value.shape))[:: max(1, value.size // 3)]:
            value[place] += 1e-6
            above = loss(values)
            value[place] -= 2e-6
            by_numbers = (above - loss(values)) / 2e-6
            value[place] += 1e-6
            assert parameters[name].grad().asnumpy()[place] == pytest.approx(by_numbers, rel=1e-5, abs=1e-7), name


def test_dropout_is_between_the_layers_and_in_training_only():
    mx.random.seed(3)
    cell = drawn(LightLSTM(CHANNELS, 2, layers=2, dropout=0.5))
    y = mx.nd.ones((5, CHANNELS), dtype='float64')
    states = (mx.nd.zeros_like(y),) * 4
    calm, again = cell(y, *states), cell(y, *states)
    assert all((a.asnumpy() == b.asnumpy()).all() for a, b in zip(calm, again))
    with autograd.record():
        trained = cell(y, *states)
    same = [np.array_equal(a.asnumpy(), b.asnumpy()) for a, b in zip(calm, trained)]
    assert same == [True, True, False, False]
    assert drawn(LightLSTM(CHANNELS, 2)).drop is None  # the original's dropout has no effect


@pytest.mark.parametrize(
    ('options', 'units'),
    [
        ({'reduction': 1}, 864_640),
        ({'reduction': 4}, 218_848),  # as published
        ({'reduction': 8}, 111_216),
        ({'reduction': 16}, 57_400),
        ({'layers': 2}, 218_848 + 691_712),
        ({'bottleneck': False, 'cell_output': 'tanh'}, 691_712),
    ],
)
def test_sizes_of_the_forms(options, units):
    """2 (5 C h + h + 4 C) with a bottleneck and 8 C (C + 1) without, for 64, 128 and 256 channels."""
    shape = (1, 3, 32, 32)
    plain = count(get_model('cifar_resnet29bn_v1'), shape).params
    assert count(get_model('cifar_dia_resnet29bn_v1', **options), shape).params - plain == units


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'dropout': 0.2}, ['dropout is 0.2', 'layers=2']),
        ({'dropout': 0.2, 'layers': 1}, ['dropout is 0.2', 'layers=2']),
        ({'bottleneck': False, 'reduction': 4}, ['reduction is 4', 'leave reduction out']),
        ({'cell_output': 'relu'}, ["cell_output is 'relu'", "'sigmoid', 'tanh'"]),
        ({'layers': 0}, ['layers is 0', 'from 1']),
        ({'reduction': (4, 8)}, ['reduction is (4, 8)', 'one number']),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError) as caught:
        get_model('cifar_dia_resnet20bn_v1', **options)
    assert [word for word in words if word not in str(caught.value)] == []


def test_other_forms_have_the_originals_names_too():
    net = get_model('cifar_dia_resnet20bn_v1', layers=2, reduction=8)
    net.initialize()
    cells = [name for name in names(net) if 'lstm' in name and name.startswith('layer1') and name.endswith('weight')]
    layers = [*(f'w_{kind}.0.seq.{place}' for kind in ('ih', 'hh') for place in (0, 2)), 'w_ih.1', 'w_hh.1']
    assert sorted(cells) == sorted(f'layer1.lstm.{layer}.weight' for layer in layers)
    plain = get_model('cifar_dia_resnet20bn_v1', bottleneck=False)
    assert {'layer1.lstm.w_ih.0.weight', 'layer1.lstm.w_hh.0.bias'} <= set(names(plain))
    state = to_state_dict(net, target='dianet')
    other = get_model('cifar_dia_resnet20bn_v1', layers=2, reduction=8)
    load_state_dict(other, state, source='dianet')
    x = mx.nd.random.normal(shape=(2, 3, 16, 16))
    assert (net(x).asnumpy() == other(x).asnumpy()).all()


def test_dia_of_several_layers_starts_anew_at_each_stage():
    factory = attention_factory(None, 'dia', reduction=2, layers=2)
    first, second, other = (factory(8, stage, block) for stage, block in ((1, 0), (1, 1), (2, 0)))
    assert first.cell is second.cell is not other.cell
    first.initialize()
    out = first(mx.nd.ones((2, 8, 3, 3)), *(mx.nd.ones((2, 4)),) * 7)  # their width and form do not matter
    assert [one.shape for one in out] == [(2, 8, 3, 3), *((2, 8),) * 4]
