"""Two processes that train a detector: images of one shape per step, and the same bits when killed and resumed."""

import os
import signal

import pytest

from tests.detection.data import write_coco
from tests.training import jobs, killing
from training.logging.history import read_history

FLAGS = (
    '--model retinanet_resnet18_v1b --option channels=8,head_convolutions=1 --short 48 --max-size 64 --frozen-stages 0 '
    '--train-norms --batch-size 1 --num-epochs 2 --warmup-steps 4 --lr 0.004 --checkpoint-interval 3 --mode hybrid'
).split()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes', train=9, val=5)


def start(data, folder, *flags):
    script = ['train_detection.py', *FLAGS, '--data-dir', str(data), '--save-dir', str(folder), '--horovod', *flags]
    return jobs.start(data, folder, processes=2, script=script)


@pytest.mark.heavy
@pytest.mark.slow
def test_two_processes_share_steps_and_resume(data, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    assert jobs.wait(start(data, whole), whole) == 0, killing.said(whole)
    steps = [row['step'] for row in read_history(whole / 'history.csv')]
    assert steps == [5, 10]  # 3 wide images and 6 others, two a step
    job = start(data, broken)
    jobs.wait_for_checkpoint(broken, job, 2)
    os.kill(jobs.ranks(broken)[0], signal.SIGKILL)
    assert jobs.wait(job, broken, 120) != 0
    assert jobs.wait(start(data, broken, '--resume'), broken) == 0, killing.said(broken)
    assert killing.differences(killing.outcome(whole), killing.outcome(broken)) == []
