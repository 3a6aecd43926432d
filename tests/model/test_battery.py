"""What every network must do, whatever its parts."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import count, get_model, input_size, list_models, load_params, save_params
from model.convert import load_state_dict, to_state_dict
from model.count import is_trainable
from tests.inference.networks import QuickPrelu, check_answers, keep_last_statistics

from .cases import CASES, COVERING, HEAVY, WITHOUT_GRADIENT


def images(shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape).astype('float32'))


def of(*cases):
    """Parametrize a class of tests with these networks; each network is built once for all tests."""
    return pytest.mark.parametrize('case', cases, ids=str, indirect=True, scope='module')


@pytest.fixture(scope='module')
def case(request):
    return request.param


@pytest.fixture(scope='module')
def net(case):
    """Return the network after a training step, so that running statistics and weights are not the initial ones.

    The statistics are those of the step's images, as after a long training: with a tenth of them on top of those of the
    start, maps grow from block to block, in deep networks beyond all numbers.
    """
    mx.random.seed(1)
    net = get_model(case.name, **case.options)
    net.initialize(QuickPrelu())
    keep_last_statistics(net)
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 1e-3, 'momentum': 0.9})
    labels = mx.nd.arange(case.input_shape[0])
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(images(case.input_shape)), labels)
    loss.backward()
    trainer.step(case.input_shape[0])
    return net


@of(*CASES, *HEAVY)
def test_shape_and_finiteness(case, net):
    logits = net(images(case.input_shape))
    assert logits.shape == (case.input_shape[0], case.classes)
    assert np.isfinite(logits.asnumpy()).all()


@of(*CASES, *COVERING)
def test_one_image_of_odd_sizes(case, net):
    height, width = case.input_shape[2:]
    logits = net(images((1, 3, height + 1, width + 7)))
    assert logits.shape == (1, case.classes)
    assert np.isfinite(logits.asnumpy()).all()


@of(*CASES, *HEAVY)
@pytest.mark.filterwarnings('ignore:Cannot decide type')  # an exported graph does not say that its input is float32
def test_hybridized_and_exported_it_answers_the_same(case, net, tmp_path):
    data = images(case.input_shape, seed=2)
    net.hybridize(False)
    imperative = net(data)
    for options in ({'static_alloc': True, 'static_shape': True}, {}):
        net.hybridize(True, **options)
        check_answers(net(data), net, data, imperative, 1e-5)
    net.export(str(tmp_path / 'net'))
    net.hybridize(False)
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    check_answers(imported(data), net, data, imperative, 1e-5)


@of(*CASES, *COVERING)
def test_every_way_to_save_brings_all_parameters_back(case, net, tmp_path):
    save_params(net, tmp_path / 'net.params', {'model': case.name})
    state = to_state_dict(net)
    assert [name for name in state if name.endswith(('.gamma', '.alpha'))] == []
    assert all('.connection.' in name for name in state if name.endswith('.beta'))  # DCA's beta, which is not a norm's
    other = get_model(case.name, **case.options)
    load_params(other, tmp_path / 'net.params')
    data = images(case.input_shape, seed=1)
    expected = {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    for name, parameter in other._collect_params_with_prefix().items():
        assert (parameter.data().asnumpy() == expected[name]).all(), name
    # The last bits depend on the memory layout of the weights, and gates that are steps turn them into more.
    check_answers(other(data), net, data, net(data), 1e-5)
    for load in (
        lambda: other.load_parameters(str(tmp_path / 'net.params')),
        lambda: load_state_dict(other, state, 'torch'),
    ):
        parameters = other._collect_params_with_prefix()
        for parameter in parameters.values():
            parameter.set_data(mx.nd.full(parameter.shape, 7))
        load()
        assert parameters.keys() == expected.keys()
        for name, parameter in parameters.items():
            assert (parameter.data().asnumpy() == expected[name]).all(), name


def wake(net):
    """Move parameters away from initial values that block gradients: zeros, and biases that leave a ReLU dead."""
    rng = np.random.RandomState(3)
    for parameter in net.collect_params().values():
        if is_trainable(parameter):
            value = parameter.data()
            if value.ndim == 1:
                value = value.abs() + mx.nd.array(rng.uniform(0.05, 0.3, value.shape), dtype=value.dtype)
            else:
                value = value + mx.nd.array(rng.normal(0, 1e-2, value.shape), dtype=value.dtype)
            parameter.set_data(value)


def starts_from_zero(name, parameters):
    """Return whether a parameter only multiplies a DIA-LSTM's initial state, as its stage has a single block."""
    users = sum(other is parameters[name] for other in parameters.values())
    return name.endswith('cell.state_reduce.weight') and users == 1


def gradients(net, data):
    """Return the gradient of each trained parameter, and the running statistics after a training step."""
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(data), mx.nd.arange(len(data)))
    loss.backward()
    parameters = net._collect_params_with_prefix()
    found = {name: p.grad().asnumpy() for name, p in parameters.items() if is_trainable(p)}
    return found, {name: p.data().asnumpy() for name, p in parameters.items() if 'running' in name}


@of(*CASES, *COVERING)
def test_gradients_reach_every_parameter_and_are_the_same_hybridized(case):
    # Without dropout and zero-initialised gammas, which block gradients by design.
    options = {**case.options, 'final_drop': 0.0}
    options.pop('last_gamma', None)
    options.pop('block_drop', None)
    net = get_model(case.name, **options)
    net.cast('float64')  # so that rounding puts no input of a ReLU on the other side of 0
    parameters = net._collect_params_with_prefix()
    missing = {
        name
        for name, parameter in parameters.items()
        if is_trainable(parameter) and not name.endswith(WITHOUT_GRADIENT) and not starts_from_zero(name, parameters)
    }
    assert missing
    # Half the size, except for GC, whose softmax over space has no gradient on maps of one position.
    shape = (6, 3, *(side if 'gc_' in case.name else side // 2 for side in case.input_shape[2:]))
    # A hidden layer of one or two units may be dead for all images, but not from every initialisation.
    for seed in range(4):
        mx.random.seed(seed)
        net.initialize(mx.init.MSRAPrelu(), force_reinit=True)
        wake(net)
        data = images(shape, seed).astype('float64')
        before = {name: parameters[name].data().copy() for name in parameters if 'running' in name}
        found, statistics = gradients(net, data)
        missing -= {name for name in missing if found[name].any()}
        if seed == 0:
            for name, value in before.items():
                parameters[name].set_data(value)
            net.hybridize(static_alloc=True, static_shape=True)
            for ours, theirs in zip(gradients(net, data), (found, statistics)):
                largest = max(np.abs(value).max() for value in theirs.values()) if theirs else 0
                for name, value in theirs.items():
                    np.testing.assert_allclose(ours[name], value, rtol=1e-6, atol=1e-8 * largest, err_msg=name)
            net.hybridize(False)
        if not missing:
            break
    assert missing == set()


@pytest.mark.parametrize('name', [name for name in list_models() if name.published], ids=str)
def test_published_counts(name):
    side = input_size(name)
    net = get_model(name, **name.published.options)
    assert count(net, (1, 3, side, side)) == (name.params, name.macs)
