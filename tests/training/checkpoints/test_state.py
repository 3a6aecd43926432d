"""A restored network and trainer continue with the same bits as if they had never stopped."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from environment import UserError
from training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from training.checkpoints.state import OPTIMIZERS, capture, restore
from training.optim.layout import restore_plain_layout
from training.optim.muon import Muon

STEPS = 5
SETTINGS = {
    'SGD': {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 1e-3},
    'NAG': {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 1e-3},
    Muon.__name__: {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 1e-3, 'matrices': [0]},  # the convolution's weight
}
CPU, TWO = [mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]


class Network(gluon.HybridBlock):
    """A network of a convolution, batch norm, dropout, and two dense layers that share their parameters."""

    def __init__(self, width=8, in_channels=0, dropout=0.3):
        super().__init__()
        with self.name_scope():
            self.conv = gluon.nn.Conv2D(width, 3, in_channels=in_channels, use_bias=False)
            self.norm = gluon.nn.BatchNorm(in_channels=width if in_channels else 0)
            self.drop = gluon.nn.Dropout(dropout)
            self.dense = gluon.nn.Dense(6, in_units=6)
            self.again = gluon.nn.Dense(6, in_units=6, params=self.dense.params)
            self.pool = gluon.nn.Dense(6, in_units=0)

    def hybrid_forward(self, F, x):
        x = self.pool(self.drop(F.relu(self.norm(self.conv(x)))))
        return self.again(F.relu(self.dense(x)))


def trained_once(net):
    """Return the parameters to train, shared ones once."""
    return list({id(p): p for p in net._collect_params_with_prefix().values() if p.grad_req != 'null'}.values())


def build(optimizer='NAG', dtype='float32', hybrid=False, contexts=CPU, on_store=False, settings=None, **network):
    net = Network(**network)
    net.cast(dtype)
    net.initialize(ctx=contexts)
    if hybrid:
        net.hybridize(static_alloc=True, static_shape=True)
    values = dict(SETTINGS.get(optimizer, {'wd': 1e-3}), multi_precision=dtype == 'float16', **(settings or {}))
    store = 'device' if len(contexts) > 1 else None
    return net, gluon.Trainer(trained_once(net), optimizer, values, kvstore=store, update_on_kvstore=on_store)


def step(net, trainer, number):
    """Take a step with data and dropout that only depend on its number."""
    mx.random.seed(number)
    random = np.random.RandomState(number)
    contexts = trainer._contexts
    dtype = np.dtype(net.conv.weight.dtype)
    images = mx.nd.array(random.rand(8, 3, 6, 6), dtype=dtype)
    labels = mx.nd.array(random.randint(0, 6, 8))
    parts = zip(gluon.utils.split_and_load(images, contexts), gluon.utils.split_and_load(labels, contexts))
    with autograd.record():
        losses = [gluon.loss.SoftmaxCrossEntropyLoss()(net(x).astype('float32'), y) for x, y in parts]
    autograd.backward(losses)
    trainer.step(8)


def bits(net, trainer):
    """Return every bit that training depends on, from where MXNet keeps it."""
    parameters = {
        name: [array.asnumpy().tobytes() for array in parameter.list_data()]
        for name, parameter in net._collect_params_with_prefix().items()
    }

    def flat(state):
        if isinstance(state, (tuple, list)):
            return [flat(part) for part in state]
        return None if state is None else state.asnumpy().tobytes()

    updaters = [trainer._kvstore._updater] if trainer._update_on_kvstore else trainer._updaters
    # Objects that are built later have other numbers, so structural names are used.
    names = {p: name for name, p in reversed(list(net._collect_params_with_prefix().items()))}
    states = [{names[trainer._params[i]]: flat(state) for i, state in updater.states.items()} for updater in updaters]
    return parameters, states, trainer.optimizer.num_update


def run(net, trainer, start, stop):
    for number in range(start, stop):
        step(net, trainer, number)


def assert_resumes(tmp_path, **settings):
    net, trainer = build(**settings)
    run(net, trainer, 0, STEPS)
    write_checkpoint(tmp_path / 'c', capture(net, trainer))
    run(net, trainer, STEPS, 2 * STEPS)
    expected = bits(net, trainer)

    net, trainer = build(**settings)
    before = {name: p for name, p in net._collect_params_with_prefix().items() if p._data is None}
    assert before, 'the test wants parameters whose initialisation is deferred'
    restore(net, trainer, read_checkpoint(tmp_path / 'c'))
    run(net, trainer, STEPS, 2 * STEPS)
    assert bits(net, trainer) == expected


@pytest.mark.parametrize('hybrid', [False, True])
@pytest.mark.parametrize('optimizer', ['NAG', 'SGD', 'Adam'])
def test_five_steps_restored_and_five_more_are_ten_steps(tmp_path, optimizer, hybrid):
    assert_resumes(tmp_path, optimizer=optimizer, hybrid=hybrid)


@pytest.mark.parametrize('optimizer', sorted(set(OPTIMIZERS) - {'NAG', 'SGD', 'Adam'}))
def test_every_optimizer_that_is_said_to_resume_does(tmp_path, optimizer):
    assert_resumes(tmp_path, optimizer=optimizer)


@pytest.mark.parametrize('optimizer', ['NAG', 'SGD'])
def test_resumes_without_momentum(tmp_path, optimizer):
    assert_resumes(tmp_path, optimizer=optimizer, settings={'momentum': 0.0})


@pytest.mark.parametrize('on_store', [False, True])
def test_resumes_on_two_devices_with_their_own_running_statistics(tmp_path, on_store):
    assert_resumes(tmp_path, contexts=TWO, on_store=on_store)


def test_two_devices_differ_in_running_statistics_and_keep_both():
    net, trainer = build(contexts=TWO)
    run(net, trainer, 0, 1)
    tree = capture(net, trainer)
    assert set(tree['device_copies']) == {'norm.running_mean', 'norm.running_var'}


def test_goes_back_in_the_same_objects():
    net, trainer = build('Adam')
    run(net, trainer, 0, STEPS)
    tree = capture(net, trainer)
    run(net, trainer, STEPS, 2 * STEPS)
    expected = bits(net, trainer)
    restore(net, trainer, tree)
    run(net, trainer, STEPS, 2 * STEPS)
    assert bits(net, trainer) == expected


def test_a_captured_state_does_not_change_with_the_network():
    net, trainer = build()
    run(net, trainer, 0, 1)
    tree = capture(net, trainer)
    weight = tree['parameters']['conv.weight'].copy()
    run(net, trainer, 1, 3)
    assert np.array_equal(tree['parameters']['conv.weight'], weight)
    assert not np.array_equal(net.conv.weight.data().asnumpy(), weight)


@pytest.mark.parametrize('on_store', [False, True])
def test_before_the_first_step_there_are_no_optimizer_states(on_store):
    contexts = TWO if on_store else CPU
    net, trainer = build(contexts=contexts, on_store=on_store)
    net(mx.nd.zeros((1, 3, 6, 6), ctx=contexts[0]))
    restore_plain_layout(net)
    tree = capture(net, trainer)
    assert tree['optimizer']['states'] == {}
    run(net, trainer, 0, STEPS)
    again, its_trainer = build(contexts=contexts, on_store=on_store)
    run(again, its_trainer, 50, 52)  # its states must be replaced
    restore(again, its_trainer, tree)
    run(again, its_trainer, 0, STEPS)
    assert bits(again, its_trainer) == bits(net, trainer)


@pytest.mark.parametrize(('before', 'after'), [(CPU, TWO), (TWO, CPU)])
def test_another_number_of_devices_takes_the_parameters_of_the_first(before, after):
    net, trainer = build(contexts=before)
    run(net, trainer, 0, STEPS)
    tree = capture(net, trainer)
    net, trainer = build(contexts=after)
    restore(net, trainer, tree)
    for name, parameter in net._collect_params_with_prefix().items():
        if name in tree['parameters']:
            for array in parameter.list_data():
                assert array.asnumpy().tobytes() == tree['parameters'][name].tobytes()
    run(net, trainer, STEPS, STEPS + 1)
    assert set(trainer.optimizer._all_index_update_counts[0].values()) == {STEPS + 1}


def test_shared_parameters_are_saved_once():
    net, trainer = build()
    run(net, trainer, 0, 1)
    names = set(capture(net, trainer)['parameters'])
    assert {'dense.weight', 'dense.bias'} <= names
    assert not {'again.weight', 'again.bias'} & names


class Scales(gluon.HybridBlock):
    """A network of element-wise products, which CPUs can compute in float16."""

    def __init__(self):
        super().__init__()
        self.a = self.params.get('a', shape=(5,), init=mx.init.Uniform(1))
        self.b = self.params.get('b', shape=(5,), init=mx.init.Uniform(1))

    def hybrid_forward(self, F, x, a, b):
        return F.tanh(x * a) * b


@pytest.mark.parametrize('optimizer', ['NAG', 'SGD', 'Adam'])
def test_float16_keeps_its_float32_masters(tmp_path, optimizer):
    def build_scales():
        net = Scales()
        net.cast('float16')
        net.initialize()
        settings = dict(SETTINGS.get(optimizer, {}), multi_precision=True)
        return net, gluon.Trainer(net.collect_params(), optimizer, settings)

    def run_scales(net, trainer, start, stop):
        for number in range(start, stop):
            with autograd.record():
                loss = net(mx.nd.array(np.random.RandomState(number).rand(5), dtype='float16'))
            loss.backward()
            trainer.step(4)

    net, trainer = build_scales()
    run_scales(net, trainer, 0, STEPS)
    write_checkpoint(tmp_path / 'c', capture(net, trainer))
    run_scales(net, trainer, STEPS, 2 * STEPS)
    expected = bits(net, trainer)
    masters = [part for part in trainer._updaters[0].states[0] if getattr(part, 'dtype', None) == np.float32]
    assert masters
    assert net.a.data().dtype == np.float16
    net, trainer = build_scales()
    restore(net, trainer, read_checkpoint(tmp_path / 'c'))
    run_scales(net, trainer, STEPS, 2 * STEPS)
    assert bits(net, trainer) == expected


@pytest.mark.parametrize(
    ('dtype', 'integer', 'patterns'),
    [
        ('float32', np.uint32, [0x7FC00001, 0xFFC12345, 0x80000000, 1, 0x7F800000]),
        ('float16', np.uint16, [0x7E01, 0xFE45, 0x8000, 1, 0x7C00]),
    ],
)
def test_nans_negative_zeros_and_denormals_keep_their_bits(tmp_path, dtype, integer, patterns):
    values = np.array(patterns, integer).view(dtype)
    net = Scales()
    net.cast(dtype)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'momentum': 0.9, 'multi_precision': True})
    net.a.set_data(mx.nd.array(values, dtype=dtype))
    write_checkpoint(tmp_path / 'c', capture(net, trainer))
    net.a.set_data(mx.nd.zeros(5, dtype=dtype))
    restore(net, trainer, read_checkpoint(tmp_path / 'c'))
    assert net.a.data().asnumpy().tobytes() == values.tobytes()


def dense_pair(first, second, **settings):
    """A network of two layers whose order in a trainer follows from their prefixes, like that of conv9 and conv10."""
    net = gluon.nn.HybridSequential(prefix='')
    net.add(gluon.nn.Dense(3, in_units=3, prefix=first), gluon.nn.Dense(3, in_units=3, prefix=second))
    net.initialize()
    return net, gluon.Trainer(net.collect_params(), 'nag', {'momentum': 0.9, **settings})


def test_parameters_are_matched_by_structure_not_by_order():
    def run_pair(net, trainer, start, stop):
        for number in range(start, stop):
            with autograd.record():
                loss = net(mx.nd.array(np.random.RandomState(number).rand(2, 3))).square()
            loss.backward()
            trainer.step(2)

    net, trainer = dense_pair('a_', 'b_')
    run_pair(net, trainer, 0, STEPS)
    tree = capture(net, trainer)
    run_pair(net, trainer, STEPS, 2 * STEPS)
    other, its_trainer = dense_pair('b_', 'a_')
    assert [p.name[:1] for p in its_trainer._params] == ['a', 'a', 'b', 'b']
    restore(other, its_trainer, tree)
    run_pair(other, its_trainer, STEPS, 2 * STEPS)
    assert bits(other, its_trainer) == bits(net, trainer)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda tree: tree['parameters'].pop('norm.gamma'), ['lacks parameter norm.gamma of shape (0,)']),
        (
            lambda tree: tree['parameters'].update(new=np.zeros((2, 3), 'f')),
            ['no parameter new of shape (2, 3)'],
        ),
        (
            lambda tree: tree['parameters'].update({'dense.weight': np.zeros((6, 7), 'f')}),
            ['dense.weight has shape (6, 7) in it and (6, 6) here'],
        ),
        (
            lambda tree: tree['parameters'].update({'dense.bias': np.zeros(6, 'f2')}),
            ['dense.bias is float16 in it and float32 here'],
        ),
        (lambda tree: tree['optimizer'].update(name='Adam'), ['optimizer Adam', 'uses NAG']),
        (
            lambda tree: tree['optimizer']['states'].update({'norm.gamma': None}),
            ['NAG state of parameter norm.gamma'],
        ),
        (
            lambda tree: tree['optimizer']['states'].update({'dense.bias': np.zeros(5, 'f')}),
            ['NAG state of parameter dense.bias'],
        ),
        (
            lambda tree: tree['optimizer']['states'].update({'norm.running_mean': None}),
            ['trained parameter norm.running_mean'],
        ),
        (lambda tree: tree.pop('parameters'), ['lacks parameters']),
        (lambda tree: tree['optimizer'].pop('num_update'), ['optimizer lacks num_update']),
    ],
)
def test_another_state_is_refused_with_its_first_difference_and_changes_nothing(change, words):
    net, trainer = build()
    run(net, trainer, 0, 2)
    tree = capture(net, trainer)
    change(tree)
    fresh, its_trainer = build()
    with pytest.raises(UserError) as caught:
        restore(fresh, its_trainer, tree, source='checkpoints/x.ckpt')
    for word in ['checkpoints/x.ckpt', *words]:
        assert word in str(caught.value)
    assert fresh.conv.weight._data is None, 'a parameter was set although the state does not fit'
    assert its_trainer.optimizer.num_update == 0

    run(fresh, its_trainer, 10, 12)
    before = bits(fresh, its_trainer)
    with pytest.raises(UserError):
        restore(fresh, its_trainer, tree)
    assert bits(fresh, its_trainer) == before


def test_a_wider_network_is_refused_where_it_first_differs():
    net, trainer = build(in_channels=3)
    run(net, trainer, 0, 1)
    tree = capture(net, trainer)
    wider, its_trainer = build(in_channels=3, width=16)
    with pytest.raises(UserError, match=r'conv\.weight has shape \(8, 3, 3, 3\) in it and \(16, 3, 3, 3\) here'):
        restore(wider, its_trainer, tree)


def test_capture_says_what_it_cannot_save():
    net, trainer = build()
    with pytest.raises(ValueError, match=r'conv\.weight has no values yet'):
        capture(net, trainer)
    run(net, trainer, 0, 1)
    with pytest.raises(ValueError, match='optimizer Nadam'):
        capture(net, gluon.Trainer(trained_once(net), 'nadam'))
    with pytest.raises(ValueError, match='twice'):
        capture(net, gluon.Trainer([net.conv.weight, net.conv.weight], 'sgd'))
    with pytest.raises(ValueError, match='not a parameter of the network'):
        capture(net, gluon.Trainer(build()[0].collect_params(), 'sgd'))
    with pytest.raises(ValueError, match='parameter servers'):
        capture(net, gluon.Trainer(trained_once(net), 'sgd', kvstore='dist_sync'))
    trainer = gluon.Trainer(trained_once(net), 'sgd')
    trainer._amp_loss_scaler = object()  # what mxnet.contrib.amp.init_trainer leaves there
    with pytest.raises(ValueError, match='loss scale'):
        capture(net, trainer)
