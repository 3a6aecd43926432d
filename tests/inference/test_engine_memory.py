"""Where the engine's tensors lie: what may share a place, and which weights are read once for all images."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from inference.engine.in_place import in_place
from inference.engine.narrow import KIND_NUMBERS
from inference.engine.network import why_not
from inference.engine.operators import Map, Narrow, Operator, Producer, Step, Tensor
from inference.optimization.proof import difference
from tests.inference import engine_plans
from tests.inference.networks import EXACT, images, make, planned

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')


def narrowing_of(net, shape, precision):
    """How a network becomes narrow; a test is skipped where the processor cannot multiply such numbers."""
    if precision == 'float32':
        return None
    found = [one for one in engine_plans.narrowings(net, shape) if one.precision == precision]
    if not found:
        pytest.skip(f'no {precision} on this processor')
    return found[-1]


def feature_map(channels=32):
    return Map(Tensor(channels * 16), channels, 4, 4)


def convolution(x, added, out, **narrow):
    steps = [Step('add_map', added), Step('relu')]
    return Producer('convolution', [x.tensor], [out.tensor], out=out, chain=steps, detail={'x': x}, **narrow)


def test_a_sum_takes_the_place_of_the_shortcut():
    x, shortcut, out, behind = (feature_map() for _ in range(4))
    block, rest = convolution(x, shortcut, out), convolution(out, x, behind)
    assert in_place([block, rest], [])[id(out.tensor)] == id(shortcut.tensor)


@pytest.mark.parametrize('case', ['read again', 'kept', 'read at other places', 'another size', 'behind the registers'])
def test_nothing_takes_the_place_of_what_is_still_needed(case):
    x, shortcut, out, behind = (feature_map() for _ in range(4))
    kept = [shortcut.tensor] if case == 'kept' else []
    if case == 'read at other places':
        x = shortcut
    if case == 'another size':
        out = feature_map(48)
    block = convolution(x, shortcut, out)
    if case == 'behind the registers':
        block.chain.insert(0, Step('sigmoid'))
    later = [convolution(out, shortcut if case == 'read again' else feature_map(), behind)]
    assert id(out.tensor) not in in_place([block, *later], kept)


def test_a_border_is_filled_before_nobody_reads_the_shortcut_any_more():
    x = feature_map()
    shortcut, made = (Narrow(Tensor(1200), 'int8', 32, 4, 4, 1) for _ in range(2))
    block = Producer('narrow_convolution', [x.tensor], [made.tensor], out=feature_map(), detail={})
    block.chain = [Step('add_stored', shortcut), Step('relu'), Step('store', made)]
    edge = Operator('edge', [], [made.tensor])
    reader = Operator('phases', [shortcut.tensor], [Tensor(16)])
    assert in_place([reader, edge, block], []) == {id(made.tensor): id(shortcut.tensor)}
    assert in_place([edge, reader, block], []) == {}


@pytest.mark.parametrize('precision', ['float32', *KIND_NUMBERS])
@pytest.mark.parametrize('name', ['cifar_resnet11bn_v1', 'resnet18_v1b', 'cifar_dca_se_resnet11bn_v1'])
def test_answers_are_those_of_tensors_that_share_nothing(name, precision):
    shape = (2, 3, 33, 29)
    net, data = make(name, shape), images(shape)
    narrowing = narrowing_of(net, shape, precision)
    plan = planned(net, shape, rewrite=narrowing).plan
    assert in_place(plan.operators, []) or name != 'resnet18_v1b'
    together, alone = (
        engine_plans.answers(table, plan.weights_array, 1, data.asnumpy().ravel())
        for table in (plan.table, engine_plans.spread(plan.table))
    )
    assert np.array_equal(together, alone)


class Heavy(gluon.HybridBlock):
    """Small maps, and weights that no cache keeps from one image to the next."""

    def __init__(self):
        super().__init__()
        self.body = gluon.nn.HybridSequential()
        with self.body.name_scope():
            self.body.add(
                gluon.nn.Conv2D(64, 3, strides=2, padding=1, in_channels=3, activation='relu'),
                gluon.nn.Conv2D(1100, 3, strides=2, padding=1, in_channels=64, activation='relu'),
                gluon.nn.Conv2D(1000, 1, in_channels=1100),
                gluon.nn.Conv2D(512, 3, strides=2, padding=1, in_channels=1000, groups=2, activation='relu'),
                gluon.nn.GlobalAvgPool2D(),
                gluon.nn.Dense(300, in_units=512, activation='relu'),
                gluon.nn.Dense(10, in_units=300),
            )

    def hybrid_forward(self, F, x):
        return self.body(x)


@pytest.mark.parametrize('precision', ['float32', *KIND_NUMBERS])
def test_weights_are_read_once_for_all_images(precision):
    mx.random.seed(1)
    net, shape = Heavy(), (3, 3, 21, 17)
    net.initialize(mx.init.Xavier())
    data = images(shape)
    net(data)
    narrowing = narrowing_of(net, shape, precision)
    one = planned(net, shape, rewrite=narrowing)
    limit = EXACT if precision == 'float32' else engine_plans.NARROW
    assert difference(one(data), net(data)) <= limit
    for threads in (1, 2):
        all_ = planned(net, shape, threads, rewrite=narrowing, by_image=False)
        assert any(getattr(operator, 'panel_parts', 1) > 4 for operator in all_.plan.operators)
        assert np.abs(all_.run(data.asnumpy()) - one.run(data.asnumpy())).max() <= 1e-5
    if precision != 'float32':
        assert sum(operator.kind == 'phases' for operator in one.plan.operators) == 2
