"""train_detection.py, killed at random moments and resumed, ends with the bits of an uninterrupted run."""

import random

import pytest

from tests.detection.data import write_coco
from tests.training import jobs, killing

# A detector that samples in every step, with batch statistics, mirrored images, and parameters saved in each epoch.
FLAGS = (
    '--model cascade_rcnn_se_resnet18_v1b --option channels=16,width=32,proposals=32,samples=16 --short 48 '
    '--max-size 64 --frozen-stages 0 --train-norms --batch-size 2 --num-epochs 2 --warmup-steps 4 --lr 0.004 '
    '--lr-mode cosine -j 2 --checkpoint-interval 2 --save-period 1 --seed 3 --no-report'
).split()
KILLS = 2


def start(data, folder, *flags):
    script = ['train_detection.py', *FLAGS, '--data-dir', str(data), '--save-dir', str(folder), *flags]
    return jobs.start(data, folder, script=script)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes', train=8, val=3)


@pytest.mark.heavy
def test_killed_at_random_moments(data, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    assert jobs.wait(start(data, whole), whole) == 0, killing.said(whole)
    seed = random.randrange(1 << 32)
    chance, kills = random.Random(seed), 0
    for way in chance.sample(killing.WAYS, KILLS):
        job = start(data, broken, '--resume')
        try:
            killing.wait_for_moment(job, broken, way, chance)
        finally:
            job.kill()
            job.wait(timeout=60)
        kills += job.returncode != 0
    assert kills, killing.said(broken)
    assert jobs.wait(start(data, broken, '--resume', '-j', '1'), broken) == 0, killing.said(broken)
    assert killing.differences(killing.outcome(whole), killing.outcome(broken)) == [], seed
    assert not list(broken.glob('**/*.part'))
