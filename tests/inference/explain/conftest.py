"""Make small networks for explanations, untrained but with values to which every gate reacts."""

import mxnet as mx
import numpy as np

from model import get_model


def images(count=2, side=32, seed=0):
    return np.random.RandomState(seed).standard_normal((count, 3, side, side)).astype(np.float32)


def make(name, side=32, **options):
    """Return a network with random parameters, also where norms, biases and scalars would start at 0 or 1."""
    mx.random.seed(1)
    net = get_model(name, **options)
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.array(images(1, side)))
    random = np.random.RandomState(3)
    for parameter in net.collect_params().values():
        value = parameter.data()
        if value.size and value.ndim == 1:
            parameter.set_data(value + mx.nd.array(random.uniform(0.05, 0.3, value.shape)))
        elif not value.asnumpy().any():
            parameter.set_data(mx.nd.array(random.uniform(-0.3, 0.3, value.shape)))
    return net
