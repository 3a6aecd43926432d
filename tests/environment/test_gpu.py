"""Which GPUs MXNet's CUDA build runs on, with a stand-in for the driver."""

import ctypes
import sys

import pytest

from environment import gpu


class Driver:
    """Stand in for the part of libcuda that is used, with GPUs of these compute capabilities."""

    def __init__(self, *capabilities, version=12040):
        self.capabilities, self.version = capabilities, version

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.capabilities)
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGetName(self, name, size, index):
        name.value = b'GPU %d' % index
        return 0

    def cuDeviceGetAttribute(self, value, attribute, index):
        value._obj.value = self.capabilities[index][{75: 0, 76: 1}[attribute]]
        return 0


@pytest.mark.parametrize(
    ('capability', 'build'),
    [
        ((3, 7), 'cpu'),
        ((5, 0), 'gpu'),
        ((6, 1), 'gpu'),
        ((7, 5), 'gpu'),
        ((8, 6), 'gpu'),
        ((8, 9), 'gpu'),
        ((9, 0), 'cpu'),
        ((12, 0), 'cpu'),
    ],
)
def test_the_build_follows_the_capability(monkeypatch, capability, build):
    monkeypatch.setattr(gpu, '_driver', lambda: Driver(capability))
    chosen, reason = gpu.wheel()
    assert chosen == build
    assert build == 'gpu' or f'compute capability {capability[0]}.{capability[1]}' in reason


def test_one_usable_gpu_is_enough(monkeypatch):
    monkeypatch.setattr(gpu, '_driver', lambda: Driver((9, 0), (8, 6)))
    assert gpu.wheel() == ('gpu', 'GPU 1')
    assert gpu.gpus() == [gpu.Gpu('GPU 0', (9, 0)), gpu.Gpu('GPU 1', (8, 6))]


def test_an_old_driver(monkeypatch):
    monkeypatch.setattr(gpu, '_driver', lambda: Driver((7, 0), version=10020))
    build, reason = gpu.wheel()
    assert build == 'cpu'
    assert 'CUDA 10' in reason


def test_no_driver(monkeypatch):
    monkeypatch.setattr(gpu, '_driver', lambda: None)
    assert (gpu.gpus(), gpu.driver_cuda_version()) == ([], None)
    assert gpu.wheel() == ('cpu', 'no NVIDIA GPU found')


@pytest.mark.skipif(sys.platform != 'linux', reason='there are drivers for Linux only')
def test_a_driver_that_does_not_start_is_none(monkeypatch):
    class Silent:
        def cuInit(self, flags):
            return 100  # CUDA_ERROR_NO_DEVICE

    monkeypatch.setattr(ctypes, 'CDLL', lambda name: Silent())
    assert gpu.gpus() == []
