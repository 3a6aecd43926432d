"""The engine in bfloat16 and int8: single layers against NumPy, whole networks against float32."""

import shutil

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

import kernels.engine
from common.errors import UserError
from environment.cpu import lacks, processor
from inference import optimize
from inference.engine.calibrate import range_of
from inference.engine.narrow import KIND_NUMBERS, Narrowing
from inference.engine.network import Unsupported, engine_network, ranges_of, why_not
from inference.optimization.proof import difference
from kernels.place import ISA
from tests.inference import engine_plans
from tests.inference.networks import images, make, planned
from tests.model.cases import CASES

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')
needs = {
    precision: pytest.mark.skipif(
        why_not(precision) is not None or bool(lacks(precision)),
        reason=f'no {precision}: {why_not(precision) or lacks(precision)}',
    )
    for precision in KIND_NUMBERS
}
needs_bfloat16, needs_int8 = needs['bfloat16'], needs['int8']
WAYS = [
    pytest.param(precision, tiles, marks=needs[precision], id=f'{precision}-{"tiles" if tiles else "vectors"}')
    for precision in KIND_NUMBERS
    for tiles in (False, True)
]
LOW, HIGH = -2.0, 3.1  # range of numbers that become bytes; others are clipped to it

# channels, filters, kernel, stride, padding, dilation, groups, height, width
LAYERS = [
    (3, 24, 7, 2, 3, 1, 1, 23, 31),  # of an image
    (1, 5, 3, 1, 1, 1, 1, 9, 8),
    (16, 16, 3, 1, 1, 1, 1, 1, 1),
    (5, 7, 1, 1, 0, 1, 1, 3, 3),
    (40, 33, 1, 1, 0, 1, 1, 5, 7),
    (40, 50, 3, 1, 1, 1, 1, 6, 5),
    (70, 20, 3, 2, 1, 1, 1, 9, 11),
    (20, 16, (3, 1), 1, (1, 0), 1, 1, 4, 6),
    (20, 16, (1, 5), 1, (0, 2), 1, 1, 4, 6),
    (17, 40, 3, 1, 2, 2, 1, 7, 7),
    (64, 64, 3, 1, 1, 1, 4, 6, 7),
    (24, 48, 3, 2, 1, 1, 12, 6, 7),
    (130, 16, 1, 2, 0, 1, 1, 8, 8),
    (16, 100, 3, 1, 1, 1, 1, 2, 41),
    (16, 16, 3, 1, 0, 1, 1, 3, 3),
]


class Layer(gluon.HybridBlock):
    """``gate * conv(x) + x`` and a ReLU, as far as the arguments ask for them."""

    def __init__(self, layer, gated=False, adds=False, activation=None):
        super().__init__()
        channels, filters, kernel, stride, padding, dilation, groups = layer[:7]
        self.conv = gluon.nn.Conv2D(filters, kernel, stride, padding, dilation, groups, in_channels=channels)
        self.gated, self.adds, self.activation = gated, adds, activation

    def hybrid_forward(self, F, x):
        if self.adds:
            x = F.LeakyReLU(x, act_type='leaky', slope=1.0)  # turns an input that is an array into a map
        y = self.conv(x)
        if self.gated:
            y = F.broadcast_mul(y, x.mean(axis=(2, 3), keepdims=True).sigmoid())
        y = y + x if self.adds else y
        return y if self.activation is None else F.Activation(y, self.activation)


def layer_of(layer, **options):
    mx.random.seed(0)
    net = Layer(layer, **options)
    net.initialize(mx.init.Uniform(1.0))
    net.conv.bias.set_data(mx.nd.random.uniform(-1, 1, net.conv.bias.shape))
    return net


def bfloat16(values):
    """Round to the nearest numbers whose float32 ends in 16 zero bits, ties to even."""
    word = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((word + 0x7FFF + (word >> np.uint64(16) & np.uint64(1))) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def rounded(x, weight, precision):
    """Return inputs and weights as the precision rounds them, in float64."""
    if precision == 'bfloat16':
        return bfloat16(x).astype(np.float64), bfloat16(weight).astype(np.float64)
    scale = np.float32((HIGH - LOW) / 255)
    zero = np.rint(-LOW / float(scale))
    x = (np.clip(np.rint(x * (np.float32(1) / scale) + np.float32(zero)), 0, 255) - zero) * float(scale)
    steps = np.abs(weight).reshape(len(weight), -1).max(axis=1).reshape(-1, 1, 1, 1) / np.float32(127)
    return x, np.rint(weight / steps) * steps.astype(np.float64)


def convolved(x, weight, layer):
    """Compute a convolution in float64, tap by tap."""
    _, filters, _, stride, padding, dilation, groups = layer[:7]
    ph, pw = padding if isinstance(padding, tuple) else (padding, padding)
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kh, kw = weight.shape[2:]
    oh, ow = ((size - (k - 1) * dilation - 1) // stride + 1 for size, k in zip(x.shape[2:], (kh, kw)))
    made = np.zeros((len(x), filters, oh, ow))
    of, to = x.shape[1] // groups, filters // groups
    for group in range(groups):
        for r in range(kh):
            for q in range(kw):
                rows = slice(r * dilation, r * dilation + (oh - 1) * stride + 1, stride)
                columns = slice(q * dilation, q * dilation + (ow - 1) * stride + 1, stride)
                part = x[:, group * of : (group + 1) * of, rows, columns]
                taps = weight[group * to : (group + 1) * to, :, r, q]
                made[:, group * to : (group + 1) * to] += np.einsum('oc,nchw->nohw', taps, part)
    return made


def narrowing(net, shape, precision, tiles):
    ranges = None if precision == 'bfloat16' else ((LOW, HIGH),)
    return planned(net, shape, 1, Narrowing(precision, ranges, tiles=tiles))


@pytest.mark.parametrize(('precision', 'tiles'), WAYS)
@pytest.mark.parametrize('layer', LAYERS, ids=str)
def test_a_layer_is_what_its_rounded_numbers_give(layer, precision, tiles):
    net, shape = layer_of(layer), (2, layer[0], *layer[7:])
    data = images(shape)
    fast = narrowing(net, shape, precision, tiles)
    kinds = [kind for kind, _, _ in fast.profile(data.asnumpy(), 1)]
    has_tiles = kernels.engine.load().narrow(KIND_NUMBERS[precision]) == 2
    assert f'{precision} tiles' * (tiles and has_tiles) or precision in kinds
    x, weight = rounded(data.asnumpy(), net.conv.weight.data().asnumpy(), precision)
    expected = convolved(x, weight, layer) + net.conv.bias.data().asnumpy().reshape(1, -1, 1, 1)
    found = fast.run(data.asnumpy()).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(('precision', 'tiles'), WAYS)
@pytest.mark.parametrize('activation', [None, 'relu', 'tanh'])
@pytest.mark.parametrize(('gated', 'adds'), [(True, False), (False, True), (True, True)])
def test_what_follows_a_layer_is_wide(gated, adds, activation, precision, tiles):
    layer = (24, 24, 3, 1, 1, 1, 1, 5, 9)
    net, shape = layer_of(layer, gated=gated, adds=adds, activation=activation), (2, 24, 5, 9)
    data = images(shape).asnumpy()
    x, weight = rounded(data, net.conv.weight.data().asnumpy(), precision)
    expected = convolved(x, weight, layer) + net.conv.bias.data().asnumpy().reshape(1, -1, 1, 1)
    if gated:
        expected = expected / (1 + np.exp(-data.mean(axis=(2, 3), keepdims=True)))
    if adds:  # the narrow form, which already exists
        expected = expected + x
    expected = {None: lambda y: y, 'relu': lambda y: np.maximum(y, 0), 'tanh': np.tanh}[activation](expected)
    found = narrowing(net, shape, precision, tiles).run(data).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 2e-5 * max(1, np.abs(expected).max())


# Every eighth always, and every third among the heavy tests; all of them are tested in float32.
SOME = [
    case if k % 8 == 0 else pytest.param(case, marks=pytest.mark.heavy)
    for k, case in enumerate(CASES)
    if k % 8 == 0 or k % 3 == 0
]
#: Largest difference of a logit, relative to the largest, of networks with random weights. int8 has its ranges from the
#: same images.
LIMITS = {'bfloat16': 0.15, 'int8': 0.4}


@pytest.mark.parametrize('precision', [pytest.param(name, marks=needs[name]) for name in KIND_NUMBERS])
@pytest.mark.parametrize('case', SOME, ids=str)
def test_every_network_is_near_its_float32_form(case, precision):
    if case.options.get('norm') == 'group':
        pytest.skip('group norms are left to MXNet')
    net = make(case.name, case.input_shape, **case.options)
    data = images(case.input_shape)
    ranges = ranges_of(net, data.asnumpy()) if precision == 'int8' else None
    for first_layer, threads in ((False, 1), (True, 2)):
        fast = planned(net, case.input_shape, threads, Narrowing(precision, ranges, first_layer), by_image=threads == 1)
        assert any(operator.kind == 'narrow_convolution' for operator in fast.plan.operators)
        assert difference(fast(data), net(data)) <= LIMITS[precision]


@needs_int8
def test_vectors_and_tiles_and_threads_give_the_same_bytes():
    net, shape = make('cifar_se_resnet11bn_v1', (2, 3, 33, 29)), (2, 3, 33, 29)
    data = images(shape).asnumpy()
    ranges = ranges_of(net, data)
    one, *others = (
        planned(net, shape, threads, Narrowing('int8', ranges, tiles=tiles), by_image=threads == 1).run(data)
        for threads in (1, 2)
        for tiles in (False, True)
    )
    assert all(np.abs(other - one).max() <= 1e-5 * np.abs(one).max() for other in others)


@pytest.mark.parametrize('precision', [pytest.param(name, marks=needs[name]) for name in KIND_NUMBERS])
def test_maxima_are_taken_of_narrow_numbers(precision):
    net, shape = engine_plans.pooled(), (2, 3, 21, 18)
    data = images(shape)
    ranges = ranges_of(net, data.asnumpy()) if precision == 'int8' else None
    fast = planned(net, shape, 1, Narrowing(precision, ranges))
    kinds = [kind for kind, _, _ in fast.profile(data.asnumpy(), 1)]
    assert 'narrow pool' in kinds
    assert 'pool' not in kinds
    assert difference(fast(data), net(data)) <= 0.03


@needs_int8
@pytest.mark.skipif(shutil.which('g++') is None, reason='no g++ to compile the other library with')
def test_avx2_gives_the_same_bytes(monkeypatch):
    """With AVX-VNNI, for a processor with AVX-512, where all other tests use the library for AVX-512."""
    if kernels.engine.chosen() == 'avx2' or 'avx_vnni' not in processor().instructions:
        pytest.skip('all tests are of AVX2 here, or there is no AVX-VNNI')
    nets = [(make(name, shape), shape) for name, shape in [('cifar_se_resnet11bn_v1', (2, 3, 33, 29))]]
    nets.append((engine_plans.pooled(), (2, 3, 21, 18)))
    found = []
    for isa in ('native', 'avx2'):
        monkeypatch.setenv(ISA, isa)
        kernels.engine.build()
        for net, shape in nets:
            data = images(shape).asnumpy()
            found.append(planned(net, shape, 1, Narrowing('int8', ((-4.0, 4.0),) * 40)).run(data))
    assert kernels.engine.load().width == 8
    assert why_not('bfloat16') == 'its bfloat16 needs a processor with AVX512_BF16, which this one lacks'
    for wide, narrow in zip(found[:2], found[2:]):
        assert np.abs(wide - narrow).max() <= 0.02 * np.abs(wide).max()  # a sum halfway between two bytes


@pytest.mark.parametrize('precision', [pytest.param(name, marks=needs[name]) for name in KIND_NUMBERS])
def test_optimize_takes_it(precision):
    net, shape = make('cifar_dca_se_resnet11bn_v1', (2, 3, 32, 32)), (2, 3, 32, 32)
    calibration = images((24, 3, 32, 32), 5) if precision == 'int8' else None
    fast = optimize(net, shape, precision, calibration, engine='own')
    assert (fast.engine, fast.precision) == ('own', precision)
    data = images(shape)
    assert 1e-4 < difference(fast(data), net(data)) < LIMITS[precision]


@needs_bfloat16
def test_a_processor_without_it_is_told(monkeypatch):
    library = kernels.engine.load()
    monkeypatch.setattr(library, 'narrow', lambda kind: 0)
    net, shape = make('cifar_resnet8_v2', (1, 3, 32, 32)), (1, 3, 32, 32)
    with pytest.raises(Unsupported, match='its bfloat16 needs a processor with AVX512_BF16'):
        engine_network(net, shape, narrowing=Narrowing('bfloat16'))
    monkeypatch.setattr('inference.optimization.arguments.lacks', lambda precision: ())
    with pytest.raises(UserError, match="the engine 'own' cannot run this network: its bfloat16 needs a processor"):
        optimize(net, shape, 'bfloat16', engine='own')
    fast = optimize(net, shape, 'bfloat16')
    assert fast.engine == 'mxnet'
    assert 'its bfloat16 needs' in fast.note


@needs_int8
def test_wrong_answers_are_refused(monkeypatch):
    narrow = ((0.0, 1e-3),) * 40
    monkeypatch.setattr('inference.optimization.own.ranges_of', lambda net, images, instructions: narrow)
    monkeypatch.setattr('inference.optimization.proof.INT8_LIMIT', 0.1)
    net = make('cifar_resnet8_v2', (1, 3, 32, 32))
    with pytest.raises(UserError, match="the engine 'own' cannot run this network: the int8 form of this network"):
        optimize(net, (1, 3, 32, 32), 'int8', images((8, 3, 32, 32)), engine='own')


@needs_bfloat16
def test_nan_comes_out_as_nan():
    net = make('cifar_resnet8_v2', (1, 3, 32, 32))
    image = images((1, 3, 32, 32)).asnumpy()
    image[0, 1, 5, 5] = np.nan
    assert np.isnan(planned(net, (1, 3, 32, 32), 1, Narrowing('bfloat16')).run(image)).all()


@pytest.mark.parametrize('precision', [pytest.param('int8', marks=needs['int8'])])
@pytest.mark.parametrize('width', [1, 2, 3, 5, 8])
def test_what_is_beyond_a_range_becomes_its_end(width, precision):
    """Also what no whole number of four bytes holds, wherever it lies in a row."""
    net = gluon.nn.HybridSequential()
    net.add(
        gluon.nn.Conv2D(24, 1, in_channels=3, activation='relu'),
        gluon.nn.Conv2D(16, 1, in_channels=24, use_bias=False),
    )
    mx.random.seed(6)
    net.initialize(mx.init.Xavier())
    first = np.zeros((24, 3, 1, 1), np.float32)
    first[np.arange(24), np.arange(24) % 3] = np.where(np.arange(24) % 2, 1, -1)[:, None, None]
    net[0].weight.set_data(mx.nd.array(first))
    data = images((1, 3, 2, width))
    data = data.sign() * 50 + data * 100  # far from zero
    largest = 1e-9
    ranges = ((-400.0, 400.0), (0.0, largest))
    fast = planned(net, data.shape, 1, Narrowing(precision, ranges, tiles=False))
    expected = net[1](mx.nd.clip(net[0](data), 0, largest))
    assert difference(fast(data).reshape(expected.shape), expected) <= 0.05


def test_ranges_cut_off_what_is_rare():
    random = np.random.RandomState(0)
    low, high = range_of(np.append(random.standard_normal(1000000), [30]).astype(np.float32))
    assert -6 < low < -2
    assert 2 < high < 6
    assert range_of(np.full(5, 2.0, np.float32)) == (0, 2)
    assert range_of(np.zeros(5, np.float32)) == (0, 0)


@needs_int8
def test_damaged_plans_run_or_are_refused():
    net, shape = make('cifar_dca_se_resnet11bn_v1', (1, 3, 32, 32)), (1, 3, 32, 32)
    random = np.random.RandomState(0)
    refused = 0
    for how in engine_plans.narrowings(net, shape):
        sound = planned(net, shape, 1, how).plan
        for _ in range(40):
            table = engine_plans.damaged(sound.table, random)
            if not engine_plans.is_vast(table):
                refused += engine_plans.answers(table, sound.weights_array) is None
    assert refused > 10
