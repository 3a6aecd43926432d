"""Make networks with values as training leaves them, and bound how far rounding may move their outputs."""

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import kernels.engine
from inference.engine.lower import lower
from inference.engine.methods import Settings
from inference.engine.network import EngineNetwork, graph_of
from inference.engine.plan import make_plan
from inference.optimization.proof import by_rounding, difference
from model import get_model

#: Largest difference of a logit, relative to the largest logit, of networks that a last bit of the pixels moves less.
EXACT = 2e-5

LARGE = 1 << 17  # elements


def images(shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape).astype('float32'))


class QuickPrelu(mx.init.MSRAPrelu):
    """`MSRAPrelu` whose large arrays NumPy draws.

    MXNet takes ten times as long for them, longer than for a training step of a network at the size of its tests.
    """

    def __init__(self):
        super().__init__()
        self.drawn = 0

    def _init_weight(self, name, array):
        if array.size < LARGE:
            super()._init_weight(name, array)
            return
        self.drawn += 1  # whatever the process has drawn before
        rows, columns, *window = array.shape
        deviation = (self.magnitude / (np.prod(window, initial=1) * (rows + columns) / 2)) ** 0.5
        values = np.random.default_rng(self.drawn).standard_normal(array.shape, 'float32')
        array[:] = values * np.float32(deviation)


def make(name, shape, **options):
    """Return a network whose norms, biases and gates are away from their initial values.

    Its norms know the statistics of what runs through them, as a trained network's do. With others the maps grow from
    block to block, gates turn into steps, and rounding alone moves an answer by half of its size. None enlarges what a
    few images of noise have in common: the norms of vectors would do that, with its rounding, some hundred times.
    """
    mx.random.seed(1)
    net = get_model(name, **options)
    net.initialize(QuickPrelu())
    net(images(shape, 9))
    random = np.random.RandomState(3)
    for parameter in net.collect_params().values():
        value = parameter.data()
        if value.ndim == 1 and 'running' not in parameter.name:
            parameter.set_data(value + mx.nd.array(random.uniform(0.05, 0.3, value.shape)))
    keep_last_statistics(net)
    with autograd.record():
        answer = net(images(shape, 9))
    answer.backward()  # MXNet updates the statistics here
    parameters = net.collect_params()
    for name in parameters:
        if name.endswith('running_var'):
            variance, mean = (parameters[of].data() for of in (name, name.replace('running_var', 'running_mean')))
            parameters[name].set_data(variance + variance.mean() / 10 + mean * mean / 4)
    return net


def keep_last_statistics(block):
    if isinstance(block, gluon.nn.BatchNorm):
        block._kwargs['momentum'] = 0.0
    for child in block._children.values():
        keep_last_statistics(child)


def check_answers(ours, net, data, expected, exact=EXACT):
    """Assert that ``ours`` is as close to ``expected``, the output of ``net``, as ``exact`` or as rounding allows."""
    away = difference(ours, expected)
    assert away <= exact or away <= by_rounding(net, data, expected).max(), away


def planned(net, shape, threads=1, rewrite=None, **settings):
    """Return ``net`` as a plan of our engine, without measuring; ``rewrite`` is a `Narrowing` or an `Observer`."""
    lowered = lower(graph_of(net), shape, kernels.engine.load().width)
    if rewrite is not None:
        lowered.rewrites.append(rewrite)
    return EngineNetwork(make_plan(lowered, Settings(threads, shape[0], **settings)), shape, threads)
