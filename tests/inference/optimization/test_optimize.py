"""inference.optimize: the same outputs for every network, and clear refusals."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from environment import UserError
from environment.cpu import lacks
from inference import optimize
from inference.engine.network import why_not
from inference.graph import trace
from inference.optimization.fold import fold
from inference.optimization.onednn import has_onednn
from inference.optimization.proof import difference
from model import get_model
from tests.inference.networks import check_answers, images, make, planned
from tests.model.cases import CASES, COVERING, HEAVY

needs_engine = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')
needs_bfloat16 = pytest.mark.skipif(bool(lacks('bfloat16')), reason='this processor has no bfloat16')
needs_int8 = pytest.mark.skipif(bool(lacks('int8')), reason='this processor has no int8 instructions')


@pytest.mark.parametrize('case', [*CASES, *HEAVY], ids=str)
def test_every_network_answers_the_same(case):
    net = make(case.name, case.input_shape, **case.options)
    data = images(case.input_shape)
    expected = net(data)
    for piece in (1, case.input_shape[0]) if case in CASES else (1,):
        fast = optimize(net, case.input_shape, piece=piece)
        check_answers(fast(data), net, data, expected, 1e-4)
        # Batches of other sizes than it was made for.
        check_answers(fast(data[:3]), net, data[:3], expected[:3], 1e-4)
    if why_not() is None:
        ways = ((1, True), (2, False))
        if case not in (*CASES, *(param.values[0] for param in COVERING)):  # which have every part both ways
            ways = ways[len(case.name) % 2 :][:1]
        for threads, by_image in ways:
            own = planned(net, case.input_shape, threads, by_image=by_image)
            check_answers(own(data), net, data, expected)


# At the published input size, with whichever cut is the fastest there.
FULL_SIZE = (
    'resnet50_v1b',
    'dca_se_resnet50_v1b',
    'sk_resnet50_v1b',
    'cbam_mobilenet_v2',
    'residual_attention56',
)


@pytest.mark.heavy
@pytest.mark.parametrize(('name', 'batch'), [(name, (1, 2)[place % 2]) for place, name in enumerate(FULL_SIZE)])
def test_full_size(name, batch):
    shape = (batch, 3, 224, 224)
    net = make(name, (2, 3, 112, 112))  # which is enough to set the running statistics
    fast = optimize(net, shape)
    data = images(shape)
    expected = net(data)
    check_answers(fast(data), net, data, expected, 1e-4)


NAMES = ('cifar_resnet8_v2', 'cifar_se_resnet11bn_v1', 'cifar_atac_resnet8_v2', 'cifar_dca_sk_resnet11bn_v1')
SHAPE = (4, 3, 32, 32)


@needs_bfloat16
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('piece', [1, 4])
def test_bfloat16(name, piece):
    net = make(name, SHAPE)
    fast = optimize(net, SHAPE, 'bfloat16', piece=piece)
    data = images(SHAPE)
    answer = fast(data)
    assert answer.dtype == np.float32
    # Eight bits of mantissa, and really computed with them.
    assert 1e-5 < difference(answer, net(data)) < 3e-2


@needs_int8
@pytest.mark.parametrize('name', NAMES)
def test_int8(name, capfd):
    net = make(name, SHAPE)
    calibration = images((32, 3, 32, 32), 5)
    fast = optimize(net, SHAPE, 'int8', calibration=calibration, piece=4)  # ranges of single images
    assert capfd.readouterr().err == ''  # MXNet's quantizer would print something about every gate
    data = images(SHAPE, 6)
    assert 1e-4 < difference(fast(data), net(data)) < 0.2
    operators = fast.program.symbol.tojson()
    assert '_contrib_quantize_v2' in operators
    batches = optimize(net, SHAPE, 'int8', calibration=[(calibration[:16],), calibration[16:].asnumpy()], piece=4)
    assert difference(batches(data), fast(data)) < 1e-6


@needs_int8
def test_int8_answers_that_are_wrong_are_refused(monkeypatch):
    monkeypatch.setattr('inference.optimization.proof.INT8_LIMIT', 1e-6)
    with pytest.raises(UserError, match='the int8 form of this network differs by .* on the calibration images'):
        optimize(make(NAMES[0], SHAPE), SHAPE, 'int8', calibration=images((8, 3, 32, 32)))


def test_batch_norms_are_folded():
    def operators(graph):
        return [node.op for node in graph.nodes()]

    graph = trace(make('resnet18_v1b', (2, 3, 32, 32)))
    assert operators(graph).count('BatchNorm') == 20
    fold(graph)
    assert 'BatchNorm' not in operators(graph)
    assert operators(graph).count('Convolution') == 20


def test_the_network_is_left_as_it_is():
    net = make(NAMES[1], SHAPE)
    data = images(SHAPE)
    before = net(data).asnumpy()
    fast = optimize(net, SHAPE)
    assert (net(data).asnumpy() == before).all()
    for parameter in net.collect_params().values():
        parameter.set_data(parameter.data() * 0)
    assert difference(fast(data), mx.nd.array(before)) < 1e-5


class Converted(gluon.HybridBlock):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def hybrid_forward(self, F, x):
        return F.amp_cast(self.net(F.amp_cast(x, dtype='float16')), dtype='float32')


@pytest.mark.parametrize(
    ('change', 'error', 'sentence'),
    [
        ({'precision': 'int4'}, ValueError, "precision is 'int4'; allowed: float32"),
        ({'input_shape': (3, 32, 32)}, ValueError, 'input_shape is'),
        ({'input_shape': (0, 3, 32, 32)}, ValueError, 'input_shape is'),
        ({'precision': 'float16'}, UserError, 'needs a GPU'),
        ({'calibration': np.zeros(SHAPE)}, ValueError, 'calibration is for int8'),
        ({'engine': 'tpu'}, ValueError, "engine is 'tpu'; allowed: auto, own, mxnet"),
        ({'engine': 'own', 'piece': 2}, ValueError, 'piece is 2, which'),
        ({'piece': 5}, ValueError, 'piece is 5; allowed are 1 to 4'),
    ],
)
def test_mistakes(change, error, sentence):
    net = make('cifar_resnet8_v2', SHAPE)
    with pytest.raises(error, match=sentence):
        optimize(net, **{'input_shape': SHAPE, **change})


@needs_int8
@pytest.mark.parametrize('calibration', [None, [], np.zeros((2, 3, 16, 16)), np.zeros((0, 3, 32, 32))])
def test_wrong_calibration(calibration):
    with pytest.raises(ValueError, match='calibration'):
        optimize(make('cifar_resnet8_v2', SHAPE), SHAPE, 'int8', calibration=calibration)


def test_converted_and_uninitialised_networks_are_refused():
    net = make('cifar_resnet8_v2', SHAPE)
    with pytest.raises(ValueError, match=r'was converted by MXNet \(amp\)'):
        optimize(Converted(net), SHAPE)
    with pytest.raises(ValueError, match='has no value yet'):
        optimize(get_model('cifar_resnet8_v2'), SHAPE)


@pytest.mark.skipif(not has_onednn(), reason='lanes are made for programs of oneDNN')
@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'int8'])
def test_images_on_cores_of_their_own(precision, monkeypatch):
    if lacks(precision):
        pytest.skip(f'this processor has no {precision}')
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    monkeypatch.setattr('inference.optimization.optimizer._seconds', lambda network, data: 1.0 - len(network.lanes))
    net = make(NAMES[1], SHAPE)
    calibration = images((16, 3, 32, 32), 5) if precision == 'int8' else None
    fast = optimize(net, (8, 3, 32, 32), precision, calibration, engine='mxnet')
    assert [lane.ctx for lane in fast.lanes] == [mx.cpu(1), mx.cpu(2)]
    assert fast.piece < 8
    for count in (8, 1, 7):  # a piece for each lane, fewer, and with a remainder
        data = images((count, 3, 32, 32), count)
        answer = fast(data)
        assert answer.context == mx.cpu()
        parts = [fast.program(data[place : place + fast.piece]) for place in range(0, count, fast.piece)]
        assert difference(answer, mx.nd.concat(*parts, dim=0)) < 1e-6
        assert difference(answer, net(data)) < {'float32': 1e-4, 'bfloat16': 3e-2, 'int8': 0.2}[precision]


class Cancelling(gluon.HybridBlock):
    """A convolution with its norm, minus the same folded by hand: only rounding is left."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = gluon.nn.Conv2D(8, 3, in_channels=3, use_bias=False), gluon.nn.BatchNorm(in_channels=8)
        self.folded = gluon.nn.Conv2D(8, 3, in_channels=3, use_bias=False)
        self.initialize(mx.init.Normal(0.5))
        gamma = mx.nd.array(np.random.RandomState(0).uniform(0.5, 2, 8))
        self.norm.gamma.set_data(gamma)
        self.folded.weight.set_data(self.conv.weight.data() * (gamma / np.sqrt(1 + 1e-5)).reshape((-1, 1, 1, 1)))

    def hybrid_forward(self, F, x):
        return F.mean(self.norm(self.conv(x)) - self.folded(x), axis=(2, 3))


def test_rounding_is_no_fault_of_the_optimized_network(monkeypatch):
    optimize(Cancelling(), (4, 3, 8, 8))
    monkeypatch.setattr('inference.optimization.proof.by_rounding', lambda net, data, expected: 0.0)
    with pytest.raises(UserError, match='the float32 form of this network differs by'):
        optimize(Cancelling(), (4, 3, 8, 8))


def test_answers_that_are_no_numbers_are_refused():
    net = make('cifar_resnet8_v2', SHAPE)
    net.output.bias.set_data(mx.nd.full(10, np.nan))
    with pytest.raises(UserError, match='the float32 form of this network differs by inf'):
        optimize(net, SHAPE)


@pytest.mark.parametrize(
    ('engine', 'place'),
    [
        ('mxnet', 'inference.optimization.in_mxnet.fold'),
        pytest.param('own', 'inference.engine.network.fold', marks=needs_engine),
    ],
)
def test_answers_that_are_wrong_are_refused(engine, place, monkeypatch):
    def wrong(graph):
        fold(graph)
        name = next(name for name in graph.params if name.endswith('weight'))
        graph.params[name] = graph.params[name] * np.float32(1.1)

    monkeypatch.setattr(place, wrong)
    with pytest.raises(UserError, match='the float32 form of this network differs by'):
        optimize(make('cifar_resnet8_v2', SHAPE), SHAPE, engine=engine)


def test_no_gradients():
    fast = optimize(make('cifar_resnet8_v2', SHAPE), SHAPE)
    with autograd.record(), pytest.raises(ValueError, match='no gradients'):
        fast(images(SHAPE))


@pytest.mark.parametrize('precision', ['bfloat16', 'int8'])
def test_a_processor_without_the_precision(precision, monkeypatch):
    monkeypatch.setattr('inference.optimization.arguments.lacks', lambda precision: lacks(precision, ['avx2']))
    with pytest.raises(UserError, match=f'the precision {precision} needs a processor with a'):
        optimize(make('cifar_resnet8_v2', SHAPE), SHAPE, precision)
    assert lacks('float32', []) == ()
