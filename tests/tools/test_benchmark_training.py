"""tools/benchmark_training.py: every contender works, and the ratios follow from the measurements."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    '--model cifar_atac_resnet8_v2 --baseline cifar_resnet8_v2 --batch-size 4 --steps 2 --rounds 2 --mode hybrid -j 1'
)


@pytest.mark.heavy
@pytest.mark.slow
def test_all_contenders_run_in_turn(tmp_path):
    command = [sys.executable, 'tools/benchmark_training.py', *SMALL.split(), '--json', str(tmp_path / 'out.json')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / 'out.json').read_text())
    measured = figures['measurements']
    assert all(len(values) == 2 and min(values) > 0 for values in measured.values())
    assert figures['images_per_second'] == {name: statistics.median(values) for name, values in measured.items()}
    pairs = zip(measured['loop'], measured['bare'])
    assert figures['ratios']['loop_to_bare'] == statistics.median([loop / bare for loop, bare in pairs])
    for name in measured:
        assert name in result.stdout


PROFILED = """
import os, sys
sys.path.insert(0, 'tools')
os.devnull = sys.argv[1]
from _training_step import convolutions, training_step

spec = {'precision': 'float32', 'size': 32, 'classes': 10, 'model': 'cifar_resnet8_v2', 'mode': 'hybrid'}
print(convolutions(training_step({**spec, 'recompute': False, 'batch': 2}, profiled=True), steps=1))
"""


def test_a_profile_removes_no_device(tmp_path):
    """MXNet removes the file that a profile is to be written to."""
    device = tmp_path / 'null'
    device.touch()
    command = [sys.executable, '-c', PROFILED, str(device)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert 0 < float(result.stdout) < 1
    assert device.exists()


@pytest.mark.parametrize('flags', ['--steps 1', '--contender fast', '--batch-size 0', '--round 3'])
def test_wrong_usage(flags):
    command = [sys.executable, 'tools/benchmark_training.py', *flags.split()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        ('--beside-torch no-such-python', '--beside-torch no-such-python cannot be run'),
        ('--beside-torch', '--beside-torch needs a Python that has torch'),
        ('--beside-torch --cells cifar_resnet8_v2', "--cells has 'cifar_resnet8_v2'; give NAME:BATCH"),
        ('--beside-torch --cells cifar_resnet8_v2:4:int8', "--cells has 'cifar_resnet8_v2:4:int8'"),
        ('--beside-torch --cells cifar_x:4', '--cells: '),
    ],
)
def test_wrong_usage_beside_torch(flags, said, monkeypatch, in_process):
    monkeypatch.delenv('TORCH_PYTHON', raising=False)
    code, _, err = in_process('benchmark_training.py', *flags.split())
    assert (code, said in err) == (2, True), err
