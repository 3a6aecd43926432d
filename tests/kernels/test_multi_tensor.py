"""Nesterov's step and copies for all parameters at once equal MXNet's operators on one array each."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, nd

import kernels
from kernels import check
from kernels.multi_tensor import Copy, NAGUpdate, copying

from .needs import needs_kernels

pytestmark = needs_kernels

# Scalars, less than a vector, and more than one thread's share.
SHAPES = [(1,), (3,), (16, 16, 3, 3), (10, 64), (300, 300), (64,)]


def arrays(shapes, seed=0):
    random = np.random.RandomState(seed)
    return [nd.array(random.randn(*shape)) for shape in shapes]


def test_as_numpy_has_it():
    assert check.update_difference(SHAPES) < 1e-5


def test_the_check_sees_what_is_not_a_number(monkeypatch):
    call = NAGUpdate.__call__

    def spoiled(update, *rates):
        norm = call(update, *rates)
        update._arrays[0][:] = np.nan
        return norm

    monkeypatch.setattr(NAGUpdate, '__call__', spoiled)
    assert not check.update_difference(SHAPES) < 1e-5


@settings(max_examples=20, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple), min_size=1, max_size=8),
    momentum=st.floats(0.01, 0.99),
    rescale=st.floats(1e-3, 2.0),
)
def test_any_shapes(shapes, momentum, rescale):
    assert check.update_difference(shapes, momentum, rescale) < 1e-4


@pytest.mark.parametrize('repeat', [1, 30])
def test_as_mxnets_nag_mom_update(repeat):
    shapes = SHAPES * repeat
    weights, gradients, momenta = (arrays(shapes, seed) for seed in range(3))
    rates, decays = np.random.RandomState(3).uniform(0, 0.1, (2, len(shapes)))
    theirs = [[array.copy() for array in each] for each in (weights, momenta)]
    for weight, gradient, momentum, rate, decay in zip(theirs[0], gradients, theirs[1], rates, decays):
        settings_ = {'lr': rate, 'wd': decay, 'momentum': 0.9, 'rescale_grad': 1 / 128}
        nd.nag_mom_update(weight, gradient, momentum, out=weight, **settings_)
    NAGUpdate(weights, gradients, momenta)(rates, decays, 0.9, 1 / 128)
    for ours, expected in zip(weights + momenta, theirs[0] + theirs[1]):
        np.testing.assert_array_equal(ours.asnumpy(), expected.asnumpy())


def test_the_same_bits_every_time():
    """The result does not depend on the threads."""
    seen = set()
    for _ in range(5):
        weights, gradients, momenta = (arrays(SHAPES * 10, seed) for seed in range(3))
        update = NAGUpdate(weights, gradients, momenta)
        norms = [update([0.1 / (1 + step)] * len(weights), [1e-4] * len(weights), 0.9) for step in range(4)]
        seen.add(b''.join(array.asnumpy().tobytes() for array in weights + momenta + norms))
    assert len(seen) == 1


def test_steps_wait_for_what_was_before_and_are_waited_for():
    """Each of a hundred gradients from a slow graph is used before the next is written."""
    weight, gradient, momentum = nd.zeros((64, 64)), nd.zeros((64, 64)), nd.zeros((64, 64))
    update, expected, velocity = NAGUpdate([weight], [gradient], [momentum]), np.zeros((64, 64)), 0.0
    for step in range(100):
        product = nd.dot(nd.ones((64, 64)), nd.full((64, 64), step / 64))  # `step` everywhere
        product.copyto(gradient)
        update([0.01], [0.0], 0.5)
        velocity = 0.5 * velocity
        expected += -velocity + 1.5 * (velocity - 0.01 * step)
        velocity -= 0.01 * step
    np.testing.assert_allclose(weight.asnumpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(('value', 'expected'), [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, np.inf), (1e25, np.inf)])
@pytest.mark.parametrize('place', [0, 63, 89999])
def test_nothing_that_is_not_finite_hides_in_the_norm(value, expected, place):
    gradients = [nd.zeros((300, 300)), nd.zeros((1,))]
    gradients[0].reshape(-1)[place] = value
    update = NAGUpdate([nd.zeros(g.shape) for g in gradients], gradients, [nd.zeros(g.shape) for g in gradients])
    np.testing.assert_array_equal(update([0.1] * 2, [0.0] * 2, 0.9).asnumpy(), [np.float32(expected)])


@pytest.mark.parametrize('dtype', ['float32', 'float64', 'float16', 'int8', 'int64'])
def test_copies(dtype):
    given_ = [(array * 100).astype(dtype) for array in arrays(SHAPES)]
    copies = [nd.zeros(array.shape, dtype=dtype) for array in given_]
    Copy(given_, copies)()
    for array, copy in zip(given_, copies):
        np.testing.assert_array_equal(copy.asnumpy(), array.asnumpy())


@pytest.mark.parametrize('loaded', [True, False])
def test_copies_to_float16_and_back(monkeypatch, loaded):
    """Views are written and read too; rounding is to the nearest, and what is too large becomes infinite."""
    monkeypatch.setattr(kernels, 'loaded', lambda: loaded)
    given_ = [array * 300 for array in arrays(SHAPES)]
    given_[0][:] = 200000.0
    flat = nd.zeros(sum(array.size for array in given_), dtype='float16')
    places = np.cumsum([0] + [array.size for array in given_])
    views = [flat[a:b].reshape(one.shape) for a, b, one in zip(places[:-1], places[1:], given_)]
    copying(given_, views, 0.5)()
    back = [nd.zeros(array.shape) for array in given_]
    copying(views, back, 4.0)()
    for array, found in zip(given_, back):
        with np.errstate(over='ignore'):
            expected = 4 * (0.5 * array.asnumpy()).astype('float16').astype('float32')
        np.testing.assert_array_equal(found.asnumpy(), expected)
    with np.errstate(over='ignore'):
        together = np.concatenate([(0.5 * array.asnumpy()).astype('float16').ravel() for array in given_])
    np.testing.assert_array_equal(flat.asnumpy(), together)


def test_arrays_in_onednns_layout():
    """Inference gives a convolution's weights the layout that it prefers."""
    weight, x = arrays([(32, 16, 3, 3), (1, 16, 8, 8)])
    values = weight.asnumpy()
    nd.Convolution(x, weight, kernel=(3, 3), num_filter=32, no_bias=True).wait_to_read()
    copy = nd.zeros(weight.shape)
    Copy([weight], [copy])()
    np.testing.assert_array_equal(copy.asnumpy(), values)
    nd.Convolution(x, weight, kernel=(3, 3), num_filter=32, no_bias=True).wait_to_read()
    Copy([copy * 2], [weight])()
    np.testing.assert_array_equal(weight.asnumpy(), 2 * values)


@pytest.mark.parametrize(
    ('weights', 'gradients', 'momenta'),
    [([(3,)], [(4,)], [(3,)]), ([(3,)], [(3,)], [(3, 1)]), ([(3,), (2,)], [(2,), (3,)], [(3,), (2,)])],
)
def test_shapes_that_do_not_belong_together(weights, gradients, momenta):
    update = NAGUpdate(*map(arrays, (weights, gradients, momenta)))
    with pytest.raises(mx.MXNetError, match='a weight.s gradient or momentum has its shape'):
        update([0.1] * len(weights), [0.0] * len(weights), 0.9)


def test_a_rate_for_each():
    with pytest.raises(mx.MXNetError, match='the shape of the rates'):
        NAGUpdate(*(arrays(SHAPES) for _ in range(3)))([0.1], [0.0], 0.9)


def test_other_types_than_float32():
    whole = [[array.astype('float64') for array in arrays(SHAPES)] for _ in range(3)]
    with pytest.raises(mx.MXNetError, match='updates take float32'):
        NAGUpdate(*whole)([0.1] * len(SHAPES), [0.0] * len(SHAPES), 0.9)


def test_a_gradient_is_taken_once():
    weights = arrays(SHAPES)
    for weight in weights:
        weight.attach_grad()
    update = NAGUpdate(weights, [weight.grad for weight in weights], arrays(SHAPES))
    assert not update.take_gradients()
    with autograd.record():
        parts = [(weight**2).sum() for weight in weights]
    autograd.backward(parts[:-1])
    assert not update.take_gradients()  # one has no gradient, so none is taken
    autograd.backward(parts[-1:])
    assert update.take_gradients()
    assert not update.take_gradients()
