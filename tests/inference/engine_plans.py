"""Make plans of the inference engine, valid and damaged, for its tests and for a process with sanitizers."""

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels.engine
from inference.engine import bands
from inference.engine.lower import Lowered, lower
from inference.engine.methods import Settings
from inference.engine.narrow import KIND_NUMBERS, Narrowing
from inference.engine.network import graph_of, ranges_of
from inference.engine.operators import KINDS, STEPS, Map, Producer, Step, Tensor, View
from inference.engine.plan import Plan, make_plan
from inference.optimization.proof import difference
from tests.inference.networks import images, make
from tests.inference.random_graphs import random_net

#: A few networks that between them have nearly every operator and step, at sizes that leave something over everywhere.
NETWORKS = {
    'cifar_dca_sge_resnet11bn_v1': (2, 3, 33, 29),
    'cifar_cbam_wrn10_2': (2, 3, 17, 23),
    'cifar_gc_resnet11bn_v1': (2, 3, 16, 9),
    'cifar_dca_ge_resnext11_2x8d': (2, 3, 21, 19),
    'cifar_residual_attention92_pooled': (2, 3, 32, 32),
    'mobilenet_v2': (2, 3, 33, 47),
}
# Of plans in bfloat16, and of all plans narrower than float32.
ONLY_BFLOAT16 = {'narrow_depthwise', 'narrow_resize', 'mul_stored', 'quick_sigmoid'}
ONLY_NARROW = {'narrow_convolution', 'edge', 'image', 'narrow_pool', 'phases', 'store', 'add_stored'}
NARROW = 0.5  # share of the largest logit that bfloat16 and int8 may be off by here; other tests are stricter
SIZES = slice(12, None)  # where the tensors' offsets are in a table


class Rest(gluon.HybridBlock):
    """A network with what none of `NETWORKS` has."""

    def __init__(self):
        super().__init__()
        self.stem = gluon.nn.Conv2D(13, 3, padding=1, in_channels=3)
        self.layers = gluon.nn.HybridSequential()
        for activation in (gluon.nn.ELU(), gluon.nn.SELU(), gluon.nn.GELU(), gluon.nn.PReLU(in_channels=13)):
            self.layers.add(gluon.nn.Conv2D(13, (3, 1), padding=(1, 0), in_channels=13), activation)
        self.last = gluon.nn.Conv2D(5, 5, strides=2, dilation=2, padding=4, in_channels=13)
        self.classes = gluon.nn.Dense(7, flatten=False)

    def hybrid_forward(self, F, x):
        x = self.layers(self.stem(x))
        x = F.broadcast_add(x, x.mean(axis=1, keepdims=True))
        x = x + F.Activation(x, 'tanh')
        x = F.Activation(x * x.sigmoid(), 'tanh').clip(-0.5, 0.75)
        x = self.last(x).square()
        flat = x.reshape((0, 0, -1))
        return self.classes(F.batch_dot(flat, flat, transpose_b=True)).reshape((0, -1))


def rest():
    mx.random.seed(2)
    net = Rest()
    net.initialize(mx.init.Xavier())
    net(images((2, 3, 11, 13)))
    return net


class Pooled(gluon.HybridBlock):
    """A network with maximum pooling, also of narrow maps."""

    def __init__(self):
        super().__init__()
        self.first = gluon.nn.Conv2D(21, 3, strides=2, in_channels=3, activation='relu')
        self.pool = gluon.nn.MaxPool2D(3, 2, 1)
        self.second = gluon.nn.Conv2D(40, 3, padding=1, in_channels=21)

    def hybrid_forward(self, F, x):
        return self.second(self.pool(self.first(x))).mean(axis=(2, 3))


def pooled():
    mx.random.seed(3)
    net = Pooled()
    net.initialize(mx.init.Xavier())
    return net


def narrow_networks():
    """Yield networks that together have everything that only plans in bfloat16 and int8 contain."""
    for name, shape in NETWORKS.items():
        yield make(name, shape), shape
    yield pooled(), (2, 3, 21, 18)


def networks():
    """Yield networks with the shapes that they are planned for."""
    for name, shape in NETWORKS.items():
        yield make(name, shape), shape
    yield rest(), (2, 3, 11, 13)
    yield make('cifar_resnet8_v2', (2, 3, 17, 13), norm='group'), (2, 3, 17, 13)
    for seed in range(4):
        yield random_net(seed)


def plan_of(net, shape, threads=1, rewrite=None, **settings):
    lowered = lower(graph_of(net), shape, kernels.engine.load().width)
    if rewrite is not None:
        lowered.rewrites.append(rewrite)
    return make_plan(lowered, Settings(threads, shape[0], **settings))


def narrowings(net, shape):
    """Return the ways to narrow the network on this processor: with its vector instructions, and with its tiles."""
    library = kernels.engine.load()
    for precision, kind in KIND_NUMBERS.items():
        ranges = ranges_of(net, images(shape).asnumpy()) if precision == 'int8' else None
        for tiles in range(library.narrow(kind)):
            yield Narrowing(precision, ranges, tiles=bool(tiles))


def alone(operator, settings):
    """Return a plan with one operator."""
    lowered = Lowered(kernels.engine.load().width)
    read, written = next(operator.tensors_read(), operator.writes[0]), operator.writes[0]
    lowered.input, lowered.output = (View.whole(tensor, (tensor.size,)) for tensor in (read, written))
    return Plan([operator], lowered, settings, {})


def spread(table):
    """Return the table with every tensor in a place of its own, and gaps that belong to none."""
    table = table.copy()
    at = {0: 64, 1: 64}
    for place in table[SIZES][: 3 * table[2]].reshape(-1, 3):
        place[1] = at[place[0]]
        at[place[0]] += place[2] + 64
    table[4:6] = [at[arena] if at[arena] > 64 else 0 for arena in (0, 1)]
    return table


def damaged(table, random):
    """Return the table with some of its numbers changed."""
    table = table.copy()
    for place in random.choice(table.size, random.randint(1, 4)):
        value = int(table[place])
        choices = [
            value + random.randint(-3, 4),
            random.randint(0, 300),
            -value,
            2 * value,
            int(table[random.randint(table.size)]),
            2 ** random.choice([*range(8, 13), *range(31, 63)]),
        ]
        table[place] = np.clip(choices[random.randint(len(choices))], -(2**62), 2**62)
    return table


def flipped(table, random):
    """Return the table with one to three of its bits flipped."""
    table = table.copy()
    for _ in range(random.randint(1, 4)):
        place = random.randint(table.size)
        # Mostly low bits, since a high one makes any number too large.
        bit = random.choice([random.randint(12), random.randint(64)])
        table[place : place + 1].view(np.uint64)[0] ^= np.uint64(1) << np.uint64(bit)
    return table


def is_vast(table):
    """Return whether a table asks for gigabytes of memory, which is valid."""
    return abs(int(table[4])) + abs(int(table[5]) * int(table[7])) > 1 << 24


def chain(*steps):
    """Return a plan with one chain of steps without operands, on a map of (32, 2, 3)."""
    map_, out = (Map(Tensor(32 * 6), 32, 2, 3) for _ in range(2))
    steps = [Step(kind) for kind in steps]
    return alone(Producer('elementwise', [map_.tensor], [out.tensor], out=out, chain=steps, detail=map_), Settings())


def cut_short():
    """Return the table of a plan that claims one more step, and one more number, than it has."""
    table = chain('square').table.copy()
    table[13 + 3 * table[2]] += 1
    table[-2] += 1
    return table


def answers(table, weights, threads=1, image=None):
    """Return a table's output for two images, or None if it is refused with a reason."""
    library = kernels.engine.load()
    weights = weights.copy()  # so that sanitizers see reads beyond its end
    handle = library.open(table.ctypes.data, table.size, weights.ctypes.data, weights.size, threads)
    if not handle:
        assert library.error()
        return None
    given = np.zeros(2 * int(table[9]), np.float32)
    given[:] = np.resize(np.linspace(-1, 1, 97) if image is None else image, given.size)
    result = np.zeros((2, int(table[11])), np.float32)
    assert library.run(handle, given.ctypes.data, result.ctypes.data, 2) == 0
    assert library.profile(handle, given.ctypes.data, result.ctypes.data, 2) == 0
    library.close(handle)
    return result


def sound(plans):
    """Run valid plans whose tensors are kept apart."""
    for net, shape, plan in plans:
        data = images(shape)
        found = answers(spread(plan.table), plan.weights_array, plan.settings.threads, data.asnumpy().ravel())
        narrow = any(operator.kind == 'narrow_convolution' for operator in plan.operators)
        assert difference(mx.nd.array(found), net(data)) <= (NARROW if narrow else 2e-5)


def damage(plans, seed, rounds):
    """Run damaged plans of one operator, ``rounds`` of each kind; return how many opened, and how many were refused."""
    random = np.random.RandomState(seed)
    kinds = {}
    for _, _, plan in plans:
        for operator in plan.operators:
            kinds.setdefault(operator.kind, []).append((operator, plan.settings))
    opened = refused = 0
    for kind in sorted(kinds):
        for _ in range(rounds):
            operator, settings = kinds[kind][random.randint(len(kinds[kind]))]
            plan = alone(operator, settings)
            if plan.table.size > 1000 or plan.weights_array.size > 1 << 18:
                continue
            table = damaged(spread(plan.table), random)
            if is_vast(table):
                continue
            if answers(table, plan.weights_array, settings.threads) is None:
                refused += 1
            else:
                opened += 1
    return opened, refused


def flip(plans, seed, rounds):
    """Run plans with flipped bits, ``rounds`` of each; return how many opened, and how many were refused."""
    random = np.random.RandomState(seed)
    opened = refused = 0
    for _, _, plan in plans:
        for _ in range(rounds):
            table = flipped(spread(plan.table), random)
            if is_vast(table):
                continue
            if answers(table, plan.weights_array, plan.settings.threads) is None:
                refused += 1
            else:
                opened += 1
    return opened, refused


ALL_BANDS = (True,) * 100  # of any network


def main(library, seed, rounds):
    kernels.engine.install(library)
    bands.BAND = 1 << 11  # so that maps of any size count as too large for the cache
    plans = []
    for k, (net, shape) in enumerate(networks()):
        for ways in ({'by_image': True}, {'by_image': False}, {'by_image': False, 'head': 7 + k, 'bands': ALL_BANDS}):
            plans.append((net, shape, plan_of(net, shape, 1 + k % 2, **ways)))
    for k, (net, shape) in enumerate(narrow_networks()):
        for turn, narrowing in enumerate(narrowings(net, shape)):
            plans.append((net, shape, plan_of(net, shape, 1 + k % 2, narrowing, by_image=turn % 2 == 0)))
    operators = [operator for _, _, plan in plans for operator in plan.operators]
    seen = {operator.kind for operator in operators} | {
        step.kind for operator in operators for step in getattr(operator, 'chain', [])
    }
    expected = {*KINDS, *STEPS}
    narrow = {precision for precision, kind in KIND_NUMBERS.items() if kernels.engine.load().narrow(kind)}
    expected -= set() if 'bfloat16' in narrow else ONLY_BFLOAT16
    expected -= set() if narrow else ONLY_NARROW
    assert seen >= expected, expected - seen
    assert answers(cut_short(), np.zeros(16, np.float32)) is None
    sound(plans)
    print('sound', len(plans), flush=True)
    print('flipped', *flip(plans, seed, rounds // 4), flush=True)
    print('damaged', *damage(plans, seed, rounds), flush=True)
