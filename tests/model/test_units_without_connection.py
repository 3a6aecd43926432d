"""BAM, SimAM, coordinate and triplet attention, AFF and iAFF against their papers' equations, in float64 NumPy."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import count, get_model, list_models
from model.attention import ATTENTIONS, attention_factory
from model.attention.aff import AFF
from model.attention.bam import BAM
from model.attention.inside import Inside
from model.attention.simam import SimAM
from model.backbone.table import BACKBONES
from model.grammar import attention_names
from model.layers.group_norm import group_norm
from tests.model.test_attention import drawn, units_of

OPTIONS = {
    'bam': {'reduction': 4},
    'simam': {'e_lambda': 0.1},
    'ca': {'reduction': 2},
    'triplet': {},
    'aff': {},
    'iaff': {},
}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def pointwise(v, name, x):
    out = np.einsum('oi,nihw->nohw', v[f'{name}.weight'][:, :, 0, 0], x)
    return out + v[f'{name}.bias'][:, None, None] if f'{name}.bias' in v else out


def normed(v, name, x):
    gamma, beta, mean, variance = (
        v[f'{name}.{key}'][:, None, None] for key in ('gamma', 'beta', 'running_mean', 'running_var')
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def expected_simam(v, x, e_lambda=0.1):
    """Compute equations 5 and 6, position by position: ``x sigmoid(1 / e)``."""
    out = np.empty_like(x)
    for image, channel in np.ndindex(*x.shape[:2]):
        t = x[image, channel]
        mean, variance = t.mean(), t.var(ddof=1)
        energy = 4 * (variance + e_lambda) / ((t - mean) ** 2 + 2 * variance + 2 * e_lambda)
        out[image, channel] = t * sigmoid(1 / energy)
    return out


def expected_ca(v, x):
    """Compute equations 4 to 9."""
    height = x.shape[2]
    rows, columns = x.mean(3, keepdims=True), x.mean(2, keepdims=True).transpose(0, 1, 3, 2)
    f = normed(v, 'norm', pointwise(v, 'squeeze', np.concatenate([rows, columns], 2)))
    f = f * np.clip(f + 3, 0, 6) / 6
    g_h = sigmoid(pointwise(v, 'rows', f[:, :, :height]))
    g_w = sigmoid(pointwise(v, 'columns', f[:, :, height:])).transpose(0, 1, 3, 2)
    return x * g_h * g_w


def dilated(v, name, x, dilation=4):
    """Compute a 3x3 convolution that keeps the size, with its bias."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (dilation, dilation), (dilation, dilation)))
    out = sum(
        np.einsum(
            'oi,nihw->nohw',
            v[f'{name}.weight'][:, :, row, column],
            padded[:, :, row * dilation :, column * dilation :][:, :, :height, :width],
        )
        for row, column in np.ndindex(3, 3)
    )
    return out + v[f'{name}.bias'][:, None, None]


def expected_bam(v, x):
    """Compute equations 1 to 5, with the product of the authors' code."""
    mean = x.mean((2, 3)) @ v['reduce.weight'].T + v['reduce.bias']
    hidden = np.maximum(normed(v, 'norm', mean[:, :, None, None])[:, :, 0, 0], 0)
    channel = hidden @ v['expand.weight'].T + v['expand.bias']
    y = np.maximum(normed(v, 'spatial.1', pointwise(v, 'spatial.0', x)), 0)
    for conv in (3, 6):
        y = np.maximum(normed(v, f'spatial.{conv + 1}', dilated(v, f'spatial.{conv}', y)), 0)
    return x * (1 + sigmoid(channel[:, :, None, None] * pointwise(v, 'spatial.9', y)))


def expected_triplet(v, x):
    """Compute equations 1 to 4, with the rotations of the paper's figure 2."""

    def gated(name, y):
        pooled = np.stack([y.max(1), y.mean(1)], 1)
        padded = np.pad(pooled, ((0, 0), (0, 0), (3, 3), (3, 3)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(2, 3))
        logits = np.einsum('nkabij,okij->noab', windows, v[f'{name}.conv.weight'])
        return y * sigmoid(normed(v, f'{name}.norm', logits))

    by_height = gated('cw', x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    by_width = gated('hc', x.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    return (gated('hw', x) + by_height + by_width) / 3


def mscam(v, name, x):
    """Compute equation 2."""

    def bottleneck(part, y):
        y = np.maximum(normed(v, f'{name}.{part}.1', pointwise(v, f'{name}.{part}.0', y)), 0)
        return normed(v, f'{name}.{part}.4', pointwise(v, f'{name}.{part}.3', y))

    return sigmoid(bottleneck('local', x) + bottleneck('context', x.mean((2, 3), keepdims=True)))


def expected_aff(v, branch, shortcut):
    """Compute equation 3."""
    gate = mscam(v, 'attention', shortcut + branch)
    return gate * shortcut + (1 - gate) * branch


def expected_iaff(v, branch, shortcut):
    """Compute equation 4."""
    first = mscam(v, 'first', shortcut + branch)
    gate = mscam(v, 'attention', first * shortcut + (1 - first) * branch)
    return gate * shortcut + (1 - gate) * branch


def made(name, channels=16, **options):
    unit = drawn(attention_factory(name, **{**OPTIONS[name], **options})(channels, 2, 0))
    rng = np.random.RandomState(7)
    for key, parameter in unit.collect_params().items():
        if key.endswith(('running_mean', 'running_var')):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
    unit.cast('float64')
    return unit


def inputs(name, shape=(3, 16, 5, 7)):
    rng = np.random.RandomState(1)
    return [rng.standard_normal(shape) for _ in range(2 if ATTENTIONS[name].place == 'sum' else 1)]


def values(unit):
    return {key: p.data().asnumpy() for key, p in unit._collect_params_with_prefix().items()}


def test_every_unit_without_connection_has_its_formula_here():
    assert set(OPTIONS) == {name for name, row in ATTENTIONS.items() if not row.connects}


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('name', OPTIONS)
def test_formula(name, hybridize):
    unit, arrays = made(name), inputs(name)
    unit.hybridize(hybridize)
    expected = globals()[f'expected_{name}'](values(unit), *arrays)
    data = [mx.nd.array(array, dtype='float64') for array in arrays]
    np.testing.assert_allclose(unit(*data).asnumpy(), expected, rtol=1e-6, atol=1e-8)
    unit = made(name)
    with autograd.record(train_mode=False):  # the forms with fast gradients
        recorded = unit(*data)
    np.testing.assert_allclose(recorded.asnumpy(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('name', OPTIONS)
def test_gradient_is_the_slope(name):
    unit, points = made(name), inputs(name, (4, 16, 4, 3))
    rng = np.random.RandomState(2)
    directions = [rng.standard_normal(point.shape) for point in points]
    weight = mx.nd.array(rng.standard_normal(points[0].shape), dtype='float64')
    data = [mx.nd.array(point, dtype='float64') for point in points]
    for array in data:
        array.attach_grad()
    with autograd.record():
        (unit(*data) * weight).sum().backward()
    slope = sum(float((array.grad.asnumpy() * way).sum()) for array, way in zip(data, directions))

    def value(step):
        moved = [mx.nd.array(point + step * way, dtype='float64') for point, way in zip(points, directions)]
        with autograd.train_mode():
            return float((unit(*moved) * weight).sum().asscalar())

    assert slope == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-4)


@pytest.mark.parametrize('name', OPTIONS)
def test_a_map_of_one_position_is_finite(name):
    data = [mx.nd.array(array, dtype='float64') for array in inputs(name, (2, 16, 1, 1))]
    unit = made(name)
    for array in data:
        array.attach_grad()
    with autograd.record():
        out = unit(*data)
    out.backward()
    assert all(np.isfinite(array.asnumpy()).all() for array in (out, *(one.grad for one in data)))


def test_doubled():
    arrays = [mx.nd.array(array, dtype='float64') for array in inputs('aff')]
    once, twice = (made('aff', doubled=doubled)(*arrays).asnumpy() for doubled in (False, True))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-12)


def test_a_constant_gate_of_one_half_is_half_the_sum():
    unit = attention_factory('aff')(16, 1, 0)
    unit.initialize(mx.init.Zero())
    for key, parameter in unit.collect_params().items():
        if 'gamma' in key:
            parameter.set_data(mx.nd.zeros(parameter.shape))
    branch, shortcut = (mx.nd.array(array) for array in inputs('aff'))
    np.testing.assert_allclose(unit(branch, shortcut).asnumpy(), ((branch + shortcut) / 2).asnumpy(), atol=1e-6)


@pytest.mark.parametrize('name', ['bam', 'ca', 'triplet', 'aff', 'iaff'])
def test_with_group_norms_too(name):
    unit = attention_factory(name, norm=group_norm, **OPTIONS[name])(16, 2, 0)
    unit.initialize(mx.init.Xavier())
    data = [mx.nd.array(array) for array in inputs(name)]
    out = unit(*data)
    assert np.isfinite(out.asnumpy()).all()
    if 'aff' in name:  # other sizes have other means, and so other gates
        shifted = unit(*(array + 1 for array in data)) - 1
        assert np.abs((shifted - out).asnumpy()).max() > 1e-4


@pytest.mark.parametrize('name', OPTIONS)
def test_they_are_on_every_backbone_with_their_place(name):
    members = [
        ('cifar_' if row.cifar else '', part, member)
        for row in BACKBONES.values()
        for part in attention_names(row)
        if part in (f'{name}_', f'share_{name}_')
        for member in row.listed
    ]
    residual = {key for key in BACKBONES if 'attention' not in key and key != 'semnasnet'}
    if name == 'bam':
        residual = {key for key in residual if 'v1' in key or key in ('resnext', 'wide_resnet')}
    assert {key for key, row in BACKBONES.items() if ATTENTIONS[name].place in row.places} == residual
    expected = {f'{lead}{act}{part}{member}' for lead, part, member in members for act in ('', 'atac_')}
    assert set(list_models(f'*_{name}_*') + list_models(f'{name}_*')) == expected
    with pytest.raises(ValueError, match=rf'dca_.* needs one of se, .*{name}'):
        get_model(f'dca_{name}_resnet50_v1b')


def blocks_of(net, kind):
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, kind) else None)
    return found


def test_where_their_papers_have_them():
    inside = blocks_of(get_model('simam_resnet50_v1b'), Inside)
    assert len(inside) == 16
    assert all(block.before_norm and isinstance(block.unit, SimAM) for block in inside)
    assert {block.unit.e_lambda for block in inside} == {0.1}
    mobile = blocks_of(get_model('ca_mobilenet_v2'), Inside)
    assert [block.unit is None for block in mobile] == [True] + 16 * [False]
    assert not any(block.before_norm for block in mobile)
    assert blocks_of(get_model('simam_resnet50_v1b', inside=False), Inside) == []
    basic = blocks_of(get_model('simam_resnet18_v1b'), Inside)
    assert len(basic) == 8
    assert all(block.activation is None for block in basic)
    assert {unit.e_lambda for unit in units_of(get_model('cifar_simam_resnet11bn_v1'))} == {1e-4}
    assert len(blocks_of(get_model('aff_resnet50_v1b'), AFF)) == 6 + 3
    assert len(blocks_of(get_model('aff_resnet50_v1b', first_stage=1), AFF)) == 16
    # Ten of MobileNetV2's seventeen blocks have a shortcut.
    assert len(blocks_of(get_model('iaff_mobilenet_v2'), AFF)) == 10


def test_bam_stands_in_front_of_the_stages_but_the_first():
    for name, widths in (('bam_resnet50_v1b', [256, 512, 1024]), ('cifar_bam_resnet20_v1', [16, 32])):
        net = get_model(name)
        assert [unit.channels for unit in blocks_of(net, BAM)] == widths
        assert [stage[0].entry is None for stage in net.stages] == [True] + [False] * len(widths)


def test_inside_needs_a_branch_with_room():
    for name in ('cifar_ca_wrn10_1', 'cifar_simam_resnet8_v2'):
        with pytest.raises(ValueError, match=f'{name}: inside is True'):
            get_model(name, inside=True)


def test_options_have_their_rules():
    for name, option, value in (
        ('simam_resnet18_v1b', 'e_lambda', 0),
        ('aff_resnet18_v1b', 'first_stage', 0),
        ('aff_resnet18_v1b', 'doubled', 'yes'),
    ):
        with pytest.raises(ValueError, match=option):
            get_model(name, **{option: value})
    with pytest.raises(ValueError, match='reduction 100'):
        get_model('cifar_aff_resnet11bn_v1', reduction=100)


@pytest.mark.parametrize(
    ('name', 'options', 'params'),
    [
        ('simam_resnet18_v1b', {}, 11.69),  # README of ZjjConan/SimAM
        ('simam_resnet34_v1b', {}, 21.80),
        ('simam_resnet50_v1b', {}, 25.56),
        ('simam_resnet101_v1b', {}, 44.55),
        ('simam_mobilenet_v2', {}, 3.50),
        ('ca_mobilenet_v2', {}, 3.95),  # README of houqb/CoordAttention
        ('triplet_resnet50_v1b', {}, 25.56),  # README of landskape-ai/triplet-attention
        ('triplet_mobilenet_v2', {}, 3.51),
        ('aff_resnet50_v1b', {'deep_stem': True, 'avg_down': True}, 30.3),  # README of YimianDai/open-aff, cut off
        ('iaff_resnet50_v1b', {'deep_stem': True, 'avg_down': True}, 35.1),
        ('cifar_aff_resnet32_v2', {'channels': (64, 64, 128, 256), 'classes': 100}, 7.9),
    ],
)
def test_parameters_are_as_many_as_printed(name, options, params):
    side = 32 if name.startswith('cifar_') else 224
    ours = count(get_model(name, **options), (1, 3, side, side)).params / 1e6
    digits = 1 if 'aff' in name else 2
    cut_off = name.endswith('aff_resnet50_v1b')
    assert (int(ours * 10) / 10 if cut_off else round(ours, digits)) == params


@pytest.mark.parametrize('name', ['cifar_simam_resnet11bn_v1', 'cifar_iaff_wrn10_1'])
def test_they_learn(name):
    mx.random.seed(0)
    net = get_model(name)
    net.initialize(mx.init.MSRAPrelu())
    net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.02, 'momentum': 0.9})
    data = mx.nd.array(np.random.RandomState(0).standard_normal((8, 3, 32, 32)))
    losses = []
    for _ in range(8):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(data), mx.nd.arange(8))
        loss.backward()
        trainer.step(8)
        losses.append(float(loss.mean().asscalar()))
    assert losses[-1] < 0.8 * losses[0]
