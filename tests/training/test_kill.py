"""A run that is killed or stopped at any moment, and resumed, ends with the bits of one that was never interrupted."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels
from tests.kernels import needs  # noqa: F401  which loads the kernels
from tests.training import killing
from training.checkpoints.checkpoint import CheckpointStore

KILLS = 5  # one in each way; results/reliability/ has a hundred


@pytest.fixture(scope='module')
def expected():
    """Return what every run must end with."""
    return killing.outcome(killing.never_stopped())


def test_runs_killed_at_random_moments_end_with_the_same_bits(tmp_path, expected):
    seed = random.randrange(1 << 32)
    hits, runs = killing.kill_until(KILLS, tmp_path, seed)
    assert len(hits) == KILLS
    for run in runs:
        state, _ = CheckpointStore(run / 'checkpoints').load_newest()
        assert state['arithmetic']['kernels'] == kernels.identity(), 'the kernels are in use where they can be'
    different = {run.name: killing.differences(expected, killing.outcome(run)) for run in runs}
    assert not any(different.values()), (seed, different, hits)
    for run in runs:
        leftovers = list(run.glob('**/*.part'))
        assert leftovers == [], 'what a killed process left is removed by the next one'


SAVE = """
import os, signal, sys
import numpy as np
from training.checkpoints.checkpoint import CheckpointStore

store = CheckpointStore(sys.argv[1], keep=1)
stage, count = sys.argv[2], int(sys.argv[3])

def deadly(name):
    original = getattr(os, name)
    def call(*args, **kwargs):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(os, name, call)

def trace(frame, event, argument):
    if event == 'line' and frame.f_code.co_filename.endswith(('files.py', 'checkpoint.py')):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

if stage == 'line':
    sys.settrace(trace)
else:
    deadly(stage)
store.save({'n': 2, 'x': np.arange(5000)}, 0, 2)
sys.settrace(None)
print('done')
"""


def save_and_die(folder, stage, count):
    """Save a second checkpoint in a process that kills itself at a point; return whether it was saved."""
    command = [sys.executable, '-c', SAVE, str(folder), stage, str(count)]
    done = subprocess.run(command, cwd=killing.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(
    ('stage', 'count', 'survives'),
    [
        ('fsync', 0, 1),  # all bytes written, none flushed
        ('replace', 0, 1),  # flushed, under its temporary name
        ('fsync', 1, 2),  # under its name, the folder not flushed
        ('unlink', 0, 2),  # complete, with the older one still there
    ],
)
def test_a_save_killed_at_each_of_its_steps_leaves_one_intact_checkpoint(tmp_path, stage, count, survives):
    store = CheckpointStore(tmp_path, keep=1)
    store.save({'n': 1}, 0, 1)
    assert not save_and_die(tmp_path, stage, count)
    assert store.load_newest()[0]['n'] == survives
    store.save({'n': 3}, 0, 3)
    assert store.load_newest()[0]['n'] == 3
    assert not list(tmp_path.glob('.*')), 'the temporary file of the dead process is still there'


def test_a_save_killed_at_random_lines_leaves_an_intact_checkpoint(tmp_path):
    for number in range(8):
        folder = tmp_path / str(number)
        store = CheckpointStore(folder, keep=1)
        store.save({'n': 1}, 0, 1)
        count = random.randrange(150)
        through = save_and_die(folder, 'line', count)
        assert store.load_newest()[0]['n'] in ((2,) if through else (1, 2)), count


def test_an_interrupted_run_says_where_it_is_and_goes_on(tmp_path, expected):
    """After the batch, SIGTERM ends it with status 143 and SIGINT with 130, and its last state is saved."""
    folder = tmp_path / 'run'
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = killing.start(folder, '--resume', '--checkpoint-interval', '5')
        assert killing.appears(process, folder, r'.+\.ckpt'), killing.said(folder)
        process.send_signal(number)
        assert killing.status(process) == status, killing.said(folder)
        assert f'{signal.Signals(number).name}: finishing the batch and saving' in killing.said(folder)
        assert 'Traceback' not in killing.said(folder)
        state, _ = CheckpointStore(folder / 'checkpoints').load_newest()
        stopped = re.findall(
            r'stopped by SIG\w+ in epoch (\d+), after batch (\d+); --resume goes on from here', killing.said(folder)
        )
        assert (state['record']['epoch'] + 1, state['record']['batch']) == tuple(map(int, stopped[-1]))
    killing.finish(folder, '--resume')
    assert killing.differences(expected, killing.outcome(folder)) == []


@pytest.fixture(scope='module')
def _stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stopped') / 'run'
    process = killing.start(folder)
    assert killing.appears(process, folder, r'.+\.ckpt', 4), killing.said(folder)
    process.send_signal(signal.SIGTERM)
    assert killing.status(process) == 143, killing.said(folder)
    return folder


@pytest.fixture
def stopped(_stopped, tmp_path):
    """Return a stopped run that has at least three checkpoints."""
    folder = Path(shutil.copytree(_stopped, tmp_path / 'run'))
    assert len(CheckpointStore(folder / 'checkpoints').paths()) == 3
    return folder


def test_damaged_newest_checkpoints_are_skipped_and_nothing_is_lost(stopped, expected):
    newest, second, third = CheckpointStore(stopped / 'checkpoints').paths()
    os.truncate(newest, newest.stat().st_size // 2)
    content = bytearray(second.read_bytes())
    content[len(content) // 3] ^= 4
    second.write_bytes(content)
    killing.finish(stopped, '--resume')
    said = killing.said(stopped)
    assert f'skipping {newest}, which has' in said
    assert f'skipping {second}, which is damaged' in said
    assert f'resumed from {third}' in said
    assert killing.differences(expected, killing.outcome(stopped)) == []


def refused(folder, *flags):
    """Try to resume a run that must not be resumed; return status and last line, and assert that nothing changes."""
    before = {path: path.read_bytes() for path in (folder / 'checkpoints').iterdir()}
    status = killing.status(killing.start(folder, '--resume', *flags))
    assert 'Traceback' not in killing.said(folder)
    assert {path: path.read_bytes() for path in (folder / 'checkpoints').iterdir()} == before
    return status, killing.said(folder).strip().split('\n')[-1]


def test_no_intact_checkpoint_is_one_sentence(stopped):
    for path in CheckpointStore(stopped / 'checkpoints').paths():
        os.truncate(path, 1000)
    status, sentence = refused(stopped)
    assert status == 1
    assert sentence.startswith('error: none of the 3 checkpoints in ')


def test_a_checkpoint_of_another_network_is_one_sentence(stopped):
    store = CheckpointStore(stopped / 'checkpoints')
    state, path = store.load_newest()
    parameters = state['learner']['parameters']
    name = next(name for name in parameters if name.endswith('weight'))
    shape = parameters[name].shape
    parameters[name] = np.zeros((7, *shape[1:]), np.float32)
    path = store.save(state, 0, 0)
    status, sentence = refused(stopped)
    assert status == 1
    assert sentence.startswith(
        f'error: {path} belongs to another network: parameter {name} has shape {(7, *shape[1:])}'
    )
    assert f'{shape} here' in sentence


def test_other_flags_than_the_run_began_with_are_one_sentence(stopped):
    status, sentence = refused(stopped, '--model', 'cifar_resnet8_v2')
    assert status == 2
    assert '--model' in sentence
