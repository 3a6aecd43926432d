"""Run random programs on arrays by NumPy, and by MXNet with and without the kernels: maps in oneDNN's
layout and plain ones, views of them, steps in place.

    python -m tests.kernels.programs FIRST LAST OUTCOME.npz

A program is a list of steps (what, arguments), which make arrays or change them; arrays are named by their number.
"""

import random
import sys
from typing import NamedTuple

import numpy as np

import environment  # noqa: F401  MXNet cannot be imported before it

STEPS = 14
CHANNELS = (1, 2, 3, 5, 7, 8, 12, 16, 24, 32)
SIDES = (1, 1, 2, 3, 5, 8)


class Made(NamedTuple):
    """What is known of an array before a program runs: its memory, and where in it the array begins and ends."""

    shape: tuple
    memory: int
    begin: int
    end: int

    def overlaps_in_part(self, other):
        overlap = self.memory == other.memory and self.begin < other.end and other.begin < self.end
        return overlap and self[2:] != other[2:]


class Program:
    """A program drawn from a seed: its ``steps``, the ``shapes`` of their results, and the rules that it keeps.

    `beyond_mxnet`: a part of an array is written to, so that MXNet itself, without the kernels, may fail or spoil the
    rest of the array if that is in oneDNN's layout, or overwrite what it has not read yet.
    """

    def __init__(self, seed):
        self._random = random.Random(seed)
        self.steps, self.arrays = [], []
        self.beyond_mxnet = False
        self.zeros = self._random.random() < 0.15  # shapes may have zeros, as in `mx.util.np_shape`
        for _ in range(2):
            self._new()
        for _ in range(STEPS):
            self._random.choice([self._new, self._compute, *[self._view] * 2, *[self._write] * 2, self._shift])()

    def _made(self, shape, source=None, begin=0):
        size = int(np.prod(shape))
        memory = len(self.arrays) if source is None else source.memory
        begin += 0 if source is None else source.begin
        self.arrays.append(Made(tuple(shape), memory, begin, begin + size))

    def _pick(self, condition=lambda array: True):
        found = [number for number, array in enumerate(self.arrays) if condition(array)]
        return self._random.choice(found) if found else None

    def _new(self):
        if len(self.arrays) > 1 and self._random.random() < 0.5:
            shape = self.arrays[self._pick()].shape  # the shape of another array
        else:
            sides = [self._random.choice(SIDES) for _ in range(2)]
            shape = (self._random.choice((0, 1, 3) if self.zeros else (1, 2, 4)), self._random.choice(CHANNELS), *sides)
        in_layout = len(shape) == 4 and self._random.random() < 0.7
        self.steps.append(('new', shape, self._random.randrange(2**31), in_layout))
        self._made(shape)

    def _arguments(self):
        """Return an operation with its operands: (name, indices of the inputs, shape of the output)."""
        first = self._pick()
        shape = self.arrays[first].shape
        same = [number for number, array in enumerate(self.arrays) if array.shape == shape]
        kind = self._random.choice('mul mul add add sub sum sigmoid channels positions mean'.split())
        if kind in ('mul', 'add', 'sub', 'sum'):
            return kind, [first, self._random.choice(same)], shape
        if len(shape) == 4 and kind == 'mean':
            return kind, [first], (*shape[:2], 1, 1)
        if len(shape) == 4 and kind in ('channels', 'positions'):
            factor = (*shape[:2], 1, 1) if kind == 'channels' else (shape[0], 1, *shape[2:])
            second = self._pick(lambda array: array.shape == factor)
            if second is not None:
                return self._random.choice(['mul', 'add']), [first, second], shape
        return 'sigmoid', [first], shape

    def _compute(self):
        name, inputs, shape = self._arguments()
        self.steps.append(('compute', name, inputs))
        self._made(shape)

    def _view(self):
        source = self._pick(lambda array: array.end > array.begin)
        if source is None:
            return
        array = self.arrays[source]
        shape, kind = array.shape, self._random.choice(['slice', 'at', 'reshape'])
        if kind == 'slice':
            begin = self._random.randrange(shape[0])
            end = self._random.randrange(begin + 1, shape[0] + 1)
            self._slice(source, begin, end)
        elif kind == 'at' and len(shape) > 1:
            begin = self._random.randrange(shape[0])
            self.steps.append(('at', source, begin))
            self._made(shape[1:], array, begin * int(np.prod(shape[1:])))
        else:
            other = self._random.choice([(-1,), (shape[0], -1), (1, -1, 1, shape[-1]), (shape[0], -1, 1, 1)])
            self.steps.append(('reshape', source, other))
            self._made(np.empty(shape, 'b').reshape(other).shape, array)

    def _shift(self):
        source = self._pick(lambda array: array.end > array.begin and array.shape[0] > 2)
        if source is not None and self._random.random() < 0.3:
            length, first = self.arrays[source].shape[0], len(self.arrays)
            for begin in (0, 1):
                self._slice(source, begin, begin + length - 1)
            self.steps.append(('out', 'mul', [first, first + 1], first + self._random.randrange(2)))
            self.beyond_mxnet = True

    def _slice(self, source, begin, end):
        array = self.arrays[source]
        row = (array.end - array.begin) // array.shape[0]
        self.steps.append(('slice', source, begin, end))
        self._made((end - begin, *array.shape[1:]), array, begin * row)

    def _write(self):
        name, inputs, shape = self._arguments()
        near, memory = self._random.random() < 0.5, self.arrays[inputs[0]].memory
        target = self._pick(lambda array: array.shape == shape and (not near or array.memory == memory))
        kind = self._random.choice(['out', 'out', 'in place', 'fill', 'assign', 'assign part'])
        if target is None:
            return
        written = self.arrays[target]
        if any(self.arrays[number].overlaps_in_part(written) for number in inputs):
            name, kind = 'mul' if name == 'sub' else name, 'out'  # other operators have no kernel to take care of it
        if kind == 'in place' and name in ('mul', 'add', 'sub'):
            inputs = [target, self._random.choice([k for k, array in enumerate(self.arrays) if array.shape == shape])]
            self.steps.append(('in place', name, inputs))
        elif kind == 'fill':
            self.steps.append(('fill', target, self._random.uniform(-1, 1)))
            inputs = []
        elif kind == 'assign part' and 1 < shape[0]:
            inputs = inputs[:1]
            begin = self._random.randrange(shape[0])
            self.steps.append(('assign part', target, begin, self._random.uniform(-1, 1)))
        elif kind == 'assign' and self.arrays[inputs[0]].shape == shape:
            inputs = inputs[:1]
            self.steps.append(('assign', target, inputs[0]))
        else:
            self.steps.append(('out', name, inputs, target))
        read = [self.arrays[number] for number in inputs]
        parts = [written, *read] if kind == 'assign' else [written]
        self.beyond_mxnet |= any(array != self.arrays[array.memory] for array in parts)


def drawn(shape, seed):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


NUMPY = {
    'mul': lambda a, b: a * b,
    'add': lambda a, b: a + b,
    'sub': lambda a, b: a - b,
    'sum': lambda *arrays: sum(arrays),
    'sigmoid': lambda a: 1 / (1 + np.exp(-a)),
    'mean': lambda a: a.mean((2, 3), keepdims=True),
}


def by_numpy(program):
    """Return all arrays after the program, in float64."""
    arrays = []
    for what, *given in program.steps:
        if what == 'new':
            arrays.append(drawn(*given[:2]).astype(np.float64))
        elif what == 'compute':
            arrays.append(np.array(NUMPY[given[0]](*(arrays[k] for k in given[1]))))
        elif what == 'slice':
            arrays.append(arrays[given[0]][given[1] : given[2]])
        elif what == 'at':
            arrays.append(arrays[given[0]][given[1]])
        elif what == 'reshape':
            arrays.append(arrays[given[0]].reshape(given[1]))
        elif what in ('out', 'in place'):
            target = arrays[given[2] if what == 'out' else given[1][0]]
            target[...] = NUMPY[given[0]](*(arrays[k] for k in given[1]))
        elif what == 'fill':
            arrays[given[0]][...] = np.float32(given[1])
        elif what == 'assign':
            arrays[given[0]][...] = arrays[given[1]].copy()
        elif what == 'assign part':
            arrays[given[0]][given[1]] = np.float32(given[2])
    return arrays


def by_mxnet(program):
    """Return all arrays after the program, without waiting before. Raises `MXNetError` if a step fails."""
    import mxnet as mx
    from mxnet import nd

    def scaled(name):
        elementwise, broadcast = getattr(nd, f'elemwise_{name}'), getattr(nd, f'broadcast_{name}')
        return lambda a, b, **out: (elementwise if a.shape == b.shape else broadcast)(a, b, **out)

    operators = {
        **{name: scaled(name) for name in ('mul', 'add', 'sub')},
        'sum': nd.add_n,
        'sigmoid': lambda a, **out: nd.Activation(a, act_type='sigmoid', **out),
        'mean': lambda a, **out: nd.contrib.AdaptiveAvgPooling2D(a, output_size=1, **out),
    }

    def new(shape, seed, in_layout):
        if 0 in shape:
            return nd.zeros(shape)  # MXNet cannot convert nd.array's to oneDNN's layout
        array = nd.array(drawn(shape, seed))
        if not in_layout:
            return array
        channels = shape[1]  # a convolution that changes nothing
        weight = nd.array(np.eye(channels)[:, :, None, None])
        return nd.Convolution(array, weight, kernel=(1, 1), num_filter=channels, no_bias=True)

    def in_place(name, a, b):
        if name == 'mul':
            a *= b
        elif name == 'add':
            a += b
        else:
            a -= b

    arrays = []
    with mx.util.np_shape(program.zeros):
        for what, *given in program.steps:
            if what == 'new':
                arrays.append(new(*given))
            elif what == 'compute':
                arrays.append(operators[given[0]](*(arrays[k] for k in given[1])))
            elif what == 'slice':
                arrays.append(arrays[given[0]][given[1] : given[2]])
            elif what == 'at':
                arrays.append(arrays[given[0]][given[1]])
            elif what == 'reshape':
                arrays.append(arrays[given[0]].reshape(given[1]))
            elif what == 'out':
                operators[given[0]](*(arrays[k] for k in given[1]), out=arrays[given[2]])
            elif what == 'in place':
                in_place(given[0], *(arrays[k] for k in given[1]))
            elif what == 'fill':
                arrays[given[0]][:] = given[1]
            elif what == 'assign':
                arrays[given[0]][:] = arrays[given[1]]
            elif what == 'assign part':
                arrays[given[0]][given[1]] = given[2]
        nd.waitall()
        return [array.asnumpy() for array in arrays]


def settle():
    """Collect the errors that MXNet has not raised yet."""
    from mxnet import nd

    while True:
        try:
            return nd.waitall()
        except Exception:
            pass


def main(first, last, path):
    import mxnet as mx

    import kernels

    kernels.load()
    outcome = {}
    for seed in range(int(first), int(last)):
        try:
            for number, array in enumerate(by_mxnet(Program(seed))):
                outcome[f'{seed}/{number}'] = array
        except mx.MXNetError as error:
            outcome[f'{seed}/error'] = np.array(str(error).strip().splitlines()[-1])
            settle()
    np.savez(path, calls=kernels.calls(), **outcome)


if __name__ == '__main__':
    main(*sys.argv[1:])
