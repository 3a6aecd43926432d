"""What the ranks exchange in a step, with a Horovod that stands for ranks that all have the same."""

import mxnet as mx
import numpy as np
import pytest

from training.distributed.horovod import _Reduction

RANKS = 3


class Alike:
    """As many ranks, which all send what this one sends; keeps the names and precisions of the arrays."""

    Sum = 'sum'

    def __init__(self):
        self.sent = {}

    def size(self):
        return RANKS

    def allreduce_(self, array, op, name):
        assert op == self.Sum
        self.sent[name] = array.shape
        array[:] = array * RANKS
        return array


def drawn(precision='float32', largest=1.0):
    values = np.random.standard_normal((4, 5)) * largest
    return mx.nd.array(values, dtype=precision)


@pytest.mark.parametrize('fp16', [False, True])
def test_gradients_of_both_precisions_are_summed_and_statistics_averaged(fp16):
    gradients, statistics, horovod = [drawn(), drawn('float16'), drawn()], [drawn()], Alike()
    before = [array.asnumpy() for array in gradients + statistics]
    sums = _Reduction(horovod, gradients, statistics, fp16)(mx.nd.array([1.0, 1e-6]), True).asnumpy()
    np.testing.assert_array_equal(sums, np.float32([3, 3e-6, 3]))
    for array, own in zip(gradients, before):
        assert array.dtype == own.dtype
        precise = not fp16 and own.dtype == np.float32
        np.testing.assert_allclose(array.asnumpy(), RANKS * own, rtol=1e-6 if precise else 2e-3, atol=1e-6)
    np.testing.assert_allclose(statistics[0].asnumpy(), before[-1], rtol=1e-6)
    half = 60 if fp16 else 20
    assert horovod.sent == {'step float16': (half,), 'step float32': (3 + 80 - half,)}


def test_sums_in_float16_have_the_range_of_each_rank():
    gradient = mx.nd.array([60000.0, 1e-4, 3.0])
    _Reduction(Alike(), [gradient], [], True)(mx.nd.zeros(2), False)
    np.testing.assert_allclose(gradient.asnumpy(), [180000.0, 3e-4, 9.0], rtol=2e-3)
    gradient[:] = 1e6
    _Reduction(Alike(), [gradient], [], True)(mx.nd.zeros(2), False)
    assert not np.isfinite(gradient.asnumpy()).any()  # so that the step is undone
