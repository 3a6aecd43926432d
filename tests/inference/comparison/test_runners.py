"""The modes of tools/benchmark.py: each gives the network's outputs, or says in one sentence what is missing."""

import importlib.util
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from environment import UserError, threads
from environment.cpu import lacks
from inference.choices import COMPARED as MODES
from inference.comparison import default_process
from inference.comparison.runners import precisions_of, runner
from tests.inference.networks import images, make

NAME, SHAPE = 'cifar_se_resnet11bn_v1', (2, 3, 32, 32)
# What each mode computes in this environment; the others' packages belong to no extra.
PACKAGES = {'onnxruntime': ('onnx', 'onnxruntime'), 'openvino': ('onnx', 'openvino'), 'torch': ('torch',)}
CALIBRATION = images((16, 3, 32, 32), 5).asnumpy()


@pytest.mark.parametrize('mode', MODES)
def test_every_mode_answers_the_same(mode, tmp_path):
    for package in PACKAGES.get(mode, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'no {package}')
    data = images(SHAPE)
    expected = make(NAME, SHAPE)(data).asnumpy()
    for precision in precisions_of(mode):
        extra = {'onnxruntime': 'ml_dtypes', 'openvino': 'nncf'}.get(mode)
        if lacks(precision) or (precision == 'int8' and extra and importlib.util.find_spec(extra) is None):
            continue
        run = runner(make(NAME, SHAPE), mode, precision, SHAPE, CALIBRATION, tmp_path)
        answer = run(data.asnumpy())
        found = np.abs(answer - expected).max() / np.abs(expected).max()
        assert found < {'float32': 1e-4, 'bfloat16': 3e-2, 'int8': 0.2}[precision], precision
        assert (found > 1e-5) == (precision != 'float32')  # really computed in this precision
        if hasattr(run, 'close'):
            run.close()


@pytest.mark.parametrize(('mode', 'package'), [('openvino', 'openvino'), ('torch', 'torch')])
def test_a_mode_without_its_package(mode, package, tmp_path, monkeypatch):
    pytest.importorskip('onnx')
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f'^the mode {mode} needs the package {package}, .* -m pip install {package}'):
        runner(make(NAME, SHAPE), mode, 'float32', SHAPE, CALIBRATION, tmp_path)


def test_the_process_with_default_threads(monkeypatch):
    # A number of our own, which must not end up there.
    for name in threads.VARIABLES:
        monkeypatch.setenv(name, '7')
    net = make(NAME, SHAPE)
    process = default_process.DefaultProcess(net, SHAPE)
    data = images(SHAPE, 4)
    assert np.array_equal(process(data.asnumpy()), process(data.asnumpy()))
    np.testing.assert_allclose(process(data.asnumpy()), net(data).asnumpy(), rtol=1e-4, atol=1e-5)
    assert process.memory is None or 0 < process.memory < 1000
    given = Path(f'/proc/{process._process.pid}/environ')
    assert not given.exists() or not any(
        f'{name}=' in given.read_text() for name in (*threads.VARIABLES, *threads.WAITING)
    )
    process._process.kill()
    with pytest.raises(UserError, match='the process with the threads of MXNet ended with status -9'):
        process(data.asnumpy())
    process.close()
    mx.nd.waitall()
