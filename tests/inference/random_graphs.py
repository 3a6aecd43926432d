"""Put layers, units and odd sizes together at random: networks that nobody designed, to compare with MXNet."""

import mxnet as mx
import numpy as np
from mxnet import gluon

_ACTIVATIONS = ('relu', 'sigmoid', 'tanh', 'elu', 'selu', 'gelu', 'leaky')


class RandomNet(gluon.HybridBlock):
    """A network of ``steps`` that the engine knows and, with ``foreign``, of others.

    A step takes maps that there are, (index, channels, height, width), and adds one.
    """

    def __init__(self, seed, shape, steps=12, foreign=0):
        super().__init__()
        self.random = np.random.RandomState(seed)
        self.layers = gluon.nn.HybridSequential()
        self.program, self.maps = [], [(0, *shape[1:])]
        self.convolution()
        kinds = 'convolution convolution pool activation norm pair gate plane concat part resize products'.split()
        for _ in range(steps):
            getattr(self, self.random.choice(kinds))()
        for _ in range(foreign):
            getattr(self, self.random.choice(['convolution', 'odd', 'sorted_gate']))()
            self.odd()
            self.convolution()
        self.out = gluon.nn.Dense(5, in_units=self.maps[-1][1])

    def hybrid_forward(self, F, x):
        values = [x]
        for run in self.program:
            values.append(run(F, values))
        # Every map contributes, as far as its channels go.
        total = F.flatten(F.contrib.AdaptiveAvgPooling2D(values[-1], 1))
        for value in values[1:-1]:
            total = F.broadcast_add(total, F.expand_dims(F.mean(value, axis=(1, 2, 3)), 1))
        return self.out(total)

    # What a step needs: a map, a layer, and a place for its result.

    def pick(self, spatial=1):
        fitting = [each for each in self.maps[1:] or self.maps if min(each[2:]) >= spatial] or self.maps[-1:]
        return fitting[-1 - min(self.random.geometric(0.5) - 1, len(fitting) - 1)]

    def layer(self, made):
        self.layers.add(made)
        return made

    def add(self, run, channels, height, width):
        self.program.append(run)
        self.maps.append((len(self.program), channels, height, width))

    # The steps.

    def convolution(self):
        at, channels, height, width = self.pick()
        kernel = [int(self.random.choice([k for k in (1, 3, 5, 7) if k <= side + 2])) for side in (height, width)]
        if self.random.rand() < 0.7:
            kernel = [min(kernel)] * 2
        stride, dilation = self.random.choice([1, 1, 2]), self.random.choice([1, 1, 1, 2])
        pad = [int(k // 2 * dilation) if self.random.rand() < 0.8 else 0 for k in kernel]
        reach = [(k - 1) * dilation + 1 for k in kernel]
        if any(side + 2 * p < r for side, p, r in zip((height, width), pad, reach)):
            kernel, pad, dilation, reach = [1, 1], [0, 0], 1, [1, 1]
        groups = int(self.random.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0]))
        outputs = groups * int(self.random.randint(1, 40 // groups + 2))
        if groups == channels and self.random.rand() < 0.7:
            outputs = channels
        conv = self.layer(
            gluon.nn.Conv2D(outputs, kernel, int(stride), pad, int(dilation), groups, in_channels=channels)
        )
        sides = [(side + 2 * p - r) // stride + 1 for side, p, r in zip((height, width), pad, reach)]
        self.add(lambda F, v: conv(v[at]), outputs, *sides)

    def pool(self):
        at, channels, height, width = self.pick(3)
        if min(height, width) < 3:
            return
        kind, stride = self.random.choice(['max', 'avg']), int(self.random.choice([1, 2]))
        full, inside = bool(self.random.rand() < 0.3), bool(self.random.rand() < 0.5)
        made = {
            'max': lambda: gluon.nn.MaxPool2D(3, stride, 1, ceil_mode=full),
            'avg': lambda: gluon.nn.AvgPool2D(3, stride, 1, ceil_mode=full, count_include_pad=inside),
        }[kind]()
        sides = [-(-(side - 1) // stride) + 1 if full else (side - 1) // stride + 1 for side in (height, width)]
        self.add(lambda F, v: made(v[at]), channels, *sides)

    def activation(self):
        at, *shape = self.pick()
        name = self.random.choice([*_ACTIVATIONS, 'clip', 'swish', 'prelu'])
        if name == 'clip':
            self.add(lambda F, v: F.clip(v[at], -0.5, 0.75), *shape)
        elif name == 'swish':
            self.add(lambda F, v: v[at] * F.sigmoid(v[at]), *shape)
        elif name == 'prelu':
            layer = self.layer(gluon.nn.PReLU(in_channels=shape[0]))
            self.add(lambda F, v: layer(v[at]), *shape)
        elif name in ('relu', 'sigmoid', 'tanh'):
            self.add(lambda F, v: F.Activation(v[at], name), *shape)
        else:
            self.add(lambda F, v: F.LeakyReLU(v[at], act_type=name, slope=0.3), *shape)

    def norm(self):
        at, *shape = self.pick()
        if self.random.rand() < 0.5:
            layer = self.layer(gluon.nn.BatchNorm(in_channels=shape[0]))
        else:
            groups = int(self.random.choice([g for g in (1, 2, 4, shape[0]) if shape[0] % g == 0]))
            layer = self.layer(gluon.nn.GroupNorm(groups, 1e-2))
        self.add(lambda F, v: layer(v[at]), *shape)

    def pair(self):
        at, *shape = self.pick()
        others = [other for other, *same in self.maps if same == shape]
        other, product = int(self.random.choice(others)), self.random.rand() < 0.3
        self.add(lambda F, v: v[at] * F.tanh(v[other]) if product else v[at] + v[other], *shape)

    def gate(self):
        at, channels, height, width = self.pick()
        inner = self.layer(gluon.nn.Dense(4, 'relu', in_units=channels))
        outer = self.layer(gluon.nn.Dense(channels, in_units=4))
        maximum = self.random.rand() < 0.3

        def run(F, v):
            context = (F.max if maximum else F.mean)(v[at], axis=(2, 3))
            return F.broadcast_mul(v[at], F.sigmoid(outer(inner(context))).reshape((0, 0, 1, 1)))

        self.add(run, channels, height, width)

    def plane(self):
        at, channels, height, width = self.pick()
        conv = self.layer(gluon.nn.Conv2D(1, 3, padding=1, in_channels=2))

        def run(F, v):
            both = F.concat(F.max(v[at], axis=1, keepdims=True), F.mean(v[at], axis=1, keepdims=True), dim=1)
            return F.broadcast_mul(v[at], F.sigmoid(conv(both)))

        self.add(run, channels, height, width)

    def concat(self):
        at, channels, height, width = self.pick()
        other, more = next((i, c) for i, c, *sides in reversed(self.maps) if sides == [height, width])
        if channels + more <= 96:
            self.add(lambda F, v: F.concat(v[at], v[other], dim=1), channels + more, height, width)

    def part(self):
        at, channels, height, width = self.pick()
        begin = int(self.random.randint(channels))
        end = int(self.random.randint(begin + 1, channels + 1))
        self.add(lambda F, v: F.slice_axis(v[at], axis=1, begin=begin, end=end), end - begin, height, width)

    def resize(self):
        at, channels, *_ = self.pick()
        like, _, *sides = self.maps[int(self.random.randint(1, len(self.maps)))]
        self.add(lambda F, v: F.contrib.BilinearResize2D(v[at], v[like], mode='like'), channels, *sides)

    def products(self):
        at, channels, height, width = self.pick()

        def run(F, v):
            weights = F.softmax(F.mean(v[at], axis=1).reshape((0, 1, -1)), axis=2)
            context = F.batch_dot(v[at].reshape((0, 0, -1)), weights, transpose_b=True)
            return F.broadcast_add(v[at], context.reshape((0, 0, 1, 1)))

        self.add(run, channels, height, width)

    # Steps that the engine does not know.

    def odd(self):
        at, *shape = self.pick()
        name = self.random.choice(['softsign', 'erf', 'arctan', 'unit', 'cumsum', 'constant'])
        self.add(
            {
                'softsign': lambda F, v: F.softsign(v[at]),
                'erf': lambda F, v: F.erf(v[at]),
                'arctan': lambda F, v: F.arctan(v[at]) + v[at],
                'unit': lambda F, v: F.L2Normalization(v[at] + 1, mode='channel'),
                'cumsum': lambda F, v: F.cumsum(v[at], axis=2) * 0.1,
                'constant': lambda F, v: F.broadcast_add(v[at], F.arange(shape[2]).reshape((1, 1, 1, -1))),
            }[name],
            *shape,
        )

    def sorted_gate(self):
        at, *shape = self.pick()

        def run(F, v):
            ranks = F.argsort(F.mean(v[at], axis=(2, 3)), axis=1)
            return F.broadcast_mul(v[at], F.sigmoid(ranks * 0.1).reshape((0, 0, 1, 1)))

        self.add(run, *shape)


def random_net(seed, foreign=0):
    """Return a network with parameters, and the shape of the images that it takes."""
    random = np.random.RandomState(seed)
    shape = (2, int(random.choice([1, 3, 3, 3, 5, 20])), *map(int, random.randint(1, 24, 2)))
    mx.random.seed(seed)
    net = RandomNet(seed, shape, foreign=foreign)
    net.initialize(mx.init.Xavier(magnitude=2))
    net(mx.nd.zeros(shape))
    for parameter in net.collect_params().values():
        value = parameter.data()
        if value.ndim == 1:
            parameter.set_data(value + mx.nd.array(random.uniform(0.05, 0.3, value.shape)))
    return net, shape
