"""Make random graphs of the operators that have kernels, and compute them and their gradients with and without them.

python -m tests.kernels.graphs FIRST LAST OUTCOME.npz
"""

import random
import sys

import numpy as np
from mxnet import autograd, gluon, nd

import environment  # noqa: F401  MXNet cannot be imported before it
import kernels
from model.hybridization import apply_mode
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import mean_and_max, with_mean, with_mean_and_max

OPERATIONS = 8
POOL = GlobalAvgPool()


def gated(F, a):
    x, mean = with_mean(F, a, POOL)
    return F.broadcast_mul(x, F.reshape(mean, (0, 0, 1, 1)))


def raised(F, a):
    x, mean, most = with_mean_and_max(F, a, POOL)
    return F.broadcast_add(x, F.reshape(mean * most, (0, 0, 1, 1)))


def raised_by_another(F, a, b):
    """``b`` is not passed on."""
    return F.broadcast_add(a, F.reshape(mean_and_max(F, b * 2, POOL)[1], (0, 0, 1, 1)))


# From maps to a map; then those whose inputs or outputs are per channel, (N, C, 1, 1), or per position, (N, 1, H, W).
OPERATORS = {
    'product': ('map map', 'map', lambda F, a, b: F.elemwise_mul(a, b)),
    'sum': ('map map', 'map', lambda F, a, b: F.elemwise_add(a, b)),
    'sum of three': ('map map map', 'map', lambda F, a, b, c: F.add_n(a, b, c)),
    'sigmoid': ('map', 'map', lambda F, a: F.Activation(a, act_type='sigmoid')),
    'reshaped': ('map', 'map', lambda F, a: F.reshape_like(F.reshape(a, shape=(0, 0, 1, -1)) * 0.5, a)),
    'flattened': ('map', 'map', lambda F, a: F.reshape_like(F.sigmoid(F.flatten(a)), a)),
    'scaled': ('map channels', 'map', lambda F, a, b: F.broadcast_mul(a, b)),
    'shifted': ('map channels', 'map', lambda F, a, b: F.broadcast_add(a, b)),
    'scaled positions': ('map positions', 'map', lambda F, a, b: F.broadcast_mul(a, b)),
    'mean': ('map', 'channels', lambda F, a: F.contrib.AdaptiveAvgPooling2D(a, output_size=1)),
    'gated': ('map', 'map', gated),
    'raised': ('map', 'map', raised),
    'raised by another': ('map map', 'map', raised_by_another),
    'gate': ('channels', 'channels', lambda F, a: F.sigmoid(a)),
    'mean over channels': ('map', 'positions', lambda F, a: F.mean(a, axis=1, keepdims=True)),
}


class Graph(gluon.HybridBlock):
    """A graph of ``layers``: (operator, indices of its inputs). The last input is a matrix that changes nothing."""

    def __init__(self, layers):
        super().__init__()
        self._layers = layers

    def hybrid_forward(self, F, first, *inputs):
        *leaves, identity = inputs
        values = [first, *leaves]
        for name, numbers in self._layers:
            if name == 'in layout':
                values.append(self._through(F, values[numbers[0]], identity))
            else:
                values.append(OPERATORS[name][2](F, *(values[k] for k in numbers)))
        product = F.broadcast_mul(F.broadcast_mul(first, leaves[1]), leaves[2])  # so that each leaf has a gradient
        return F.broadcast_mul(F.elemwise_add(product, leaves[0]), values[-1])

    def _through(self, F, x, identity):
        return F.Convolution(x, identity, kernel=(1, 1), num_filter=self.channels, no_bias=True)


def drawn(seed):
    """Return a graph with its mode, the shapes of its leaves, and how their gradients are requested."""
    chance = random.Random(seed)
    samples, channels = chance.choice((1, 2, 3)), chance.choice((1, 3, 8, 12, 16, 32))
    height, width = chance.choice((1, 1, 4, 7)), chance.choice((1, 1, 3, 8))
    shapes = {
        'map': (samples, channels, height, width),
        'channels': (samples, channels, 1, 1),
        'positions': (samples, 1, height, width),
    }
    kinds = ['map', 'map', 'channels', 'positions']
    leaves = [shapes[kind] for kind in kinds]
    layers = []
    for _ in range(OPERATIONS):
        if not layers or chance.random() < 0.3:
            name, takes, gives = 'in layout', 'map', 'map'
        else:
            name = chance.choice(sorted(OPERATORS))
            takes, gives = OPERATORS[name][:2]
        places = {kind: [k for k, one in enumerate(kinds) if one == kind] for kind in shapes}
        layers.append((name, [chance.choice(places[kind][-3:]) for kind in takes.split()]))
        kinds.append(gives)
    graph = Graph(layers)
    graph.channels = channels
    requests = [chance.choice(('write', 'add')) for _ in leaves]
    return graph, chance.choice(('imperative', 'hybrid', 'static')), leaves, requests


def outcome(seed):
    """Return the graph's output, and the gradients of its leaves after two passes."""
    graph, mode, shapes, requests = drawn(seed)
    state = np.random.RandomState(seed)
    leaves = [nd.array(state.uniform(-1, 1, shape)) for shape in shapes]
    for leaf, request in zip(leaves, requests):
        leaf.attach_grad(request)
    identity = nd.array(np.eye(graph.channels)[:, :, None, None])
    graph.initialize()
    apply_mode(graph, mode)
    for _ in range(2):
        with autograd.record(), kernels.fusing():
            out = graph(*leaves, identity)
        out.backward(nd.array(state.uniform(-1, 1, out.shape)))
    return [array.asnumpy() for array in (out, *(leaf.grad for leaf in leaves))]


def main(first, last, path):
    kernels.load()
    arrays = {f'{seed}/{k}': each for seed in range(int(first), int(last)) for k, each in enumerate(outcome(seed))}
    nd.waitall()
    np.savez(path, calls=kernels.calls(), **arrays)


if __name__ == '__main__':
    main(*sys.argv[1:])
