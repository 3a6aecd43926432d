"""A run's folder belongs to one process at a time, for all three scripts."""

import os
import re
import shlex

import pytest

import train_cifar
import train_detection
import train_imagenet
from common.lock import alone
from environment import UserError
from tests.train_cifar.runs import BASE
from training import run
from training.config.run_folder import RunFolder


@pytest.mark.parametrize(
    ('script', 'network'),
    [
        (train_cifar, ['--model', 'cifar_resnet8_v2']),
        (train_imagenet, ['--model', 'cifar_resnet11bn_v1']),
        (train_detection, []),
    ],
)
@pytest.mark.parametrize('flags', [[], ['--resume']])
def test_no_second_run_while_one_goes_on(tmp_path, script, network, flags):
    said = f'{tmp_path}/run is in use: process {os.getpid()} is training there'
    with alone(tmp_path / 'run', 'training'), pytest.raises(UserError, match=re.escape(said)):
        script.main([*network, *flags, '--save-dir', f'{tmp_path}/run'])
    assert os.listdir(tmp_path) == []


def test_it_goes_on_until_the_last_line_is_written(tmp_path, monkeypatch):
    seen = []

    def train(*args):
        with pytest.raises(UserError, match='is in use'), alone(tmp_path / 'run', 'training'):
            pass
        seen.append(os.listdir(tmp_path / 'run'))
        return False

    monkeypatch.setattr(run, 'train', train)
    train_cifar.main([*shlex.split(BASE), '--save-dir', f'{tmp_path}/run'])
    assert '.lock' in seen[0]
    assert '.lock' not in os.listdir(tmp_path / 'run')


def test_a_run_that_another_finished_while_we_waited_is_not_overwritten(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / 'run')
    once = iter([False, True])
    monkeypatch.setattr(folder, 'holds_run', lambda: next(once))
    with pytest.raises(UserError, match='already contains a run'), folder.held(resume=False):
        pass
