"""The memory of freed arrays, which all threads share: no two arrays meet in it, and it does not grow without need."""

import subprocess
import sys

from .needs import needs_kernels

pytestmark = needs_kernels

# In a process of its own, because MXNet's storage stays replaced.
POOLED = """
import re
import environment
import kernels
assert kernels.load()
import mxnet as mx
import numpy as np
before = mx.nd.ones((300, 300))
assert kernels.pool_memory() and kernels.pool_memory()

def resident():
    return int(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read()).group(1)) / 1024

random, kept, held = np.random.RandomState(0), {}, []
for turn in range(400):
    if turn == 100:
        held.append(resident())
    number = random.randint(12)
    if number in kept:
        values, array = kept.pop(number)
        assert (array.asnumpy() == values).all(), turn
        del array
    else:
        values = np.float32(random.randint(1000))
        kept[number] = values, mx.nd.zeros((random.randint(1, 3000), 1000)) + values
mx.nd.waitall()
kept.clear()
del before
x = mx.nd.ones((2, 3, 8, 8))  # smaller ones are not in it
assert (x + 1).asnumpy().sum() == 2 * x.size
assert resident() < held[0] + 120, (held, resident())
"""


def test_arrays_of_all_sizes_come_and_go():
    subprocess.run([sys.executable, '-c', POOLED], check=True)
