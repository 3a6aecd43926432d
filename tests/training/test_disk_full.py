"""A disk that fills up costs one sentence and nothing else: older files stay intact, and the run can be resumed."""

import os
import resource
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from environment import UserError
from model import load_params, save_params
from tests.training import killing
from tests.training.small_disk import available, file_size_limit, on_small_disk
from training.checkpoints.checkpoint import CheckpointStore

STATE = {'a': np.arange(1000, dtype=np.float32), 'b': 'x' * 100}
small_disk = pytest.mark.skipif(not available(), reason='no name spaces here to mount a small disk in')


def test_a_checkpoint_that_ends_early_at_any_byte_leaves_the_older_ones(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    paths = [store.save({**STATE, 'n': n}, epoch=0, batch=n) for n in range(2)]
    contents = [path.read_bytes() for path in paths]
    size = len(contents[0])
    for limit in [*range(0, size, 97), size - 1]:
        with file_size_limit(limit), pytest.raises(UserError, match='larger than allowed') as caught:
            store.save({**STATE, 'n': 2}, epoch=0, batch=2)
        assert str(tmp_path) in str(caught.value)
        assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in paths)
    assert [path.read_bytes() for path in paths] == contents
    with file_size_limit(size):
        store.save({**STATE, 'n': 2}, epoch=0, batch=2)
    assert store.load_newest()[0]['n'] == 2


def dense(seed):
    mx.random.seed(seed)
    net = gluon.nn.Dense(20, in_units=50)
    net.initialize(mx.init.Normal(1))
    return net


def test_parameters_that_end_early_at_any_byte_leave_the_older_ones(tmp_path):
    path = tmp_path / 'best.params'
    save_params(dense(0), path, {'model': 'old'})
    contents = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    size = len(contents['best.params'])
    for limit in [*range(0, size, 97), size - 1]:
        with file_size_limit(limit), pytest.raises(UserError, match='larger than allowed'):
            save_params(dense(1), path, {'model': 'new'})
        assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == contents
    net = dense(2)
    load_params(net, path)
    assert np.array_equal(net.weight.data().asnumpy(), dense(0).weight.data().asnumpy())


@small_disk
def test_checkpoints_and_parameters_on_a_disk_that_is_really_full():
    """However much is free, from nothing to enough, page by page: one sentence, or a complete file."""
    done = on_small_disk(
        200,
        """
import numpy as np, mxnet as mx
from mxnet import gluon
from environment import UserError
from model import load_params, save_params
from training.checkpoints.checkpoint import CheckpointStore

net, other = gluon.nn.Dense(100, in_units=100), gluon.nn.Dense(100, in_units=100)
net.initialize(mx.init.Normal(1)), other.initialize()
store = CheckpointStore(disk / 'checkpoints', keep=1)
store.save({'n': 0, 'x': np.zeros(10000, 'f')}, 0, 0)
saved, counts, path = 0, {}, disk / 'best.params'
for free in range(0, 60000, 1000):
    fill(disk, free)
    for kind in 'checkpoint', 'parameters':
        try:
            if kind == 'checkpoint':
                store.save({'n': saved + 1, 'x': np.zeros(10000, 'f')}, 0, 0)
                saved += 1
            else:
                save_params(net, path, {'model': 'x'})
            result = 'written'
        except UserError as error:
            assert 'the disk is full; free some space there' in str(error), error
            assert str(disk) in str(error), error
            result = 'refused'
        counts[kind, result] = counts.get((kind, result), 0) + 1
        assert not list(disk.glob('**/*.part')), list(disk.glob('**/*'))
        assert store.load_newest()[0]['n'] == saved
        if path.exists():
            load_params(other, path)
            assert (net.weight.data() == other.weight.data()).asnumpy().all()
            path.unlink()
            path.with_suffix('.json').unlink()
print(sorted(counts))
""",
    )
    assert done.returncode == 0, done.stderr
    expected = [(kind, result) for kind in ('checkpoint', 'parameters') for result in ('refused', 'written')]
    assert done.stdout == f'{expected}\n'


def one_sentence(output):
    """Return the error that ended a run, its last line, and assert that there is no traceback."""
    assert 'Traceback' not in output
    return output.strip().split('\n')[-1]


def run_limited(folder, size, *flags):
    """Run train_cifar.py with files limited to `size` bytes; return its exit status and all its output."""
    command = [sys.executable, 'train_cifar.py', *killing.FLAGS, '--save-dir', str(folder), *flags]
    done = subprocess.run(
        command,
        cwd=killing.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return done.returncode, done.stdout


@pytest.fixture(scope='module')
def never_stopped():
    return killing.never_stopped()


def test_a_run_that_cannot_save_ends_with_one_sentence_and_can_go_on(tmp_path, never_stopped):
    """The disk is full once at the first checkpoint and once, after resuming from one, at an epoch's parameters."""
    folder = tmp_path / 'run'
    size = min(path.stat().st_size for path in (never_stopped / 'checkpoints').iterdir())
    status, output = run_limited(folder, size // 2)
    assert status == 1
    assert 'cannot write' in one_sentence(output)
    assert '.ckpt: the file would be larger than allowed' in one_sentence(output)
    assert list((folder / 'checkpoints').iterdir()) == []

    parameters = min(path.stat().st_size for path in never_stopped.glob('*.params'))
    status, output = run_limited(folder, parameters - 1, '--resume', '--checkpoint-interval', '0')
    assert status == 1
    assert '.params: the file would be larger than allowed' in one_sentence(output)
    killing.finish(folder, '--resume')
    assert killing.differences(killing.outcome(never_stopped), killing.outcome(folder)) == []


@small_disk
def test_a_run_on_a_disk_that_fills_up_keeps_its_last_checkpoint(never_stopped):
    size = max(path.stat().st_size for path in (never_stopped / 'checkpoints').iterdir())
    command = [sys.executable, 'train_cifar.py', *killing.FLAGS]
    done = on_small_disk(
        20 * size // 1024,
        f"""
from training.checkpoints.checkpoint import CheckpointStore
from tests.training import killing
command = {command!r} + ['--resume', '--save-dir', str(disk / 'run')]
fill(disk, {5 * size // 2})  # two checkpoints and a half
done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
assert done.returncode == 1, done
assert 'Traceback' not in done.stdout, done.stdout
last = done.stdout.strip().split('\\n')[-1]
assert 'the disk is full; free some space there and start again' in last, done.stdout
state, path = CheckpointStore(disk / 'run' / 'checkpoints').load_newest()
assert state['record']['step'] > 0
fill(disk, 10**9)
done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
assert done.returncode == 0, done.stdout
assert f'resumed from {{path}}' in done.stdout, done.stdout
print(killing.outcome(disk / 'run'))
""",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == str(killing.outcome(never_stopped))
