"""DCA's options: the forms of its merge against their formulas, connections within stages, or of one CBAM attention."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from inference.explain.connection import reliance
from model import count, get_model
from model.attention.dca import MERGES, Merge, merge_of

FORMS = {
    'sum': lambda u, v: u + v,
    'weighted': lambda u, v: (u * u + v * v) / (u + v),
    'softmax': lambda u, v: (np.exp(u) * u + np.exp(v) * v) / (np.exp(u) + np.exp(v)),
}


def drawn(form, seed=0):
    block = merge_of(form, 5)
    block.initialize()
    block.cast('float64')
    rng = np.random.RandomState(seed)
    for parameter in block.collect_params().values():
        parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape), dtype='float64'))
    return block


def arrays():
    rng = np.random.RandomState(1)
    return [rng.uniform(0.2, 2, (3, 5)) for _ in range(3)]  # of one sign, because the weighted form may have a pole


@pytest.mark.parametrize('form', FORMS)
def test_the_papers_formulas_and_their_gradients(form):
    block, (current, previous, weights) = drawn(form), arrays()
    a, b = block.p1.data().asscalar(), block.p2.data().asscalar()

    def loss(a, b, current, previous):
        return (weights * FORMS[form](a * current, b * previous)).sum()

    given = [mx.nd.array(one, dtype='float64') for one in (current, previous)]
    for one in given:
        one.attach_grad()
    with autograd.record():
        out = block(*given)
        total = (mx.nd.array(weights, dtype='float64') * out).sum()
    total.backward()
    np.testing.assert_allclose(out.asnumpy(), FORMS[form](a * current, b * previous), rtol=1e-10)
    by_numbers = [
        (loss(a + da, b + db, current, previous) - loss(a - da, b - db, current, previous)) / 2e-6
        for da, db in ((1e-6, 0), (0, 1e-6))
    ]
    assert [block.p1.grad().asscalar(), block.p2.grad().asscalar()] == pytest.approx(by_numbers, rel=1e-6)
    for array, which in zip(given, (0, 1)):
        step = np.zeros((3, 5))
        step[1, 2] = 1e-6
        moved = [
            [x + (sign * step if k == which else 0) for k, x in enumerate((current, previous))] for sign in (1, -1)
        ]
        slope = (loss(a, b, *moved[0]) - loss(a, b, *moved[1])) / 2e-6
        assert array.grad.asnumpy()[1, 2] == pytest.approx(slope, rel=1e-6)


def test_they_start_as_if_there_were_no_connection():
    current, previous, _ = (mx.nd.array(one) for one in arrays())
    for form in ('sum', 'weighted'):
        block = merge_of(form, 5)
        block.initialize()
        np.testing.assert_allclose(block(current, previous).asnumpy(), current.asnumpy(), rtol=1e-6)


def test_the_weighted_form_of_nothing_is_nothing():
    block = drawn('weighted')
    zeros = mx.nd.zeros((2, 5), dtype='float64')
    zeros.attach_grad()
    with autograd.record():
        out = block(zeros, zeros)
    out.backward()
    assert (out.asnumpy() == 0).all()
    assert np.isfinite(zeros.grad.asnumpy()).all()


def test_the_repositorys_form_is_the_default():
    net = get_model('cifar_dca_se_resnet20bn_v1')
    assert isinstance(net.layer1[1].attention.connection.merge, Merge)
    assert MERGES[0] == 'learned'


@pytest.mark.parametrize('unit', ['se', 'ge', 'eca', 'sk', 'cbam'])
def test_every_unit_of_vectors_takes_the_forms(unit):
    shape, name = (1, 3, 32, 32), f'cifar_dca_{unit}_resnet20bn_v1'
    learned = count(get_model(name), shape).params
    direct = get_model(name, merge='sum')
    # 1x1 convolution 2 -> 1 and layer norm against two numbers, in all units but the first; SK has two.
    bias = {'cbam': 0}.get(unit, 1)
    widths = [16, 32, 32, 64, 64] if unit == 'sk' else [64, 128, 128, 256, 256]
    assert learned - count(direct, shape).params == sum((1 + (unit == 'sk')) * (bias + 2 * width) for width in widths)


@pytest.mark.parametrize('unit', ['se', 'gc', 'cbam', 'sge', 'sk'])
def test_within_stages_only(unit):
    net = get_model(f'cifar_dca_{unit}_resnet20bn_v1', through_stages=False)
    net.initialize()
    for stage in net.stages:
        first, second = ((block.attention or block.select) for block in stage)
        parts = (
            [(first, second)] if unit != 'cbam' else [(first.channel, second.channel), (first.spatial, second.spatial)]
        )
        for one, other in parts:
            assert one.connection is None
            assert getattr(other.connection, 'adapter', None) is None  # a stage has a single width
    assert net(mx.nd.ones((2, 3, 32, 32))).shape == (2, 10)
    x = mx.nd.random.normal(shape=(2, 64, 8, 8))
    if unit == 'se':
        unit = net.layer2[0].attention
        y = mx.nd.random.normal(shape=(2, 128, 4, 4))
        assert (unit(y)[0].asnumpy() == unit(y, x.mean(axis=(2, 3)))[0].asnumpy()).all()


def test_one_of_cbams_attentions():
    found = {}
    for connected in ('channel', 'spatial', 'both'):
        net = get_model('cifar_dca_cbam_resnet20bn_v1', connected=connected)
        net.initialize()
        unit = net.layer1[1].attention
        there = [name for name in ('channel', 'spatial') if getattr(unit, name).connection is not None]
        assert there == ([connected] if connected != 'both' else ['channel', 'spatial'])
        assert net(mx.nd.ones((2, 3, 32, 32))).shape == (2, 10)
        found[connected] = count(net, (1, 3, 32, 32)).params
        assert {each.part for each in reliance(net)} == set(there)
    plain = count(get_model('cifar_cbam_resnet20bn_v1'), (1, 3, 32, 32)).params
    assert found['channel'] - plain + found['spatial'] - plain == found['both'] - plain


def test_what_was_handed_on_is_read_off_the_other_forms():
    net = get_model('cifar_dca_se_resnet20bn_v1', merge='softmax')
    net.initialize()
    net.layer2[1].attention.connection.merge.p2.set_data(mx.nd.array([-3]))
    images = np.random.RandomState(0).standard_normal((2, 3, 32, 32)).astype('float32')
    found = {each.place: each for each in reliance(net, images)}
    assert len(found) == 5
    assert found['2.1'].weight == pytest.approx(0.75)
    assert 0 < found['2.1'].signal < 1
    assert found['3.0'].weight == 0


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('dca_se_resnet18_v1b', {'merge': 'concat'}, ["merge is 'concat'", "'softmax'"]),
        ('dca_se_resnet18_v1b', {'merge': 'sum', 'merge_bias': True}, ['merge_bias is True', 'leave merge_bias out']),
        ('dca_cbam_resnet18_v1b', {'connected': 'none'}, ["connected is 'none'", "'channel'"]),
        ('dca_se_resnet18_v1b', {'connected': 'channel'}, ["no argument 'connected'"]),
        ('dca_gc_resnet18_v1b', {'merge': 'sum'}, ["no argument 'merge'"]),
        ('se_resnet18_v1b', {'through_stages': False}, ["no argument 'through_stages'"]),
    ],
)
def test_choices_that_make_no_sense(name, options, words):
    with pytest.raises(ValueError) as caught:
        get_model(name, **options)
    assert [word for word in words if word not in str(caught.value)] == []
