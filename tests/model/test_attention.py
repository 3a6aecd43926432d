"""The attention units against their formulas, and what a connection does."""

import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import count, get_model, load_params, save_params
from model.attention import ATTENTIONS, attention_factory
from model.attention.dca import adapter, shrink
from model.attention.dia import LightLSTM
from model.attention.eca import kernel_size
from model.attention.se import SE
from model.layers.carry import split
from model.layers.factories import Convolution, batch_norm

ROOT = Path(__file__).resolve().parents[2]
UNITS = [name for name, row in ATTENTIONS.items() if row.place == 'branch' and row.connects]
CONNECTING = [name for name, row in ATTENTIONS.items() if row.connects]


def units_of(net):
    """Return the attention units of a network, by depth."""
    for child in net._children.values():
        if getattr(child, 'attention', None) is not None:
            yield child.attention
        else:
            yield from units_of(child)


def convolution(channels):
    return Convolution(channels, lambda c: gluon.nn.Activation('relu'), batch_norm)


def made(name, channels=16, **options):
    """Return a single unit with random parameters."""
    row = ATTENTIONS[name]
    unit = attention_factory(name, **options)(channels, 1, 0, 1, convolution(channels) if name == 'sk' else None)
    assert row.place == ('convolution' if name == 'sk' else 'branch')
    return drawn(unit)


def drawn(block, seed=3):
    mx.random.seed(seed)
    block.initialize(mx.init.Normal(0.5))
    rng = np.random.RandomState(seed)
    for parameter in block.collect_params().values():
        if parameter.grad_req != 'null':
            parameter.set_data(mx.nd.array(rng.normal(0.2, 0.5, parameter.shape)))
    return block


def sample(shape=(3, 16, 5, 6), seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape).astype('float32'))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z, axis):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def values(block):
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}


def dense(v, name, x, act=lambda z: z):
    return act(x @ v[f'{name}.weight'].T + v.get(f'{name}.bias', 0))


def relu(z):
    return np.maximum(z, 0)


def expected_se(v, x):
    gate = dense(v, 'expand', dense(v, 'reduce', x.mean((2, 3)), relu), sigmoid)
    return x * gate[:, :, None, None]


@pytest.mark.parametrize(
    ('channels', 'reduction', 'divisor', 'width'), [(64, 16, 8, 8), (256, 16, 8, 16), (36, 4, 8, 16), (40, 4, 1, 10)]
)
def test_se_as_other_projects_have_it(channels, reduction, divisor, width):
    unit = SE(channels, reduction, divisor, bias=False, gate='hard_sigmoid')
    unit.initialize()
    random = np.random.RandomState(0)
    for parameter in unit.collect_params().values():
        parameter.set_data(mx.nd.array(random.standard_normal(parameter.shape)))
    x = random.standard_normal((2, channels, 3, 4)).astype('f')
    v = values(unit)
    assert {name: array.shape for name, array in v.items()} == {
        'reduce.weight': (width, channels),
        'expand.weight': (channels, width),
    }
    gate = dense(v, 'expand', dense(v, 'reduce', x.mean((2, 3)), relu), lambda z: np.clip(z / 6 + 0.5, 0, 1))
    assert gate.min() == 0
    assert gate.max() == 1
    np.testing.assert_allclose(unit(mx.nd.array(x)).asnumpy(), x * gate[:, :, None, None], rtol=1e-4, atol=1e-5)


def test_units_within_branches_are_not_connected():
    with pytest.raises(ValueError, match='leave dca_ out'):
        get_model('dca_se_resnet18_v1b', inside=True)


def expected_ge(v, x):
    return x * sigmoid(x.mean((2, 3), keepdims=True))


def expected_eca(v, x):
    kernel = v['conv.weight'].ravel()
    padded = np.pad(x.mean((2, 3)), ((0, 0), (len(kernel) // 2,) * 2))
    gate = sigmoid(sum(w * padded[:, i : i + x.shape[1]] for i, w in enumerate(kernel)))
    return x * gate[:, :, None, None]


def expected_gc(v, x):
    n, c, h, w = x.shape
    logits = np.einsum('nchw,c->nhw', x, v['mask.weight'].ravel()) + v['mask.bias']
    weights = softmax(logits.reshape(n, -1), 1).reshape(n, 1, h, w)
    hidden = dense(v, 'reduce', (x * weights).sum((2, 3)))
    centred = hidden - hidden.mean(1, keepdims=True)
    hidden = centred / np.sqrt(hidden.var(1, keepdims=True) + 1e-5) * v['norm.gamma'] + v['norm.beta']
    return x + dense(v, 'expand', relu(hidden))[:, :, None, None]


def expected_cbam(v, x):
    def mlp(y):
        return dense(v, 'channel.expand', dense(v, 'channel.reduce', y, relu))

    x = x * sigmoid(mlp(x.mean((2, 3))) + mlp(x.max((2, 3))))[:, :, None, None]
    maps = np.pad(np.stack([x.max(1), x.mean(1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    kernel = v['spatial.conv.weight'][0]
    height, width = x.shape[2:]
    logits = sum(
        kernel[m, i, j] * maps[:, m, i : i + height, j : j + width]
        for m in range(2)
        for i in range(7)
        for j in range(7)
    )
    gamma, beta, mean, var = (v[f'spatial.norm.{k}'] for k in ('gamma', 'beta', 'running_mean', 'running_var'))
    return x * sigmoid((logits - mean) / np.sqrt(var + 1e-5) * gamma + beta)[:, None]


def expected_sge(v, x):
    n, c, h, w = x.shape
    groups = v['affine.weight'].shape[1]
    grouped = x.reshape(n, groups, -1, h, w)
    t = (grouped * grouped.mean((3, 4), keepdims=True)).sum(2)
    t = (t - t.mean((2, 3), keepdims=True)) / (t.std((2, 3), ddof=1, keepdims=True) + 1e-5)
    gate = sigmoid(t * v['affine.weight'] + v['affine.bias'])
    return (grouped * gate[:, :, None]).reshape(x.shape)


@pytest.mark.parametrize('name', UNITS)
def test_formula(name):
    options = {'reduction': 4} if 'reduction' in ATTENTIONS[name].options else {}
    unit = made(name, **({'sge_groups': 4} if name == 'sge' else options))
    x = sample()
    np.testing.assert_allclose(
        unit(x).asnumpy(), globals()[f'expected_{name}'](values(unit), x.asnumpy()), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('name', CONNECTING)
def test_gradient_is_the_slope(name):
    unit = made(name)
    unit.cast('float64')
    rng = np.random.RandomState(1)
    point, direction, weight = rng.standard_normal((3, 4, 16, 4, 4))
    data, weight = mx.nd.array(point, dtype='float64'), mx.nd.array(weight, dtype='float64')
    data.attach_grad()
    with autograd.record():
        (unit(data) * weight).sum().backward()
    slope = float((data.grad.asnumpy() * direction).sum())

    def value(step):
        with autograd.train_mode():
            return float((unit(mx.nd.array(point + step * direction, dtype='float64')) * weight).sum().asscalar())

    assert slope == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-3)


def test_sge_on_one_position_is_finite():
    unit = made('sge')
    x = sample((2, 16, 1, 1))
    x.attach_grad()
    with autograd.record():
        out = unit(x)
    out.backward()
    assert np.isfinite(out.asnumpy()).all()
    assert np.isfinite(x.grad.asnumpy()).all()


@pytest.mark.parametrize(('channels', 'kernel'), [(16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_kernel_of_eca(channels, kernel):
    assert kernel_size(channels) == kernel


def test_the_lstm_is_the_papers():
    cell = drawn(LightLSTM(8, 2))
    v = values(cell)
    y, h, c = (np.random.RandomState(i).standard_normal((3, 8)).astype('float32') for i in range(3))
    gates = dense(v, 'input_expand', dense(v, 'input_reduce', y, relu)) + dense(
        v, 'state_expand', dense(v, 'state_reduce', h, relu)
    )
    i, f, g, o = np.split(gates, 4, 1)
    new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    new_h = sigmoid(o) * sigmoid(new_c)
    ours = cell(*map(mx.nd.array, (y, h, c)))
    for got, expected in zip(ours, (new_h, new_c)):
        np.testing.assert_allclose(got.asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_one_dia_cell_a_stage_counted_and_saved_once(tmp_path):
    net = get_model('cifar_dia_resnet29bn_v1', classes=100)
    assert count(net, (1, 3, 32, 32)) == (555_092, 47_774_720)
    cells = [id(unit.cell) for unit in units_of(net)]
    assert len(cells) == 9
    assert len(set(cells)) == 3
    net.initialize()
    save_params(net, tmp_path / 'dia.params', {})
    again = get_model('cifar_dia_resnet29bn_v1', classes=100)
    load_params(again, tmp_path / 'dia.params')
    x = sample((2, 3, 32, 32))
    assert (net(x).asnumpy() == again(x).asnumpy()).all()
    saved = mx.nd.load(str(tmp_path / 'dia.params'))
    assert sum('cell.input_reduce.weight' in name for name in saved) == 3


def test_dia_starts_anew_at_each_stage():
    factory = attention_factory(None, 'dia', reduction=2)
    first, second, other_stage = (factory(8, stage, block) for stage, block in ((1, 0), (1, 1), (2, 0)))
    assert first.cell is second.cell
    assert first.cell is not other_stage.cell
    for unit in (first, other_stage):
        drawn(unit)
        x = sample((2, 8, 3, 3))
        fresh, carried = unit(x), unit(x, sample((2, 8), 1), sample((2, 8), 2))
        assert all((a.asnumpy() == b.asnumpy()).all() for a, b in zip(fresh, carried))
    x = sample((2, 8, 3, 3))
    zeros = mx.nd.zeros((2, 8))
    assert np.abs((second(x, sample((2, 8), 1), zeros)[0] - second(x, zeros, zeros)[0]).asnumpy()).max() > 1e-4


@pytest.mark.parametrize('name', [name for name, row in ATTENTIONS.items() if row.connects])
def test_what_was_handed_on_changes_the_next_unit(name):
    factory = attention_factory(name, 'dca')
    before = drawn(factory(16, 1, 0, 1, convolution(16) if name == 'sk' else None))
    unit = drawn(factory(32, 2, 0, 2, convolution(32) if name == 'sk' else None))
    assert getattr(before, 'connection', None) is None
    x, carry = split(before(sample((2, 16, 7, 9))))
    assert x.shape == (2, 16, 7, 9)
    assert carry
    y = sample((2, 32, 4, 5), 1)  # what a stride of 2 makes of odd sizes
    out, handed_on = split(unit(y, *carry))
    assert out.shape == y.shape
    assert len(handed_on) == len(carry)
    other, _ = split(unit(y, *(2 * array + 1 for array in carry)))
    assert np.abs((out - other).asnumpy()).max() > 1e-6


def test_units_alone_carry_nothing():
    for name in CONNECTING:
        assert split(made(name)(sample()))[1] == ()


def test_adapters():
    assert adapter(8, 8) is None
    linear, bottleneck = adapter(8, 16), adapter(8, 16, 'bottleneck', 4)
    for layers, params in ((linear, 8 * 16 + 3 * 16), (bottleneck, 8 * 4 + 4 * 16 + 3 * 4 + 3 * 16)):
        assert drawn(layers)(sample((2, 8))).shape == (2, 16)
        assert sum(p.data().size for p in layers.collect_params().values()) == params
    with pytest.raises(ValueError, match='linear.*bottleneck'):
        adapter(8, 16, 'none')


@pytest.mark.parametrize('size', [4, 5, 7, 8])
def test_shrink_meets_a_strided_convolution(size):
    x = sample((1, 2, size, size))
    out = shrink(mx.nd, x, 2).asnumpy()
    assert out.shape[2:] == (-(-size // 2),) * 2
    starts = range(0, size, 2)
    windows = [[x.asnumpy()[:, :, i : i + 2, j : j + 2].mean((2, 3)) for j in starts] for i in starts]
    np.testing.assert_allclose(out, np.moveaxis(np.array(windows), (0, 1), (2, 3)), rtol=1e-5, atol=1e-6)


def test_original_initial_values():
    """DCANet's ResNets start the norm of the connected spatial attention at zero, where it would stay for ever."""
    x, labels = sample((4, 3, 32, 32)), mx.nd.arange(4)
    for original in (False, True):
        net = get_model('cifar_dca_cbam_resnet20bn_v1', original_init=original)
        net.initialize(mx.init.MSRAPrelu())
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), labels)
        loss.backward()
        spatial = list(units_of(net))[-1].spatial
        learns = np.abs(spatial.conv.weight.grad().asnumpy()).max() > 0
        assert learns == (not original)


def test_gc_starts_as_the_identity_unless_asked_otherwise():
    x = sample((3, 64, 5, 6))
    for original in (False, True):
        unit = attention_factory('gc', original_init=original)(64, 1, 0)
        unit.initialize(mx.init.MSRAPrelu())
        assert np.allclose(unit(x).asnumpy(), x.asnumpy()) == (not original)


def test_two_reductions():
    net = get_model('se_mnasnet1_0', reduction=(8, 16))
    widths = [unit.reduce.weight.shape for unit in units_of(net)]
    assert widths[:3] == [(3, 24), (1, 24), (1, 24)]
    with pytest.raises(ValueError, match='two'):
        get_model('se_mnasnet1_0', reduction=(8, 16, 4))


def test_a_reduction_that_leaves_nothing():
    with pytest.raises(ValueError, match='reduction 100'):
        get_model('se_mobilenet_v2', reduction=100)


def test_a_vectors_norm_after_that_of_a_map_of_one_position():
    """In a process of its own, because MXNet used to take one for the other and die of a signal."""
    code = """
import environment, mxnet as mx
from model import get_model
net = get_model('residual_attention92_448', classes=2)
net.initialize()
net(mx.nd.zeros((1, 3, 64, 64))).wait_to_read()
net = get_model('sk_resnet50_v1b', classes=2)
net.initialize()
print(net(mx.nd.zeros((1, 3, 64, 64))).asnumpy().shape)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '(1, 2)\n'), done.stderr
