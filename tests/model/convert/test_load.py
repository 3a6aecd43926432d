"""Original state dictionaries: wrappers, what is dropped, what is refused, and that a refusal changes nothing."""

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model as gluoncv_model

from environment import UserError
from model import get_model
from model.convert import SOURCES, StateError, load_state_dict, to_state_dict

from .cases import arrays, randomize, residual_attention, small


@pytest.fixture(scope='module')
def state():
    """Return a state of the residual attention network, with the weights that the original never uses."""
    return to_state_dict(randomize(residual_attention()), 'residual-attention')


def load(net, state, **options):
    return load_state_dict(net, state, source='residual-attention', **options)


@pytest.mark.parametrize('source', SOURCES)
def test_there_and_back_is_bitwise_the_same(source):
    net, other = randomize(small(source)), small(source)
    load_state_dict(other, to_state_dict(net, source), source)
    ours, theirs = arrays(net), arrays(other)
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    x = mx.nd.random.normal(shape=(1, 3, 32, 32))
    assert (net(x).asnumpy() == other(x).asnumpy()).all()


@pytest.mark.parametrize('prefix', ['module.', 'module.1.', '1.', 'module.module.'])
@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
def test_wrappers(state, prefix, key):
    wrapped = {prefix + name: array for name, array in state.items()}
    wrapped[prefix + 'conv1.1.num_batches_tracked'] = np.array(7)
    net = residual_attention()
    load(net, wrapped if key is None else {'epoch': 3, key: wrapped, 'optimizer': {}})
    assert (net.fc.weight.data().asnumpy() == state['fc.weight']).all()


def test_a_prefix_of_some_names_only_is_no_wrapper(state):
    renamed = dict(state)
    renamed['module.fc.weight'] = renamed.pop('fc.weight')
    with pytest.raises(StateError) as refused:
        load(residual_attention(), renamed)
    assert refused.value.missing == ['fc.weight']
    assert refused.value.extra == ['module.fc.weight']


def test_unused_weights_are_dropped_by_rule(state):
    unused = load(residual_attention(), state)
    assert 'attention_module1.trunk_branches.0.conv4.weight' in unused
    assert 'residual_block5.conv4.weight' in unused  # keeps width and size
    assert 'residual_block4.conv4.weight' not in unused  # widens
    assert len(unused) == 41  # as many as in the published network
    without = {name: array for name, array in state.items() if name not in unused}
    assert load(residual_attention(), without) == []


def unchanged(net, before):
    after = arrays(net)
    return all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize(
    ('change', 'missing', 'extra', 'wrong', 'words'),
    [
        (lambda s: s.pop('fc.bias'), ['fc.bias'], [], [], '1 missing \\(fc.bias\\)'),
        (lambda s: s.pop('residual_block4.conv4.weight'), ['residual_block4.conv4.weight'], [], [], '1 missing'),
        (lambda s: s.update(more=np.ones(2)), [], ['more'], [], '1 extra \\(more\\)'),
        (
            lambda s: s.update({'fc.weight': np.ones((100, 64)), 'fc.bias': np.ones(100)}),
            [],
            [],
            [('fc.weight', (100, 64), (10, 64)), ('fc.bias', (100,), (10,))],
            r'fc.weight \(100, 64\) where \(10, 64\) is due.*classes',
        ),
        (
            lambda s: s.update({'conv1.0.weight': np.ones((3, 2, 3, 3))}),
            [],
            [],
            [('conv1.0.weight', (3, 2, 3, 3), (2, 3, 3, 3))],
            'another shape',
        ),
    ],
)
@pytest.mark.parametrize('initialized', [True, False])
def test_refusals_say_what_is_wrong_and_change_nothing(state, change, missing, extra, wrong, words, initialized):
    changed = dict(state)
    change(changed)
    net = residual_attention()
    if initialized:
        before = arrays(randomize(net, seed=1))
    with pytest.raises(StateError, match=words) as refused:
        load(net, changed, origin='some.pth')
    assert str(refused.value).startswith('some.pth: ')
    assert (refused.value.missing, refused.value.extra, refused.value.wrong) == (missing, extra, wrong)
    if initialized:
        assert unchanged(net, before)
    else:
        assert all(parameter._data is None for parameter in net.collect_params().values())


def test_many_names_are_cut_short(state):
    some = {name: array for name, array in state.items() if not name.startswith('residual_block')}
    with pytest.raises(StateError, match=r'\d+ missing \((\S+, ){4}\S+ and \d+ more\)') as refused:
        load(residual_attention(), some)
    assert all(name.startswith('residual_block') for name in refused.value.missing)


def test_extents_of_one_may_differ(state):
    vector = dict(state)
    name = 'residual_block4.conv4.weight'
    vector[name] = state[name][:, :, 0, 0]
    net = residual_attention()
    load(net, vector)
    assert (net.stages[3][0].conv4.weight.data().asnumpy() == state[name]).all()
    vector[name] = vector[name].T
    with pytest.raises(StateError, match='another shape'):
        load(residual_attention(), vector)


@pytest.mark.parametrize('dtype', ['float16', 'float64'])
def test_precision_is_the_networks(state, dtype):
    net = residual_attention()
    load(net, {name: array.astype(dtype) for name, array in state.items()})
    assert net.fc.weight.data().dtype == np.float32
    np.testing.assert_allclose(net.fc.weight.data().asnumpy(), state['fc.weight'], rtol=1e-3)


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        ({}, 'no parameters'),
        ({'state_dict': {}}, 'no parameters'),
        ({'fc.bias': 'text'}, 'fc.bias is not an array of numbers but a str'),
        ({'epoch': 3, 'optimizer': {}}, 'optimizer is not an array of numbers but a dict'),
        ({0: np.ones(2)}, 'no state dictionary'),
        ([np.ones(2)], 'holds a list'),
    ],
)
def test_what_is_no_state(wrong, words):
    with pytest.raises(UserError, match=words):
        load(residual_attention(), wrong)


def test_unknown_names(state):
    with pytest.raises(ValueError, match="'dcanets': allowed are .*did you mean 'dcanet'"):
        load_state_dict(residual_attention(), state, source='dcanets')
    with pytest.raises(ValueError, match="'caffe': allowed are 'torch', 'open-atac'"):
        to_state_dict(residual_attention(), 'caffe')


@pytest.mark.parametrize('source', [source for source in SOURCES if source not in ('torch', 'open-atac')])
def test_networks_that_the_original_has_not(source, state):
    for name in ('cifar_atac_resnet8_v2', 'cifar_atac_residual_attention92'):
        with pytest.raises(ValueError, match='no'):
            load_state_dict(get_model(name), state, source)


class Tensor:
    """Stand in for the part of PyTorch's tensors that is used."""

    def __init__(self, array, dtype='torch.float32'):
        self.array, self.dtype, self.trained = array, dtype, True

    def detach(self):
        tensor = Tensor(self.array, self.dtype)
        tensor.trained = False
        return tensor

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array).detach()

    def numpy(self):
        if self.trained or self.dtype != 'torch.float32':
            raise TypeError('NumPy cannot have it')
        return self.array


@pytest.mark.parametrize('dtype', ['torch.float32', 'torch.bfloat16', 'torch.float8_e5m2'])
def test_tensors(state, dtype):
    net = residual_attention()
    load(net, {name: Tensor(array, dtype) for name, array in state.items()})
    assert (net.fc.weight.data().asnumpy() == state['fc.weight']).all()


@pytest.mark.parametrize('value', [[1.0, [2.0]], {'a': 1}, None, np.array(['a']), np.ones(2, complex)])
def test_what_is_no_array(state, value):
    with pytest.raises(UserError, match='fc.bias is not an array of numbers but an? '):
        load(residual_attention(), {**state, 'fc.bias': value})


def test_one_state_dictionary_within_others_and_within_itself(state):
    net = residual_attention()
    load(net, {'model': {'model_state_dict': state, 'args': None}, 'epoch': 3})
    assert (net.fc.weight.data().asnumpy() == state['fc.weight']).all()
    itself = {}
    itself['state_dict'] = itself
    with pytest.raises(UserError, match='state_dict is not an array of numbers but a dict'):
        load(net, itself)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_what_is_not_finite_has_the_originals_name(state, bad):
    net = randomize(residual_attention(), seed=1)
    before = arrays(net)
    wrong = {**state, 'conv1.0.weight': state['conv1.0.weight'].copy()}
    wrong['conv1.0.weight'].flat[0] = bad
    with pytest.raises(UserError, match=r'conv1.0.weight holds NaN or infinity \(1 of its'):
        load(net, {f'module.{name}': array for name, array in wrong.items()})
    assert unchanged(net, before)
    unused = 'residual_block5.conv4.weight'
    load(net, {**state, unused: np.full_like(state[unused], bad)})


def test_a_network_of_gluoncvs_that_has_the_name_of_another_here():
    theirs = gluoncv_model('cifar_resnet20_v1')
    theirs.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    state = {name: np.zeros(p.shape, 'f') for name, p in theirs._collect_params_with_prefix().items()}
    with pytest.raises(StateError, match=r"107 extra .*; by number and size these are .* GluonCV's cifar_resnet20_v1"):
        load_state_dict(get_model('cifar_dia_resnet20bn_v1'), state, 'dianet')
