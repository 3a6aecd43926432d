"""Where each number format is possible, and that training in bfloat16 is training."""

import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from environment import UserError
from training import precision
from training.devices import contexts
from training.precision import Precision, check

WITH, WITHOUT = ['sse2', 'avx512_bf16'], ['sse2', 'avx512f']


@pytest.mark.parametrize(
    ('dtype', 'on_gpu', 'flags', 'complaint'),
    [
        ('float32', False, WITHOUT, None),
        ('float32', True, WITHOUT, None),
        ('float16', True, WITHOUT, None),
        ('bfloat16', False, WITH, None),
        ('bfloat16', False, ['amx_bf16'], None),
        ('float16', False, WITH, '--dtype is float16, which MXNet trains only on a GPU'),
        ('bfloat16', True, WITH, '--dtype is bfloat16, which MXNet trains only on CPUs'),
        ('bfloat16', False, WITHOUT, 'this CPU has none of the instruction sets avx512_bf16, amx_bf16'),
    ],
)
def test_what_a_machine_can(dtype, on_gpu, flags, complaint):
    if complaint is None:
        check(dtype, on_gpu, flags)
    else:
        with pytest.raises(UserError, match=complaint):
            check(dtype, on_gpu, flags)


def test_the_processor_is_read(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n')
    assert precision._cpu_flags(file) == ['fpu', 'avx512_bf16']
    file.write_text('processor\t: 0\n')
    assert precision._cpu_flags(file) == precision._cpu_flags(tmp_path / 'absent') == []


def test_unknown_formats():
    with pytest.raises(ValueError, match='float32, float16, bfloat16'):
        Precision('float8')


def test_float16_parameters_and_float32_around_them():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(4, in_units=3), gluon.nn.BatchNorm(in_channels=4))
    net.initialize()
    half = Precision('float16')
    half.prepare(net)
    types = {name: np.dtype(p.dtype).name for name, p in net._collect_params_with_prefix().items()}
    assert types['0.weight'] == 'float16'
    assert types['1.running_var'] == 'float32'
    assert half.multi_precision
    # The casts around it, as a graph: a CPU cannot run every float16 operator.
    graph = half.program(net)(mx.sym.var('data'))
    _, (output,), _ = graph.infer_type(data='float32')
    assert np.dtype(output).name == 'float32'


def test_float32_is_left_alone():
    net = gluon.nn.Dense(4)
    assert Precision('float32').program(net) is net


# In a process of its own, as the casts stay for good.
BFLOAT16 = """
import environment, argparse
import mxnet as mx, numpy as np
from model import get_model
from training.assemble import Recipe
settings = argparse.Namespace(
    dtype='bfloat16', seed=0, lr=0.05, momentum=0.9, wd=1e-4, no_wd=False, label_smoothing=0.0, optimizer='nag'
)
recipe = Recipe(lambda: get_model('cifar_atac_resnet8_v2', channels=(8, 8, 16, 24)), settings, [mx.cpu()], 16, 10)
net = recipe.network()
step = recipe.learner(net, 'hybrid')
random = np.random.RandomState(0)
data, labels = random.randn(16, 3, 16, 16).astype('float32'), np.arange(16) % 10
losses = [step(data, labels)[0].asnumpy()[0] / 16 for _ in range(12)]
out = step.program(mx.nd.array(data))
inner = net(mx.nd.array(data))
types = {p.data().dtype.__name__ for p in net.collect_params().values()}
print(losses)
assert losses[-1] < 0.7 * losses[0], losses
assert out.dtype == np.float32 and types == {'float32'}, (out.dtype, types)
assert inner.dtype != np.float32, 'nothing was computed in bfloat16'
"""


@pytest.mark.skipif(not set(precision.CPU_FEATURES) & set(precision._cpu_flags()), reason='this CPU has no bfloat16')
def test_bfloat16_trains():
    result = subprocess.run([sys.executable, '-c', BFLOAT16], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ('gpus', 'visible', 'expected', 'line'),
    [
        ('0', 0, [mx.cpu()], '--gpus 0: no GPU is visible, training on the CPU'),
        ('', 3, [mx.cpu()], 'training on the CPU'),
        ('0', 1, [mx.gpu(0)], 'training on GPU 0'),
        ('2,0', 3, [mx.gpu(2), mx.gpu(0)], 'training on GPU 2, GPU 0'),
    ],
)
def test_devices(gpus, visible, expected, line):
    assert contexts(gpus, visible) == (expected, line)


@pytest.mark.parametrize('gpus', ['x', '0,3', '1,1', '-1'])
def test_devices_that_do_not_exist(gpus):
    with pytest.raises(UserError, match='--gpus is'):
        contexts(gpus, 2)
