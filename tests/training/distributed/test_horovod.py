"""Several processes that train together: equal to one process, killed and resumed, and agreeing in all decisions."""

import csv
import json
import os
import signal

import numpy as np
import pytest

from common.lock import alone
from environment import UsageError, UserError
from tests.data.conftest import make_jpeg
from tests.training import jobs, killing
from training.checkpoints.checkpoint import CheckpointStore
from training.config.optimizer import OptimizerSettings
from training.distributed.horovod import require_alike, require_flag
from training.distributed.ranks import Ranks

LONG = ('--num-epochs', '4', '--keep', '99')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return jobs.write_records(tmp_path_factory.mktemp('data'))


def learner(folder):
    return CheckpointStore(folder / 'checkpoints').load_newest()[0]['learner']['parameters']


def rows(folder):
    with open(folder / 'history.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def unbroken(data, tmp_path_factory):
    """Return a job of two processes that was never interrupted."""
    return jobs.finish(data, tmp_path_factory.mktemp('unbroken') / 'run', '--batch-size', '4', *LONG, processes=2)


def close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_two_processes_with_half_the_batch_each_are_one_with_the_whole(data, tmp_path, unbroken):
    one = jobs.finish(data, tmp_path / 'one', '--batch-size', '8', *LONG)
    close(learner(unbroken), learner(one))
    for row, other in zip(rows(unbroken), rows(one)):
        assert (row['step'], row['lr']) == (other['step'], other['lr'])
        for figure in ('train_loss', 'val_loss'):
            assert float(row[figure]) == pytest.approx(float(other[figure]), rel=1e-3)
        # Eleven images, each scored once: a multiple of 1 / 11.
        assert float(row['val_top1']) * 11 == pytest.approx(round(float(row['val_top1']) * 11), abs=1e-9)


def write_labels(folder):
    """A table of 40 images to train on and 11 to validate on, each with two labels, one or none of three."""
    folder.mkdir()
    lines = ['path,red,green,blue,split']
    for i in range(51):
        (folder / f'{i}.jpg').write_bytes(make_jpeg(i, 40, 40))
        lines.append(f'{i}.jpg,{int(i % 2 == 0)},{int(i % 3 == 0)},{int(i % 7 == 1)},{"train" if i < 40 else "val"}')
    (folder / 'labels.csv').write_text('\n'.join(lines))
    return folder / 'labels.csv'


@pytest.mark.heavy
def test_several_labels_an_image_in_two_processes_are_as_in_one(tmp_path):
    flags = (
        f'train_imagenet.py --dataset {write_labels(tmp_path / "data")} --model cifar_resnet11bn_v1 --use-gn '
        '--input-size 32 --num-epochs 2 --lr 0.0003 --mode hybrid -j 1 --class-weights auto '
        '--log-interval 1 --original-defaults'
    ).split()
    folders = {}
    for name, processes, batch in (('one', 0, '8'), ('two', 2, '4')):
        folders[name] = folder = tmp_path / name
        more = ['--batch-size', batch, '--save-dir', str(folder), *(['--horovod'] if processes else [])]
        job = jobs.start(tmp_path, folder, script=[*flags, *more], processes=processes)
        assert jobs.wait(job, folder) == 0, killing.said(folder)
    close(learner(folders['two']), learner(folders['one']))
    for row, other in zip(rows(folders['two']), rows(folders['one'])):
        for figure in ('train_loss', 'val_loss'):
            assert float(row[figure]) == pytest.approx(float(other[figure]), rel=1e-3), figure
        for figure in ('val_map', 'val_f1'):  # which jump where rounding swaps two images
            assert float(row[figure]) == pytest.approx(float(other[figure]), abs=0.05), figure
    assert 'mAP' in (folders['two'] / 'report.html').read_text()


@pytest.mark.parametrize('victims', [(0,), pytest.param((1,), marks=pytest.mark.heavy)])
def test_a_job_whose_ranks_die_ends_and_resumes_with_the_same_bits(data, tmp_path, unbroken, victims):
    folder = tmp_path / 'run'
    job = jobs.start(data, folder, '--batch-size', '4', *LONG, processes=2)
    jobs.wait_for_checkpoint(folder, job, 2)
    for process in jobs.ranks(folder):
        if jobs.rank_of(process) in victims:
            os.kill(process, signal.SIGKILL)
    assert jobs.wait(job, folder) not in (0, None)
    assert rows(unbroken)[-1]['epoch'] == '4'
    jobs.finish(data, folder, '--batch-size', '4', *LONG, '--resume', processes=2)
    assert killing.differences(killing.outcome(unbroken), killing.outcome(folder)) == []


@pytest.mark.heavy
def test_gradients_exchanged_in_float16_and_a_run_resumed(data, tmp_path, unbroken):
    """A run that is resumed exchanges them as it did, without being told again."""
    whole, folder = tmp_path / 'whole', tmp_path / 'run'
    jobs.finish(data, whole, '--batch-size', '4', *LONG, '--fp16-allreduce', processes=2)
    assert killing.differences(killing.outcome(unbroken), killing.outcome(whole)) != []
    close(learner(whole), learner(unbroken))
    job = jobs.start(data, folder, '--batch-size', '4', *LONG, '--fp16-allreduce', processes=2)
    jobs.wait_for_checkpoint(folder, job, 2)
    os.kill(jobs.ranks(folder)[0], signal.SIGKILL)
    assert jobs.wait(job, folder) not in (0, None)
    jobs.finish(data, folder, '--batch-size', '4', *LONG, '--resume', processes=2)
    assert killing.differences(killing.outcome(whole), killing.outcome(folder)) == []


def test_a_run_goes_on_with_another_number_of_processes(data, tmp_path, unbroken):
    """A run that two processes started is continued by one, which takes the images of both."""
    folder = tmp_path / 'run'
    store = CheckpointStore(folder / 'checkpoints', 99)
    path = sorted((unbroken / 'checkpoints').iterdir())[3]
    store.folder.mkdir(parents=True)
    (store.folder / path.name).write_bytes(path.read_bytes())
    (folder / 'settings.yaml').write_bytes((unbroken / 'settings.yaml').read_bytes())
    jobs.finish(data, folder, *LONG, '--resume')
    state, _ = store.load_newest()
    assert state['images per step'] == 8
    assert state['settings']['batch-size'] == 8
    close(learner(folder), learner(unbroken))


def test_a_second_job_in_the_same_folder_ends_with_one_sentence(data, tmp_path):
    folder = tmp_path / 'run'
    with alone(folder, 'training'):
        job = jobs.start(data, folder, '--batch-size', '4', '--resume', processes=2)
        assert jobs.wait(job, folder) == 1, killing.said(folder)
    assert f'error: {folder} is in use: process {os.getpid()} is training there' in killing.said(folder)


AGREED = """
import sys, environment
import mxnet as mx, numpy as np
from pathlib import Path
from tests.training.test_loop import TRAIN, VAL, make, parameters, poison
from tests.training.test_skipping import PLAIN
from training.checkpoints.checkpoint import encode_checkpoint
from training.distributed.horovod import HorovodRanks
from training.loop import train
from training.logging.outputs import NoOutputs
from training.checkpoints.position import Position
from training.checkpoints.state import capture
import tests.training.test_loop as loop_tests

ranks = HorovodRanks()
folder = Path(sys.argv[1]) / str(ranks.rank)
plain = loop_tests.quadrants
loop_tests.quadrants = lambda *args, **changes: plain(*args, ranks=ranks, **changes)

def equal(job):
    content = b''.join(encode_checkpoint(capture(job.net, job.step.trainer)))
    assert ranks.share(content) == content, 'the ranks differ'

# A step that is not finite on rank 1 only is skipped by both.
job, outputs = make(folder / 'skip', batch_size=4, **PLAIN)
if ranks.rank == 1:
    poison(job, 3, np.nan)
position = Position()
assert train(job, position, outputs)
assert position.skipped == 1 and position.step == 15, position
equal(job)
assert np.isfinite(sum(float(np.abs(a).sum()) for a in parameters(job).values()))
print('rank', ranks.rank, 'skipped')

# Norms over both ranks equal those of one process with the whole batch; lengths are those of the summed gradients.
quiet = {**PLAIN, 'num_epochs': 1, 'lr': 0.02, 'mixup': False, 'label_smoothing': 0.0}
job, outputs = make(folder / 'norms', mode='hybrid', drop=0.0, batch_size=4, sync_bn=True, **quiet)
assert train(job, Position(), outputs)
equal(job)
alone = plain(drop=0.0, batch_size=8, **quiet).job('hybrid')
assert train(alone, Position(), NoOutputs(outputs.folder, outputs.store, outputs.log, {}))
for name, array in parameters(alone).items():
    np.testing.assert_allclose(parameters(job)[name], array, rtol=5e-3, atol=5e-4, err_msg=name)
print('rank', ranks.rank, 'norms')

# Each rank computes Muon's update itself.
job, outputs = make(folder / 'muon', batch_size=4, **{**PLAIN, 'optimizer': 'muon'})
assert train(job, Position(), outputs)
equal(job)
print('rank', ranks.rank, 'muon')

# Rank 1 is asked to stop, and both stop after the same step.
job, outputs = make(folder / 'stop', batch_size=4, **PLAIN)
calls = iter([False] * 4 + [True] * 99)
position = Position()
assert not train(job, position, outputs, (lambda: next(calls)) if ranks.rank == 1 else (lambda: False))
first = ranks.agree([position.epoch, position.batch, position.step])
assert first == [position.epoch, position.batch, position.step] and position.step < 15, (first, position)
equal(job)
assert ranks.total([ranks.rank, 1.0]).tolist() == [1.0, 2.0]
assert ranks.agree({'a': [ranks.rank]}) == {'a': [0]} and ranks.share(b'') == b''

# Gradients of both precisions are summed, statistics averaged.
half, full, mean = (mx.nd.full((2, 3), 1 + ranks.rank, dtype=t) for t in ('float16', 'float32', 'float32'))
sums = ranks.reduction([half, full], [mean])(mx.nd.array([1.0, 2.0]), ranks.rank == 1).asnumpy()
assert sums.tolist() == [2.0, 4.0, 1.0], sums
assert (half.asnumpy() == 3).all() and (full.asnumpy() == 3).all() and (mean.asnumpy() == 1.5).all()
assert half.dtype == np.float16
print('rank', ranks.rank, 'agreed')
"""


@pytest.mark.heavy
def test_ranks_agree_on_what_is_skipped_and_when_to_stop(data, tmp_path):
    script = tmp_path / 'agreed.py'
    script.write_text(AGREED)
    folder = tmp_path / 'run'
    (folder / '0').mkdir(parents=True)
    (folder / '1').mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(jobs.ROOT))
        job = jobs.start(data, folder, processes=2, script=[str(script), str(folder)])
    assert jobs.wait(job, folder) == 0, killing.said(folder)
    said = killing.said(folder)
    for rank in (0, 1):
        assert f'rank {rank} skipped' in said
        assert f'rank {rank} norms' in said
        assert f'rank {rank} agreed' in said


@pytest.mark.parametrize('name', ['HOROVOD_RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK'])
def test_a_launcher_without_the_flag_is_refused(monkeypatch, name):
    require_flag(horovod=False)
    monkeypatch.setenv(name, '1')
    require_flag(horovod=True)
    with pytest.raises(UsageError, match=f'{name} is 1, and --horovod is missing; add it|--horovod is'):
        require_flag(horovod=False)


def test_train_cifar_runs_as_a_job(tmp_path):
    flags = '--dataset digits --model cifar_resnet8_v2 --limit-train 16 --limit-val 8 --batch-size 4 --mode hybrid'
    folder = tmp_path / 'run'
    script = ['train_cifar.py', *flags.split(), '--horovod', '--save-dir', str(folder), '--json', f'{folder}.json']
    job = jobs.start(tmp_path, folder, processes=2, script=script)
    assert jobs.wait(job, folder) == 0, killing.said(folder)
    assert json.loads((tmp_path / 'run.json').read_text())['steps'] == 2
    assert killing.said(folder).count('best Acc: ') == 1  # only rank 0 prints


def test_ranks_that_compute_otherwise_cannot_share_muons_updates(monkeypatch):
    class Others(Ranks):
        rank, size = 1, 2

        def agree(self, value):
            return {**value, 'threads': '16'}

    monkeypatch.setenv('OMP_NUM_THREADS', '16')
    require_alike(OptimizerSettings(optimizer='muon'), Others())
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    require_alike(OptimizerSettings(optimizer='nag'), Others())
    with pytest.raises(
        UserError, match='rank 1 computes with 4 threads, and rank 0 with 16 threads; .* OMP_NUM_THREADS'
    ):
        require_alike(OptimizerSettings(optimizer='muon'), Others())
