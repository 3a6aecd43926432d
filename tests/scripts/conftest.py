"""Run scripts as users run them, on two tiny networks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Tuple

import mxnet as mx
import numpy as np
import pytest

import environment
from model import get_model, save_params

ROOT = Path(__file__).resolve().parents[2]
NAME = 'cifar_atac_resnet8_v2'


def path_of(script: str) -> Path:
    """Return the path of a script, in scripts/ or in tools/."""
    return next(path for folder in ('scripts', 'tools') for path in [ROOT / folder / script] if path.exists())


def run(script: str, *arguments: Any, cwd: Any = None, **variables: str) -> subprocess.CompletedProcess:
    """Run a script with this Python, whatever its exit status."""
    return subprocess.run(
        [sys.executable, str(path_of(script)), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **variables},
        timeout=300,
    )


def make_network(classes: int) -> Any:
    """Return a tiny network whose outputs depend on the image: random weights, and batch norms that saw images."""
    mx.random.seed(1)
    np.random.seed(1)
    net = get_model(NAME, classes=classes)
    net.initialize(mx.init.MSRAPrelu())
    random = np.random.RandomState(0)
    with mx.autograd.record():
        net(mx.nd.array(random.randn(32, 3, 32, 32)))
    return net


@pytest.fixture(scope='session')
def digits_params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return untrained parameters for the digits, with their manifest."""
    path = tmp_path_factory.mktemp('digits') / 'net.params'
    manifest = {
        'model': NAME,
        'model_kwargs': {'classes': 10},
        'classes': 10,
        'class_names': [f'{i}' for i in range(10)],
        'preprocessing': {'size': 32, 'mean': [0.3] * 3, 'std': [0.35] * 3, 'resize': None},
        'dataset': 'digits',
    }
    save_params(make_network(10), path, manifest)
    return path


@pytest.fixture(scope='session')
def bare_params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return parameters of a network with 3 classes, without a manifest."""
    path = tmp_path_factory.mktemp('bare') / 'net.params'
    make_network(3).save_parameters(str(path))
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., Tuple[int, str, str]]:
    """Run a script's `main` in this process, which saves the seconds that a new one takes to import MXNet.

    Returns exit status, stdout, stderr.
    """

    def call(script: str, *arguments: Any) -> Tuple[int, str, str]:
        path = path_of(script)
        monkeypatch.syspath_prepend(str(path.parent))
        spec = importlib.util.spec_from_file_location(f'script_{path.stem}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            environment.run_main(lambda: module.main([str(argument) for argument in arguments]))
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return call
