"""Recomputation: the same gradients as without it, in less memory."""

import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

import train_cifar
from environment import UsageError
from model import get_model
from training import recompute
from training.recompute import Recomputed, segments_of
from training.tasks.cifar import CifarTask

SIDE = 16
TARGETS = mx.nd.array([0, 1, 2, 3], dtype='float64')
# Stages in a sequential of their own; carries that nothing uses; a unit that a stage shares.
NETWORKS = {
    'cifar_resnet8_v2': {},
    'cifar_dia_resnet11bn_v1': {},
    'cifar_dca_cbam_resnet11bn_v1': {},
    'cifar_atac_dca_se_preresnet11': {},
    'mnasnet0_5': {'classes': 10, 'final_drop': 0.0},
}


def images(count=4):
    # In float64, because with a few small images rounding dominates float32's gradients.
    return mx.nd.array(np.random.RandomState(0).standard_normal((count, 3, SIDE, SIDE)), dtype='float64')


def built(name, **options):
    mx.random.seed(2)
    net = get_model(name, **options)
    net.initialize(mx.init.MSRAPrelu())
    net.cast('float64')
    net(images(1))
    return net


def values(net, of):
    return {name: of(p).asnumpy() for name, p in net._collect_params_with_prefix().items()}


def gradients(net):
    return values(net, lambda p: p.grad() if p.grad_req != 'null' else p.data())


def learn(net, program):
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    with autograd.record():
        losses = loss(program(images()), TARGETS)
    losses.backward()
    if program is not net:
        program.backward()
    return losses.asnumpy(), gradients(net)


@pytest.mark.parametrize('hybrid', [False, True])
@pytest.mark.parametrize('name', NETWORKS)
def test_losses_gradients_and_running_statistics_are_the_networks(name, hybrid):
    plain, saving = (built(name, **NETWORKS[name]) for _ in range(2))
    if hybrid:
        plain.hybridize()
        saving.hybridize()
    program = Recomputed(saving, saving, hybrid, False)
    for _ in range(2):  # the second time with existing graphs
        expected, found = learn(plain, plain), learn(saving, program)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-10)
        assert found[1].keys() == expected[1].keys()
        for own, theirs in zip(found[1].values(), expected[1].values()):
            np.testing.assert_allclose(own, theirs, rtol=1e-7, atol=1e-10 * max(1, np.abs(theirs).max()))
    assert not program._passes


def test_a_validation_is_the_networks_own():
    net = built('cifar_resnet8_v2')
    np.testing.assert_array_equal(Recomputed(net, net, True, False)(images()).asnumpy(), net(images()).asnumpy())


def test_both_runs_of_a_segment_draw_the_same(monkeypatch):
    """The gradients equal those of one pass with the same seeds, which is only so if dropout drops the same."""
    net = built('cifar_wrn10_1', block_drop=0.5)
    program = Recomputed(net, net, False, True)
    monkeypatch.setattr(program, '_seeds', lambda: list(range(7, 7 + len(program._segments))))
    losses, found = learn(net, program)
    with autograd.record():
        state = [images()]
        for seed, segment in enumerate(program._segments, 7):
            mx.random.seed(seed)
            out = segment(*[state[place] for place in segment.taken(len(state))])
            state = list(out) if isinstance(out, (list, tuple)) else [out]
        expected = gluon.loss.SoftmaxCrossEntropyLoss()(program._head[0](state[0]), TARGETS)
    expected.backward()
    np.testing.assert_array_equal(losses, expected.asnumpy())
    learned = [name for name, p in net._collect_params_with_prefix().items() if p.grad_req != 'null']
    for own, theirs in ((found[name], gradients(net)[name]) for name in learned):
        np.testing.assert_allclose(own, theirs, rtol=1e-7, atol=1e-10)


def test_seeds_are_those_of_the_step():
    net = built('cifar_resnet8_v2')
    program = Recomputed(net, net, False, True)
    drawn = []
    for seed in (1, 1, 2):
        mx.random.seed(seed)
        drawn.append(program._seeds())
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == len(program._segments)


def test_on_a_gpu_the_second_forward_pass_updates_no_statistics(monkeypatch):
    """cuDNN updates them in every forward pass, so the values from before the second pass are restored."""
    net = built('cifar_resnet8_v2')
    program = Recomputed(net, net, False, False)

    own, seen = recompute._updated_forward, []

    def on_a_gpu(segment, context):
        found = [(p, p.data().copy()) for p in segment.collect_params().values() if 'running' in p.name]
        seen.extend(found)
        return found

    assert own(program._segments[1], mx.cpu()) == []
    monkeypatch.setattr(recompute, '_updated_forward', on_a_gpu)
    learn(net, program)
    assert seen
    for parameter, before in seen:
        np.testing.assert_array_equal(parameter.data().asnumpy(), before.asnumpy())


def test_blocks_that_share_a_unit_are_one_segment():
    assert len(segments_of(get_model('cifar_resnet20bn_v1'))) == 2 + 6
    assert len(segments_of(get_model('cifar_dia_resnet20bn_v1'))) == 2 + 3


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        ('--mode static', '--mode static keeps the memory'),
        ('--dtype bfloat16', '--recompute trains in float32, and --dtype is bfloat16'),
        ('--horovod --sync-bn', '--sync-bn updates running statistics in the forward pass'),
    ],
)
def test_what_it_cannot_be_combined_with(flags, said):
    parser = train_cifar.make_parser()
    argv = f'--dataset digits --model cifar_resnet8_v2 --recompute {flags}'.split()
    task = CifarTask(parser.parse(argv))
    with pytest.raises(UsageError, match=said):
        task.check_flags(parser, argv, task.choose(10))


@pytest.mark.parametrize(
    ('name', 'least'), [('cifar_resnet56_v2', 0.2), ('resnet50_v1b', 0.25), ('cifar_dia_resnet20bn_v1', 0)]
)
def test_the_last_segments_are_kept_where_a_third_of_the_memory_has_room(name, least):
    net = get_model(name)
    program = Recomputed(net, net, True, False)
    size = 32 if name.startswith('cifar') else 224
    count = program._count(mx.nd.zeros((8, 3, size, size)))
    assert 1 <= count <= (1 - least) * len(program._segments)


def test_a_network_without_stages_is_refused():
    class Own(gluon.nn.HybridSequential):
        pass

    with pytest.raises(UsageError, match='--recompute needs a network of stages, and Own has no'):
        segments_of(Own())


PEAK = """
import environment, re, sys
import mxnet as mx
from mxnet import autograd
from environment.memory import return_freed_memory
from model import get_model
from training.recompute import Recomputed
return_freed_memory()
net = get_model('cifar_resnet56_v2')
net.initialize()
x = mx.nd.ones((48, 3, 32, 32))
net(x[:1]).wait_to_read()
net.hybridize()
program = Recomputed(net, net, True, False) if sys.argv[1] == 'saving' else net
def step(x):
    with autograd.record():
        loss = program(x).sum()
    loss.backward()
    if program is not net:
        program.backward()
    mx.nd.waitall()
step(x[:1])
def read(name):
    return int(re.search(name + r':\\s+(\\d+)', open('/proc/self/status').read()).group(1))
before = read('VmRSS')
step(x)
print(read('VmHWM') - before)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='it reads /proc')
def test_it_takes_less_than_half_of_the_memory():
    # One operator after another, so that the peak is the same each time.
    variables = {**os.environ, 'MXNET_ENGINE_TYPE': 'NaiveEngine'}
    peaks = [
        int(
            subprocess.run([sys.executable, '-c', PEAK, kind], check=True, stdout=subprocess.PIPE, env=variables).stdout
        )
        for kind in ('plain', 'saving')
    ]
    assert peaks[1] < 0.5 * peaks[0]
