"""The kernels in forked processes, in workers of a DataLoader, and in several threads at once."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from mxnet import nd

import kernels

from .needs import needs_kernels

pytestmark = needs_kernels

ROOT = Path(kernels.__file__).resolve().parent.parent

# Sixteen times what a single thread computes by itself.
FORKED = """
import os, signal, warnings
warnings.simplefilter('ignore')
import environment, kernels, numpy as np
from mxnet import gluon, nd
kernels.load()
values = np.random.RandomState(0).rand(8, 32, 32, 32).astype('float32')

def work(values):
    x = nd.array(values)
    before = kernels.calls()
    y = nd.elemwise_add(nd.broadcast_mul(nd.elemwise_mul(x, x), nd.ones((*x.shape[:2], 1, 1)) * 2), x)
    y = y.asnumpy()
    assert kernels.calls() >= before + 3
    return y

expected = work(values)
"""
IN_A_CHILD = """
child = os.fork()
if not child:
    signal.alarm(120)  # instead of waiting for threads that do not exist
    os._exit(0 if (work(values) == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (work(values) == expected).all()
"""
IN_WORKERS = """
class Data(gluon.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return nd.array(work(values)[index])

signal.alarm(120)
for batch in gluon.data.DataLoader(Data(), 4, num_workers=2):
    assert batch.shape == (4, 32, 32, 32)
    start = 0 if (batch[0].asnumpy() == expected[0]).all() else 4
    assert (batch.asnumpy() == expected[start : start + 4]).all()
assert (work(values) == expected).all()
"""


@pytest.mark.parametrize(
    ('program', 'engine'),
    [
        (IN_A_CHILD, 'ThreadedEnginePerDevice'),
        (IN_A_CHILD, 'NaiveEngine'),  # its operators run in the thread that forks
        (IN_WORKERS, 'ThreadedEnginePerDevice'),
    ],
    ids=['fork', 'fork, NaiveEngine', 'DataLoader'],
)
def test_forked_processes(program, engine):
    """The forked process's kernels have used two threads."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '2', 'MXNET_ENGINE_TYPE': engine, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', FORKED + program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_many_threads_at_once():
    """Each thread has its own maps and views, and all read one map. MXNet records for one thread at a time."""
    random = np.random.RandomState(0)
    identity = nd.array(np.eye(16)[:, :, None, None])
    values, own = random.rand(4, 16, 8, 8).astype('float32'), random.rand(5, 4, 16, 8, 8).astype('float32')
    shared = nd.Convolution(nd.array(values), identity, kernel=(1, 1), num_filter=16, no_bias=True)
    wrong = []

    def work(number):
        try:
            for _ in range(60):
                x = nd.array(own[number])
                passed = nd.Convolution(x, identity, kernel=(1, 1), num_filter=16, no_bias=True)
                product = nd.elemwise_mul(passed, shared)
                gate = nd.contrib.AdaptiveAvgPooling2D(product, output_size=1)
                y = nd.broadcast_mul(product, gate)
                part = y[1:3]
                part *= shared[1:3]
                expected = own[number] * values
                expected = expected * expected.mean((2, 3), keepdims=True)
                expected[1:3] *= values[1:3]
                np.testing.assert_allclose(y.asnumpy(), expected, rtol=1e-5)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    before = kernels.calls()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert kernels.calls() >= before + 5 * 60 * 2
    np.testing.assert_array_equal(shared.asnumpy(), values)
