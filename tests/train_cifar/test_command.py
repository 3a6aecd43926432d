"""The command as people type it: the original's command line works, and mistakes give one sentence."""

import json
import re
import shlex
import subprocess
import sys

import pytest

import train_cifar
from data.classification.by_name import DATASETS
from environment import UserError
from tests.data.classification.test_datasets import write_records
from tests.train_cifar.runs import ROOT

README = (
    '--gpus 0 --num-epochs 400 --mode hybrid -j 32 --batch-size 128 --wd 0.0001 --lr 0.2 --lr-decay 0.1 '
    '--lr-decay-epoch 300,350 --dataset cifar100 --model atac --act-type ChaATAC --useReLU --r 2 --blocks 3'
)


def test_the_command_of_the_originals_readme_parses_to_what_it_meant():

    from training.tasks.cifar import chosen_network

    settings = train_cifar.make_parser().parse(shlex.split(README))
    given = settings.values()
    assert [given[name] for name in ('num_epochs', 'batch_size', 'lr', 'wd')] == [400, 128, 0.2, 1e-4]
    assert (given['lr_decay_epoch'], given['dataset'], given['mode']) == ('300,350', 'cifar100', 'hybrid')
    assert chosen_network(settings.network, 100).name == 'cifar_atac_resnet20_v2'


def test_the_command_of_the_originals_readme_runs(tmp_path):
    """Verbatim, but on the digits, and cut short."""
    words = README.replace('cifar100', 'digits').replace('--num-epochs 400', '--num-epochs 1')
    command = [sys.executable, 'train_cifar.py', *words.split(), '--save-dir', str(tmp_path / 'run')]
    command += ['--limit-train', '128', '--limit-val', '16', '--json', str(tmp_path / 'run' / 'figures.json')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    # No progress bar where nobody watches, and nothing from MXNet; on a slow machine, a line now and then.
    assert re.fullmatch(r'(epoch 1/1, .* left\n)*', result.stderr)
    folder = tmp_path / 'run'
    told = result.stdout.splitlines()
    assert re.fullmatch(r'best top-1 \d+\.\d\d % \(error \d+\.\d\d %\), in epoch 1 of 1', told[-8])
    assert [line.split(': ')[1] for line in told[-7:-4]] == [
        *(json.loads((folder / 'figures.json').read_text())[name] for name in ('best_params', 'params')),
        str(folder / 'report.html'),
    ]
    for script, line in zip(('validate', 'predict', 'export'), told[-3:]):
        assert line.startswith(f'  python scripts/{script}.py --params {folder} ')
    assert told[-3].endswith(' --dataset digits --split val')
    assert 'best Acc: ' in result.stdout


def test_held_out_records_of_a_class_that_is_not_trained(tmp_path):
    write_records(tmp_path / 'train.rec', [0, 1, 2])
    write_records(tmp_path / 'val.rec', [3, 0])
    command = f'--model cifar_resnet8_v2 --batch-size 1 --dataset {tmp_path} --save-dir {tmp_path}/run'
    with pytest.raises(UserError, match=r"has the class '3', which is not among the 3 classes that are train"):
        train_cifar.main(shlex.split(command))
    assert not (tmp_path / 'run').exists()


def test_figures_that_cannot_be_written_are_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr('training.run.train', lambda *_: pytest.fail('the training has begun'))
    command = f'--model cifar_resnet8_v2 --dataset digits --mode imperative --save-dir {tmp_path}/run --json '
    with pytest.raises(UserError, match='cannot write .*absent/x.json: there is no such file or folder'):
        train_cifar.main(shlex.split(command + f'{tmp_path}/absent/x.json'))
    assert not (tmp_path / 'run' / 'settings.yaml').exists()
    # The run's own folder does not exist yet, but will.
    with pytest.raises(pytest.fail.Exception):
        train_cifar.main(shlex.split(command + f'{tmp_path}/run/x.json'))


def test_help_names_all_kinds_of_data():
    text = ' '.join(train_cifar.make_parser().format_help().split())
    assert all(word in text for word in (*DATASETS, 'class folders', 'tar or zip', '.rec', '.csv'))


@pytest.mark.parametrize(
    ('flags', 'status', 'complaint'),
    [
        ('', 2, '--model is missing; name a network'),
        ('--batchsize 8', 2, 'there is no flag --batchsize; the nearest flag is --batch-size'),
        ('--model cifar_resnet8_v2 --dataset digits --batch-size 9999', 2, '--batch-size 9999 on 1 device(s)'),
        (
            '--model cifar_resnet8_v2 --warmup-epochs 2',
            2,
            '--warmup-epochs is 2; allowed: 0 to --num-epochs, which is 1',
        ),
        ('--model cifar_resnet8_v2 --resume-from absent.params --dataset digits', 1, 'absent.params'),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, flags, status, complaint):
    command = [sys.executable, 'train_cifar.py', *flags.split(), '--save-dir', str(tmp_path / 'run')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == status
    assert complaint in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
    assert not (tmp_path / 'run' / 'checkpoints').exists()
