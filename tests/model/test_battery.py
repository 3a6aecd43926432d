"""What every network must do, whatever it is made of."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import count, get_model, input_size, list_models, load_params, save_params
from model.convert import load_state_dict, to_state_dict
from model.count import is_trainable

from .cases import CASES, HEAVY, WITHOUT_GRADIENT


def images(shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape).astype('float32'))


@pytest.fixture(scope='module', params=[*CASES, *HEAVY], ids=str)
def case(request):
    return request.param


@pytest.fixture(scope='module')
def net(case):
    """The network after one training step, so that running statistics and weights are not those of the start."""
    mx.random.seed(1)
    net = get_model(case.name, **case.options)
    net.initialize(mx.init.MSRAPrelu())
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.01, 'momentum': 0.9})
    labels = mx.nd.arange(case.input_shape[0])
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(images(case.input_shape)), labels)
    loss.backward()
    trainer.step(case.input_shape[0])
    return net


def same(ours, theirs, tolerance=1e-5):
    ours, theirs = ours.asnumpy(), theirs.asnumpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_shape_and_finiteness(case, net):
    logits = net(images(case.input_shape))
    assert logits.shape == (case.input_shape[0], case.classes)
    assert np.isfinite(logits.asnumpy()).all()


def test_pytorchs_names_and_back(case, net):
    state = to_state_dict(net)
    assert [name for name in state if name.endswith(('.gamma', '.alpha'))] == []
    assert all('.connection.' in name for name in state if name.endswith('.beta'))  # DCA's share, which is no norm's
    if case not in CASES:  # larger ones of the same parts
        return
    other = get_model(case.name, **case.options)
    load_state_dict(other, state, 'torch')
    ours = net._collect_params_with_prefix()
    for name, parameter in other._collect_params_with_prefix().items():
        assert (parameter.data().asnumpy() == ours[name].data().asnumpy()).all(), name


def wake(net):
    """Move parameters away from initial values that stop gradients: zeros, and biases that leave a ReLU dead."""
    rng = np.random.RandomState(3)
    for parameter in net.collect_params().values():
        if is_trainable(parameter):
            value = parameter.data()
            if value.ndim == 1:
                value = value.abs() + mx.nd.array(rng.uniform(0.05, 0.3, value.shape), dtype=value.dtype)
            else:
                value = value + mx.nd.array(rng.normal(0, 1e-2, value.shape), dtype=value.dtype)
            parameter.set_data(value)


def test_one_image_of_odd_sizes(case, net):
    height, width = case.input_shape[2:]
    logits = net(images((1, 3, height + 1, width + 7)))
    assert logits.shape == (1, case.classes)
    assert np.isfinite(logits.asnumpy()).all()


def starts_from_zero(name, parameters):
    """Whether it only ever multiplies the state that a DIA-LSTM starts from: its stage has one block."""
    users = sum(other is parameters[name] for other in parameters.values())
    return name.endswith('cell.state_reduce.weight') and users == 1


def test_gradients_reach_every_parameter(case):
    # Without dropout and zero-initialised gammas, which stop gradients by design.
    options = {**case.options, 'final_drop': 0.0}
    options.pop('last_gamma', None)
    net = get_model(case.name, **options)
    parameters = net._collect_params_with_prefix()
    missing = [
        name
        for name, parameter in parameters.items()
        if is_trainable(parameter) and not name.endswith(WITHOUT_GRADIENT) and not starts_from_zero(name, parameters)
    ]
    assert missing
    # A hidden layer of one or two units may be dead for all images; not from every start.
    for seed in range(4):
        mx.random.seed(seed)
        net.initialize(mx.init.MSRAPrelu(), force_reinit=True)
        wake(net)
        with autograd.record():
            logits = net(images((8, *case.input_shape[1:]), seed))
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(logits, mx.nd.array(np.arange(8)))
        loss.backward()
        missing = [name for name in missing if not np.abs(parameters[name].grad().asnumpy()).max() > 0]
        if not missing:
            break
    assert missing == []


def test_hybrid_equals_imperative(case, net):
    data = images(case.input_shape)
    net.hybridize(False)
    imperative = net(data)
    for options in ({}, {'static_alloc': True, 'static_shape': True}):
        net.hybridize(True, **options)
        same(net(data), imperative)
    net.hybridize(False)


def test_training_step_is_the_same_hybridized(case):
    results = []
    for hybridize in (False, True):
        mx.random.seed(3)
        net = get_model(case.name, **{**case.options, 'final_drop': 0.0})
        net.initialize(mx.init.MSRAPrelu())
        if hybridize:
            net.hybridize(static_alloc=True, static_shape=True)
        with autograd.record():
            out = net(images(case.input_shape))
            loss = (out * out).mean()
        loss.backward()
        norms = [p.grad().norm().asscalar() for p in net._collect_params_with_prefix().values() if is_trainable(p)]
        statistics = [p.data().asnumpy() for name, p in net._collect_params_with_prefix().items() if 'running' in name]
        results.append((np.array(norms), statistics))
    (norms, statistics), (hybrid_norms, hybrid_statistics) = results
    floor = 1e-3 * np.median(norms) + 1e-5 * norms.max()
    np.testing.assert_allclose(hybrid_norms, norms, rtol=2e-2, atol=floor)
    for ours, theirs in zip(hybrid_statistics, statistics):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_save_and_reload(case, net, tmp_path):
    save_params(net, tmp_path / 'net.params', {'model': case.name})
    ours, gluons = (get_model(case.name, **case.options) for _ in range(2))
    load_params(ours, tmp_path / 'net.params')
    gluons.load_parameters(str(tmp_path / 'net.params'))
    data = images(case.input_shape, seed=1)
    expected = net(data)
    assert (ours(data).asnumpy() == expected.asnumpy()).all()
    assert (gluons(data).asnumpy() == expected.asnumpy()).all()


@pytest.mark.filterwarnings('ignore:Cannot decide type')  # an exported graph does not say that its input is float32
def test_export_and_import(case, net, tmp_path):
    data = images(case.input_shape, seed=2)
    net.hybridize(True)
    expected = net(data)
    net.export(str(tmp_path / 'net'))
    net.hybridize(False)
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    same(imported(data), expected)


@pytest.mark.parametrize('name', [name for name in list_models() if name.published], ids=str)
def test_published_counts(name):
    side = input_size(name)
    net = get_model(name, **name.published.options)
    assert count(net, (1, 3, side, side)) == (name.params, name.macs)
