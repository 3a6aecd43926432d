"""Where each number format is possible, and that training in bfloat16 works."""

import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from environment import UserError
from environment.cpu import lacks
from tests.training.flat import trainer_of
from tests.training.test_loop import make
from training.checkpoints.checkpoint import read_checkpoint
from training.checkpoints.position import Position
from training.checkpoints.state import restore
from training.config.machine import MachineSettings
from training.distributed.devices import chosen_devices, contexts
from training.distributed.ranks import Ranks
from training.loop import LAG, train
from training.loss import Criterion
from training.optim.loss_scaler import LossScaler
from training.precision import Precision, check
from training.step import TrainingStep

STEADY = {'lr_mode': 'step', 'lr_decay_epoch': '', 'warmup_epochs': 0, 'max_skipped': 2}
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
    # The casts around it are checked on the graph, since a CPU cannot run every float16 operator.
    graph = half.program(net)(mx.sym.var('data'))
    _, (output,), _ = graph.infer_type(data='float32')
    assert np.dtype(output).name == 'float32'


class Affine(gluon.HybridBlock):
    """A network that multiplies mean colours by weights, which a CPU can do in float16."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(1, 3), init='ones')
            self.bias = self.params.get('bias', shape=(1, 3), init='zeros')

    def hybrid_forward(self, F, x, weight, bias):
        colours = F.mean(x, axis=(2, 3))
        return F.broadcast_add(F.broadcast_mul(colours, weight), bias)


def float16_job(folder, lr=0.5):
    """Return a job in float16, with loop, step, scaler, masters and checkpoints."""
    job, outputs = make(folder, drop=0.0, num_epochs=2, lr=lr, mixup=False, **STEADY)
    net = Affine()
    net.initialize()
    half = Precision('float16')
    half.prepare(net)
    program = half.program(net)
    trainer = trainer_of(net, lr, 0.9, 1e-4, multi_precision=half.multi_precision)
    job.step = TrainingStep(program, trainer, Criterion(3), job.contexts)
    job.net, job.program, job.random = net, program, False
    job.scaler = LossScaler(2.0**8, window=3, lag=LAG)
    for loader in (job.train_data, job.val_data):
        loader.dataset.labels[:] %= 3
    return job, outputs


def test_the_whole_step_in_float16(tmp_path):
    job, outputs = float16_job(tmp_path / 'run')
    position = Position()
    assert train(job, position, outputs)
    assert position.rows[1]['train_loss'] < position.rows[0]['train_loss']
    assert job.scaler.scale > 2.0**8
    learner = read_checkpoint(sorted((tmp_path / 'run' / 'checkpoints').iterdir())[-1])['learner']
    assert learner['parameters']['weight'].dtype == np.float16
    momentum, master = learner['optimizer']['states']['weight']
    assert momentum.dtype == master.dtype == np.float32
    # The weights are their masters, rounded.
    assert np.array_equal(master.astype(np.float16), learner['parameters']['weight'])
    assert not np.array_equal(master, learner['parameters']['weight'].astype(np.float32))


def test_softmax_of_float16_adds_up_in_float32(monkeypatch):
    monkeypatch.setenv('MXNET_SAFE_ACCUMULATION', '0')  # so that it is restored afterwards
    ones = mx.nd.ones((1, 8192), dtype='float16')
    assert mx.nd.softmax(ones).asnumpy()[0, 0] > 2 / 8192
    monkeypatch.delenv('MXNET_SAFE_ACCUMULATION')
    Precision('float16')
    assert mx.nd.softmax(ones).asnumpy()[0, 0] == np.float16(1 / 8192)


@pytest.mark.parametrize(('value', 'finite'), [(60000.0, True), (np.inf, False), (np.nan, False)])
@pytest.mark.parametrize('place', ['weight', 'gamma'])
def test_gradients_of_both_precisions_are_checked(value, finite, place):
    """Large gradients in float16 are finite, even if their squares are not."""
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(4, in_units=3), gluon.nn.BatchNorm(in_channels=4))
    net.initialize()
    net.cast('float16')
    for parameter in net.collect_params('.*(weight|bias|gamma|beta)').values():
        parameter.grad()[:] = 1.0
    next(iter(net.collect_params(f'.*{place}').values())).grad()[:] = value
    step = TrainingStep(net, trainer_of(net, 0.1, 0.9, 0.0, multi_precision=True), Criterion(4), [mx.cpu()])
    assert np.isfinite(step._norm(0).asscalar()) == finite


def test_masters_gather_what_float16_would_lose(tmp_path):
    job, outputs = float16_job(tmp_path / 'run', lr=1e-6)
    train(job, Position(), outputs)
    learner = read_checkpoint(sorted((tmp_path / 'run' / 'checkpoints').iterdir())[-1])['learner']
    assert np.array_equal(learner['parameters']['weight'], np.ones((1, 3), np.float16))
    assert not np.array_equal(learner['optimizer']['states']['weight'][1], np.ones((1, 3)))


def test_a_float16_run_resumes_with_the_same_bits(tmp_path):
    job, outputs = float16_job(tmp_path / 'run')
    train(job, Position(), outputs)
    first = sorted((tmp_path / 'run' / 'checkpoints').iterdir())[0]
    state = read_checkpoint(first)
    again, outputs = float16_job(tmp_path / 'again')
    restore(again.net, again.step.trainer, state['learner'], str(first))
    again.scaler.set(state['learner']['loss_scale'])
    train(again, Position.from_tree(state['record']), outputs)
    ends = [read_checkpoint(sorted((tmp_path / n / 'checkpoints').iterdir())[-1])['learner'] for n in ('run', 'again')]
    assert str(ends[0]) == str(ends[1])
    assert ends[0]['loss_scale'] == ends[1]['loss_scale']
    # A float32 run refuses it, and says why.
    other, _ = make(tmp_path / 'other')
    with pytest.raises(UserError, match='belongs to another network|was trained in another precision'):
        restore(other.net, other.step.trainer, state['learner'], str(first))


def test_an_overflow_in_float16_lowers_the_scale_and_is_undone(tmp_path):
    job, outputs = float16_job(tmp_path / 'run')
    job.scaler = LossScaler(2.0**24, window=99, lag=LAG)
    job.max_skipped = 0
    position = Position()
    assert train(job, position, outputs)
    assert position.skipped > 0
    assert job.scaler.scale < 2.0**24
    assert np.isfinite(position.rows[-1]['train_loss'])


def test_float32_is_left_alone():
    net = gluon.nn.Dense(4)
    assert Precision('float32').program(net) is net


# In a process of its own, because the casts are permanent.
BFLOAT16 = """
import environment
import mxnet as mx, numpy as np
import tests.training.test_loop as loop_tests
from training.task import Network

task = loop_tests.quadrants(dtype='bfloat16', no_wd=False, label_smoothing=0.0)
task.network = Network('cifar_atac_resnet8_v2', {'channels': (8, 8, 16, 24), 'classes': 4})
net = task.new_network()
step = task.learner(net, 'hybrid')
step.trainer.set_learning_rate(0.05)
random = np.random.RandomState(0)
data, labels = random.randn(16, 3, 16, 16).astype('float32'), np.arange(16) % 4
losses = [step(data, labels)[0].asnumpy()[0] / 16 for _ in range(12)]
out = step.program(mx.nd.array(data))
inner = net.features[1](mx.nd.array(data))
types = {p.data().dtype.__name__ for p in net.collect_params().values()}
print(losses)
assert losses[-1] < 0.7 * losses[0], losses
assert out.dtype == np.float32 and types == {'float32'}, (out.dtype, types)
assert inner.dtype != np.float32, 'nothing was computed in bfloat16'
"""


# A run that is resumed after its first epoch, with a step that is skipped, ends with the bits of one that was not.
RESUMED = """
import environment
import pathlib, sys
import numpy as np
import tests.training.test_loop as loop_tests
from training.checkpoints.checkpoint import read_checkpoint
from training.checkpoints.position import Position
from training.checkpoints.state import restore
from training.loop import train

def job_in(folder):
    job, outputs = loop_tests.make(folder, 'hybrid', dtype='bfloat16', num_epochs=2, max_skipped=1)
    loop_tests.poison(job, 7, np.inf)
    return job, outputs

folder = pathlib.Path(sys.argv[1])
whole, outputs = job_in(folder / 'whole')
position = Position()
assert train(whole, position, outputs) and position.skipped == 1, position.skipped
later, outputs = job_in(folder / 'later')
checkpoints = sorted((folder / 'whole' / 'checkpoints').iterdir())
state = next(read_checkpoint(path) for path in checkpoints if read_checkpoint(path)['record']['epoch'] == 1)
restore(later.net, later.step.trainer, state['learner'], 'it')
assert train(later, Position.from_tree(state['record']), outputs)
ends = [loop_tests.parameters(job) for job in (whole, later)]
for name in ends[0]:
    np.testing.assert_array_equal(ends[0][name], ends[1][name])
    assert np.isfinite(ends[0][name]).all()
"""


# What is explained or optimized in the process of a training, such as for its report, is the float32 network.
EXPLAINED = """
import environment
import mxnet as mx, numpy as np
from inference.explain.hooks import ActivationHooks, hooked
from inference.optimization.in_mxnet import folded_graph
from model import get_model
from training.precision import Precision

net = get_model('cifar_se_resnet8_v2')
net.initialize(mx.init.Xavier())
data = np.random.RandomState(0).randn(2, 3, 32, 32).astype('float32')
net(mx.nd.array(data))

def differentiated():
    def attach(stack, taps):
        stack.enter_context(hooked(net.features[-4], lambda _, out: taps.append(('stage2', out))))

    answer, maps, gradients = ActivationHooks(net, attach, differentiable=True).differentiate(data, [3, 5])
    return [answer, *maps, *gradients, *folded_graph(net).params.values()]

before = differentiated()
Precision('bfloat16')
assert net.features[1](mx.nd.array(data)).dtype != np.float32
for one, other in zip(before, differentiated()):
    np.testing.assert_array_equal(one, other)
"""


@pytest.mark.skipif(bool(lacks('bfloat16')), reason='this CPU has no bfloat16')
@pytest.mark.parametrize('program', [BFLOAT16, RESUMED, EXPLAINED], ids=['trains', 'resumes', 'explains'])
def test_bfloat16(program, tmp_path):
    result = subprocess.run([sys.executable, '-c', program, str(tmp_path)], capture_output=True, text=True, timeout=300)
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


@pytest.mark.parametrize(
    ('given', 'expected', 'line'),
    [
        ({'num_gpus': 2, 'horovod': False}, [mx.gpu(0), mx.gpu(1)], 'training on GPU 0, GPU 1'),
        ({'num_gpus': 0, 'horovod': False}, [mx.cpu()], 'training on the CPU'),
        ({'gpus': '3', 'horovod': False}, [mx.gpu(3)], 'training on GPU 3'),
        ({'num_gpus': 1, 'horovod': True}, [mx.gpu(2)], 'training on GPU 2, in 8 processes'),
        ({'gpus': '0', 'horovod': True}, [mx.gpu(2)], 'training on GPU 2, in 8 processes'),
        ({'gpus': '', 'horovod': True}, [mx.cpu()], 'training on the CPU, in 8 processes'),
    ],
)
def test_devices_of_a_run(monkeypatch, given, expected, line):
    """Each of several processes has the GPU with its number on its machine."""
    monkeypatch.setattr(mx.context, 'num_gpus', lambda: 4)
    ranks = Ranks()
    ranks.size, ranks.rank, ranks.local_rank = 8, 6, 2
    assert chosen_devices(MachineSettings(**given), ranks) == (expected, line)


@pytest.mark.parametrize(
    ('given', 'complaint'),
    [
        ({'num_gpus': 5, 'horovod': False}, '--num-gpus is 5; this machine has the GPUs 0 to 3'),
        ({'num_gpus': 2, 'horovod': True}, '--num-gpus 2 is more than one, but --horovod uses one process per GPU'),
        ({'gpus': '0,1', 'horovod': True}, '--gpus 0,1 is more than one'),
    ],
)
def test_devices_that_a_run_cannot_have(monkeypatch, given, complaint):
    monkeypatch.setattr(mx.context, 'num_gpus', lambda: 4)
    with pytest.raises(UserError, match=complaint):
        chosen_devices(MachineSettings(**given), Ranks())
