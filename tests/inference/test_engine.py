"""The inference engine: the same outputs from every network, for all sizes, threads and instruction sets."""

import multiprocessing
import os
import resource
import shutil
import threading
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

import kernels.engine
from inference import optimize
from inference.engine import bands, choices
from inference.engine import rows as engine_rows
from inference.engine.lower import Unsupported
from inference.engine.network import EngineNetwork, engine_network, why_not
from inference.engine.pack import winograd_weights
from inference.optimization.proof import difference
from kernels.place import ISA
from tests.inference import engine_plans
from tests.inference.networks import EXACT, check_answers, images, make, planned

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')


@pytest.mark.parametrize('winograd', [4, 2, 0])
@pytest.mark.parametrize('size', [(32, 32), (33, 47), (17, 19)])
def test_every_method_on_odd_sizes(winograd, size):
    shape = (2, 3, *size)
    net = make('resnet18_v1b', shape)
    plan = planned(net, shape).plan
    layers = sum(hasattr(operator, 'layer') for operator in plan.operators)
    data = images(shape)
    for threads in (1, 2):
        fast = planned(net, shape, threads, winograd=(winograd,) * layers, by_image=threads == 1)
        assert difference(fast(data), net(data)) <= EXACT
    divided = [one for one in fast.plan.operators if one.kind == 'winograd' and one.panel_parts == 2]
    assert bool(divided) == bool(winograd)


class _Dilated(gluon.HybridBlock):
    """Dilated layers whose sums are pooled, to which a map is added, and behind which a chain stays."""

    def __init__(self, dilation):
        super().__init__()
        self.first = gluon.nn.Conv2D(32, 3, padding=1, in_channels=3)
        options = {'dilation': dilation, 'padding': dilation}
        self.one = gluon.nn.Conv2D(32, 3, in_channels=32, **options)
        self.two = gluon.nn.Conv2D(32, 3, in_channels=32, **options)
        self.three = gluon.nn.Conv2D(40, 3, in_channels=32, **options)

    def hybrid_forward(self, F, x):
        x = self.first(x)
        y = self.two(F.relu(self.one(x))) + x
        y = F.relu(y)
        z = self.three(y)
        z = z * F.sigmoid(z)
        return F.concat(F.mean(y, axis=(2, 3)), F.mean(z, axis=(2, 3)), F.max(y, axis=(2, 3)), dim=1)


@pytest.mark.parametrize('winograd', [4, 2, 0])
@pytest.mark.parametrize(('size', 'dilation'), [((16, 16), 2), ((7, 13), 2), ((19, 11), 3), ((2, 9), 5)])
def test_a_dilated_layer_is_one_of_phases(size, dilation, winograd):
    mx.random.seed(4)
    net, shape = _Dilated(dilation), (2, 3, *size)
    net.initialize(mx.init.Xavier())
    data = images(shape)
    expected = net(data)
    for threads in (1, 2):
        fast = planned(net, shape, threads, winograd=(winograd,) * 3, by_image=threads == 1)
        assert sum(one.kind == 'winograd' for one in fast.plan.operators) == (3 if winograd else 0)
        assert difference(fast(data), expected) <= EXACT


@pytest.mark.parametrize('stride', [2, 3])
def test_a_1x1_layer_with_a_stride_reads_only_what_it_uses(stride):
    net = gluon.nn.HybridSequential()
    net.add(
        gluon.nn.Conv2D(20, 3, padding=1, in_channels=3),
        gluon.nn.Conv2D(35, 1, strides=stride, in_channels=20, activation='relu'),
        gluon.nn.GlobalAvgPool2D(),
    )
    mx.random.seed(5)
    net.initialize(mx.init.Xavier())
    shape = (2, 3, 17, 14)
    data = images(shape)
    fast = planned(net, shape)
    assert [one.kind for one in fast.plan.operators].count('pool') == 1
    assert difference(fast(data), net(data).reshape((2, -1))) <= EXACT
    data[0, 0, 0, 0] = np.nan
    assert np.isnan(fast(data).asnumpy()[0]).any()
    assert not np.isnan(fast(data).asnumpy()[1]).any()


@pytest.mark.parametrize('count', [0, 1, 3, 7])
def test_any_number_of_images(count):
    net = make('cifar_se_resnet11bn_v1', (4, 3, 32, 32))
    batch = np.random.RandomState(0).standard_normal((count, 3, 32, 32)).astype('float32')
    for by_image in (True, False):
        answers = planned(net, (4, 3, 32, 32), 2, by_image=by_image).run(batch)
        assert answers.shape == (count, 10)
        if count:
            assert np.abs(answers - net(mx.nd.array(batch)).asnumpy()).max() <= EXACT * np.abs(answers).max()


def test_other_sizes_are_refused():
    net = make('cifar_resnet8_v2', (1, 3, 32, 32))
    with pytest.raises(ValueError, match='was made for'):
        planned(net, (1, 3, 32, 32)).run(np.zeros((1, 3, 40, 40), np.float32))


def test_the_choice_is_kept_and_taken_again():
    net = make('cifar_resnet20_v2', (2, 3, 32, 32))
    first = engine_network(net, (2, 3, 32, 32), 1)
    (kept,) = choices.cache().iterdir()
    written = kept.stat().st_mtime_ns
    again = engine_network(net, (2, 3, 32, 32), 1)
    assert again.plan.settings == first.plan.settings
    assert kept.stat().st_mtime_ns == written
    kept.write_text('{"winograd": [3], "by_image": 1}')
    data = images((2, 3, 32, 32))
    assert difference(engine_network(net, (2, 3, 32, 32), 1)(data), net(data)) <= EXACT


def test_optimize_takes_it():
    net = make('cifar_se_resnet11bn_v1', (2, 3, 32, 32))
    data = images((2, 3, 32, 32))
    own = optimize(net, (2, 3, 32, 32), engine='own')
    assert own.engine == 'own'
    assert difference(own(data), net(data)) <= EXACT
    assert optimize(net, (2, 3, 32, 32), engine='mxnet').engine == 'mxnet'


def test_nan_comes_out_as_nan():
    net = make('cifar_resnet8_v2', (1, 3, 32, 32))
    image = images((1, 3, 32, 32)).asnumpy()
    image[0, 1, 5, 5] = np.nan
    assert np.isnan(planned(net, (1, 3, 32, 32)).run(image)).all()


def test_threads_take_turns():
    net = make('cifar_se_resnet11bn_v1', (2, 3, 32, 32))
    fast = planned(net, (2, 3, 32, 32), 2, by_image=False)
    batches = [images((2, 3, 32, 32), seed).asnumpy() for seed in range(4)]
    expected = [fast.run(batch) for batch in batches]
    wrong = []

    def work(k):
        for _ in range(20):
            if not np.array_equal(fast.run(batches[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_several_networks_run_at_once():
    shape = (2, 3, 32, 32)
    names = ('cifar_se_resnet11bn_v1', 'cifar_resnet8_v2', 'cifar_atac_resnet8_v2')
    networks = [
        (planned(make(name, shape), shape, 1 + k, by_image=k != 1), images(shape, k).asnumpy())
        for k, name in enumerate(names)
    ]
    expected = [fast.run(batch) for fast, batch in networks]
    wrong = []

    def work(k):
        fast, batch = networks[k % len(networks)]
        wrong.extend(k for _ in range(15) if not np.array_equal(fast.run(batch), expected[k % len(networks)]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize('name', ['cifar_atac_resnet8_v2', 'mobilenet_v2'])
def test_bands_answer_the_same(name, monkeypatch):
    monkeypatch.setattr(bands, 'BAND', 1 << 11)
    shape = (2, 3, 65, 47)
    net = make(name, shape)
    data = images((5, *shape[1:]))
    expected = net(data)
    for threads, ways in ((1, {}), (2, {}), (2, {'by_image': False}), (2, {'by_image': False, 'head': 9})):
        fast = planned(net, shape, threads, bands=engine_plans.ALL_BANDS, **ways)
        assert 'together' in {operator.kind for operator in fast.plan.operators}
        assert difference(fast(data), expected) <= EXACT


def test_a_batch_may_pass_any_boundary():
    """The first operators run image by image, and the others on the whole batch."""
    shape = (3, 3, 21, 19)
    net = make('cifar_dca_ge_resnext11_2x8d', shape)
    data = images((7, *shape[1:]))
    expected = net(data)
    count = len(planned(net, shape).plan.operators)
    for head in range(0, count + 1):
        fast = planned(net, shape, 1 + head % 2, by_image=False, head=head)
        assert fast.plan.table[6] == head
        assert difference(fast(data), expected) <= EXACT, head


def _in_child(fast, batch, queue):
    queue.put(fast.run(batch))


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_a_forked_child_has_an_engine_of_its_own():
    net = make('cifar_resnet8_v2', (1, 3, 32, 32))
    fast = planned(net, (1, 3, 32, 32), 2, by_image=False)
    batch = images((1, 3, 32, 32)).asnumpy()
    expected = fast.run(batch)
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(fast, batch, queue))
    child.start()
    answer = queue.get(timeout=60)
    child.join(60)
    assert np.array_equal(answer, expected)


def _without_room_for_threads(plan, said):
    used = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))
    try:
        EngineNetwork(plan, (1, 3, 32, 32), 256)
        said.send('it opened')
    except Unsupported as error:
        said.send(str(error))


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_threads_that_cannot_be_had_are_told():
    plan = planned(make('cifar_resnet8_v2', (1, 3, 32, 32)), (1, 3, 32, 32)).plan
    context = multiprocessing.get_context('fork')
    answer, said = context.Pipe(duplex=False)
    child = context.Process(target=_without_room_for_threads, args=(plan, said))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answer.poll()
    assert 'unavailable' in answer.recv()


def test_damaged_plans_are_refused_or_run():
    """With any of its numbers changed, a plan opens and runs, or is refused with a reason."""
    net = make('cifar_dca_se_resnet11bn_v1', (1, 3, 32, 32))
    sound = planned(net, (1, 3, 32, 32)).plan
    random, refused = np.random.RandomState(int(os.environ.get('ENGINE_FUZZ_SEED', '0'))), 0
    for _ in range(300):
        table = engine_plans.damaged(sound.table, random)
        if not engine_plans.is_vast(table):
            refused += engine_plans.answers(table, sound.weights_array) is None
    assert refused > 100
    for length in (0, 5, 40, sound.table.size - 1):
        assert engine_plans.answers(sound.table[:length].copy(), sound.weights_array) is None
    assert engine_plans.answers(sound.table, sound.weights_array[:100]) is None
    assert engine_plans.answers(engine_plans.cut_short(), sound.weights_array) is None


@pytest.mark.parametrize(
    ('steps', 'opens'), [(['save', 'square', 'add_saved'], True), (['square', 'add_saved'], False)], ids=str
)
def test_a_chain_uses_only_what_it_kept(steps, opens):
    plan = engine_plans.chain(*steps)
    found = engine_plans.answers(plan.table, plan.weights_array, image=np.full(32 * 6, 3, np.float32))
    assert np.array_equal(found, np.full((2, 32 * 6), 12)) if opens else found is None


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which('g++') is None, reason='no g++ to compile the other library with')
def test_avx2_answers_the_same(monkeypatch):
    """For a processor with AVX-512, where all other tests use the library for AVX-512."""
    if kernels.engine.chosen() == 'avx2':
        pytest.skip('all tests are of AVX2 here')
    monkeypatch.setenv(ISA, 'avx2')
    kernels.engine.build()
    assert kernels.engine.load().width == 8
    for net, shape in engine_plans.networks():
        data = images(shape)
        expected = net(data)
        for threads, by_image in ((1, True), (2, False)):
            check_answers(planned(net, shape, threads, by_image=by_image)(data), net, data, expected)


def test_a_remembered_choice_opens_without_other_weights(monkeypatch):
    net = make('cifar_resnet20_v2', (1, 3, 32, 32))
    chosen = engine_network(net, (1, 3, 32, 32), 1).plan.settings.winograd
    packed = []

    def counted(weight, m, lanes):
        packed.append(m)
        return winograd_weights(weight, m, lanes)

    monkeypatch.setattr(engine_rows, 'winograd_weights', counted)
    again = engine_network(net, (1, 3, 32, 32), 1)
    assert again.plan.settings.winograd == chosen
    assert packed == [method for method in chosen if method]


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('cifar_share_cbam_resnet14_v1', {}),
        ('cifar_dia_resnet14_v1', {'layers': 2, 'cell_output': 'tanh', 'bottleneck': False}),
        ('cifar_dca_cbam_resnet14_v1', {'merge': 'weighted', 'through_stages': False}),
        ('cifar_dca_se_resnet14_v1', {'merge': 'softmax', 'norm': 'none', 'shortcuts': False}),
    ],
    ids=str,
)
def test_what_papers_compare_runs_here_as_a_whole(name, options):
    shape = (2, 3, 17, 16)
    net = make(name, shape, **options)
    data = images(shape)
    assert difference(planned(net, shape)(data), net(data)) <= EXACT
