"""tools/benchmark_processes.py runs, and reports what it measured."""

import json
import subprocess
import sys

import pytest

from tests.training.jobs import ROOT, needs_horovod


@pytest.mark.heavy
@pytest.mark.slow
def test_both_kinds_are_measured(tmp_path):
    needs_horovod()
    flags = '--model cifar_resnet8_v2 --processes 2 --batch-size 2 --steps 2 --rounds 1'
    command = [sys.executable, 'tools/benchmark_processes.py', *flags.split(), '--json', str(tmp_path / 'out.json')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / 'out.json').read_text())
    (processes,), (threads,) = (figures['images_per_second'][kind] for kind in ('processes', 'threads'))
    assert figures['ratio'] == pytest.approx(processes / threads)
    assert f'{figures["ratio"]:6.2f}  processes / threads' in result.stdout
