"""Networks with operators that the engine does not know, and random networks."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from inference import optimize
from inference.engine.lower import Unsupported
from inference.engine.network import EngineNetwork, engine_network, why_not
from inference.engine.split import SplitNetwork
from inference.optimization.proof import difference
from model import get_model, register_attention
from model.registry import ATTENTIONS
from tests.inference.networks import EXACT, images
from tests.inference.random_graphs import random_net

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')


class Ranked(gluon.HybridBlock):
    """A gate from the order of the channels' means, which requires sorting; its bounds are sorted too."""

    def __init__(self, channels):
        super().__init__()
        with self.name_scope():
            self.bound = self.params.get('bound', shape=(1, channels, 1, 1), init='ones')

    def hybrid_forward(self, F, x, bound):
        ranks = F.argsort(F.mean(x, axis=(2, 3)), axis=1)
        gate = F.sigmoid(F.broadcast_div(ranks, 1 + F.max(ranks, axis=1, keepdims=True)))
        return F.broadcast_mul(F.broadcast_minimum(x, F.sort(bound, axis=1)), gate.reshape((0, 0, 1, 1)))


@pytest.fixture
def ranked():
    register_attention('ranked', Ranked, connects=False)
    yield
    del ATTENTIONS['ranked']


def initialised(name, shape):
    net = get_model(name)
    mx.random.seed(0)
    net.initialize(mx.init.MSRAPrelu())
    net(images(shape))
    return net


def test_a_unit_of_the_users_own_runs_in_mxnet(ranked):
    shape = (2, 3, 33, 29)
    net = initialised('cifar_ranked_resnet11bn_v1', shape)
    fast = optimize(net, shape, engine='own')
    assert isinstance(fast, SplitNetwork)
    assert fast.engine == 'own'
    assert fast.note == 'MXNet runs argsort, between 4 plans'
    for count in (2, 5):
        data = images((count, *shape[1:]), count)
        assert difference(fast(data), net(data)) <= EXACT
    with pytest.raises(ValueError, match='was made for'):
        fast(images((2, 3, 32, 32)))


class Sorted(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.sort(F.flatten(x), axis=1)


def test_without_a_layer_there_is_nothing_to_plan():
    net = Sorted()
    net.initialize()
    with pytest.raises(Unsupported, match='sort'):
        engine_network(net, (1, 3, 4, 4), 1)


@pytest.mark.parametrize('seed', range(24))
def test_random_networks_answer_the_same(seed):
    net, shape = random_net(seed)
    data = images(shape, seed)
    fast = engine_network(net, shape, 1 + seed % 2)
    assert isinstance(fast, EngineNetwork)
    assert difference(fast(data), net(data)) <= EXACT


@pytest.mark.parametrize('seed', range(100, 112))
def test_random_networks_with_unknown_operators_answer_the_same(seed):
    net, shape = random_net(seed, foreign=1 + seed % 3)
    data = images((3, *shape[1:]), seed)
    fast = engine_network(net, shape, 1 + seed % 2)
    assert difference(fast(data), net(data)) <= EXACT


@pytest.mark.heavy
def test_many_random_networks_answer_the_same():
    for seed in range(200, 400):
        net, shape = random_net(seed, foreign=seed % 3)
        data = images(shape, seed)
        assert difference(engine_network(net, shape, 1 + seed % 2)(data), net(data)) <= EXACT, seed


class TwoPlanes(gluon.HybridBlock):
    """The output lies in the middle of an array."""

    def __init__(self):
        super().__init__()
        self.layer = gluon.nn.Conv2D(20, 3, padding=1, in_channels=3)

    def hybrid_forward(self, F, x):
        return F.flatten(F.mean(self.layer(x), axis=1, keepdims=True))


def test_an_answer_in_the_middle_of_an_array():
    net = TwoPlanes()
    net.initialize(mx.init.Xavier())
    data = images((2, 3, 5, 7))
    assert np.abs(engine_network(net, (2, 3, 5, 7), 1).run(data.asnumpy()) - net(data).asnumpy()).max() <= 1e-6
