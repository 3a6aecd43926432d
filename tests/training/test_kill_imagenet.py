"""train_imagenet.py on RecordIO files, killed or stopped at random, ends with the bits of an uninterrupted run."""

import random
import signal
import time

import pytest

from tests.training import jobs, killing

# Batch norm, an average, and a loss with all its parts: everything that a checkpoint has to hold.
FLAGS = (
    '--model cifar_atac_resnet8_v2 --batch-size 4 --num-epochs 3 --lr 0.01 --lr-mode cosine --mixup --label-smoothing '
    '--cutmix-alpha 1 --auto-augment trivial --random-erase 0.5 --aug-repeats 3 '
    '--ema 0.9 --keep 9 --save-frequency 1 --seed 3'
).split()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return jobs.write_records(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def expected(data, tmp_path_factory):
    return killing.outcome(jobs.finish(data, tmp_path_factory.mktemp('expected') / 'run', *FLAGS))


@pytest.mark.heavy
def test_killed_at_random_moments(data, tmp_path, expected):
    seed = random.randrange(1 << 32)
    chance, folder = random.Random(seed), tmp_path / 'run'
    for kill in range(4):
        job = jobs.start(data, folder, *FLAGS, '--resume')
        if kill:  # the first before anything exists, the others once training continues
            jobs.wait_for_checkpoint(folder, job, 1)
        time.sleep(chance.uniform(0, 2.5))
        job.kill()
        job.wait(timeout=300)
    jobs.finish(data, folder, *FLAGS, '--resume')
    assert killing.differences(expected, killing.outcome(folder)) == [], seed
    assert not list(folder.glob('**/*.part'))


def test_asked_to_stop_it_saves_and_says_so(data, tmp_path, expected):
    folder = tmp_path / 'run'
    job = jobs.start(data, folder, *FLAGS)
    jobs.wait_for_checkpoint(folder, job, 2)
    job.send_signal(signal.SIGTERM)
    assert jobs.wait(job, folder) == 143, killing.said(folder)
    assert '--resume goes on from here' in killing.said(folder)
    jobs.finish(data, folder, *FLAGS, '--resume')
    assert killing.differences(expected, killing.outcome(folder)) == []
