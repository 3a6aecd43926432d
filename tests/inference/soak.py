"""Train, predict and serve at once from several threads of one process, and watch its memory.

    python -m tests.inference.soak --seconds 600

`soak` is what the heavy test runs for a shorter time. Every answer is compared with the one that the same network gave
when nothing else ran; memory is read once all threads have gone round several times and again at the end.
"""

import argparse
import sys
import threading
import time

import environment  # noqa: F401  (before anything imports MXNet)

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import kernels
from environment.cpu import lacks
from inference import optimize
from model import get_model

ROUNDS = 5  # of each thread, before memory is read for the first time


def resident():
    """Return the bytes of memory that this process holds."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096


class Worker(threading.Thread):
    """A thread that calls ``work()`` until told to stop, and keeps what it raised."""

    def __init__(self, work, stop):
        super().__init__(daemon=True)
        self.work, self.stop, self.rounds, self.error = work, stop, 0, None

    def run(self):
        try:
            while not self.stop.is_set():
                self.work()
                self.rounds += 1
        except BaseException as error:  # the caller reports it
            self.error = error
            self.stop.set()


def initialized(name, **options):
    net = get_model(name, **options)
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    return net


def predicting(network, images):
    """Return a function that fails as soon as an answer differs from the first."""
    expected = network(images).asnumpy()

    def work():
        answer = network(images).asnumpy()
        if not np.allclose(answer, expected, rtol=1e-4, atol=1e-4 * abs(expected).max()):
            raise AssertionError(f'an answer moved by {abs(answer - expected).max():.1e}')

    return work


def training(name):
    net = initialized(name)
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.01, 'momentum': 0.9})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    images, labels = mx.nd.random.normal(shape=(16, 3, 32, 32)), mx.nd.arange(16) % 10

    def work():
        with autograd.record(), kernels.fusing():
            value = loss(net(images), labels).mean()
        value.backward()
        trainer.step(1)
        if not np.isfinite(value.asscalar()):
            raise AssertionError('the loss is not finite')

    work()
    return work


def jobs():
    """Return the name and the work of every thread."""
    net = initialized('cifar_se_resnet20bn_v1')
    images = mx.nd.random.normal(shape=(4, 3, 32, 32))
    real = np.random.RandomState(0).randn(64, 3, 32, 32).astype('float32')
    shared = optimize(net, images.shape)
    made = {
        'training': training('cifar_atac_resnet8_v2'),
        'float32, shared by two': predicting(shared, images),
        'float32, shared by two (second)': predicting(shared, mx.nd.random.normal(shape=(3, 3, 32, 32))),
        'hybridized': predicting(hybridized(net), images),
    }
    if not lacks('int8'):
        made['int8'] = predicting(optimize(net, images.shape, 'int8', calibration=real), images)
    if not lacks('bfloat16'):
        made['bfloat16'] = predicting(optimize(net, images.shape, 'bfloat16'), images)
    return made


def hybridized(net):
    copy = get_model('cifar_se_resnet20bn_v1')
    copy.initialize()
    theirs = net._collect_params_with_prefix()
    for name, parameter in copy._collect_params_with_prefix().items():
        parameter.set_data(theirs[name].data())
    copy.hybridize(static_alloc=True, static_shape=True)
    return copy


def soak(seconds):
    """Run all jobs for a time; return the rounds of each, and the growth of memory in bytes."""
    stop = threading.Event()
    workers = {name: Worker(work, stop) for name, work in jobs().items()}
    for worker in workers.values():
        worker.start()
    end = time.monotonic() + seconds
    before = None
    while time.monotonic() < end and not stop.is_set():
        time.sleep(0.2)
        if before is None and all(worker.rounds >= ROUNDS for worker in workers.values()):
            before = resident()
    after = resident()
    stop.set()
    for name, worker in workers.items():
        worker.join()
        if worker.error is not None:
            raise AssertionError(name) from worker.error
    return {name: worker.rounds for name, worker in workers.items()}, after - (before or after)


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--seconds', type=float, default=600)
    rounds, growth = soak(parser.parse_args().seconds)
    for name, count in rounds.items():
        print(f'{name}: {count} rounds')
    print(f'memory grew by {growth / 2**20:.1f} MiB, {resident() / 2**20:.0f} MiB in all')
    sys.exit(growth > 64 * 2**20)
