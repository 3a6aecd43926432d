"""Several threads of one process train and predict at once, in all precisions: same results, bounded memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
def test_threads_get_the_answers_of_one_and_memory_stays():
    command = [sys.executable, '-m', 'tests.inference.soak', '--seconds', '10']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'training: ' in done.stdout
