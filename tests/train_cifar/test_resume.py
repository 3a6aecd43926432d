"""Resuming a run: from its folder, from parameters, from a checkpoint; and what is refused."""

import hashlib
import io
import os
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

import kernels
import train_cifar
from environment import UsageError, UserError
from model import read_manifest
from tests.train_cifar.runs import BASE, TWO, Run, folder_of_images
from training.logging.history import read_history


def test_resume_from_parameters_and_from_a_checkpoint(run):
    first = run(BASE)
    checkpoint = first.folder / 'checkpoints' / first.checkpoints[-1]
    from_params = run(f'{BASE} --resume-from {first.figures["params"]}')
    assert from_params.digest != first.digest
    assert from_params.history[0]['step'] == 2
    assert run(f'{BASE} --resume-from {checkpoint}').digest == from_params.digest
    for path in ('absent.params', 'absent.ckpt', str(first.folder / 'train.log')):
        with pytest.raises(UserError, match=Path(path).name):
            train_cifar.main([*shlex.split(BASE), '--resume-from', path, '--save-dir', str(first.folder / 'no')])


def test_an_existing_run_is_not_overwritten(run):
    folder = run(BASE).folder
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    with pytest.raises(UserError, match='already contains a run; add --resume'):
        train_cifar.main([*shlex.split(BASE), '--save-dir', str(folder)])
    assert {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()} == before


def test_resume_needs_the_folder_alone_and_refuses_other_settings(tmp_path):
    first = Run(tmp_path / 'run', f'{TWO} --checkpoint-interval 1 --keep 9')
    # Back to the middle of the first epoch.
    for name in first.checkpoints[1:]:
        (first.folder / 'checkpoints' / name).unlink()
    (first.folder / 'history.csv').unlink()
    digest = first.digest
    for flags, complaint in (
        ('--lr 0.3', '--lr is 0.3 and the run to resume was started with 0.1'),
        ('--model cifar_resnet14_v2', "--model is 'cifar_resnet14_v2' and the run"),
        ('--batch-size 16', '--batch-size is 16'),
        ('--seed 1', '--seed is 1'),
        ('--mode static', "--mode is 'static'"),
        ('--limit-train 24', '--limit-train is 24'),
    ):
        with pytest.raises(UsageError) as error:
            train_cifar.main(['--resume', '--save-dir', str(first.folder), *flags.split()])
        assert complaint in str(error.value)
    assert train_cifar.main(['--resume', '--save-dir', str(first.folder), '--keep', '1', '--mode', 'auto']) == 0
    params = first.folder / 'last.params'
    assert hashlib.sha256(params.read_bytes()).hexdigest() == digest
    assert len(read_history(first.folder / 'history.csv')) == 2
    assert len(list((first.folder / 'checkpoints').iterdir())) == 1
    assert 'resumed from' in (first.folder / 'train.log').read_text()


def edit(folder, old, new):
    settings = (folder / 'settings.yaml').read_text()
    assert old in settings
    (folder / 'settings.yaml').write_text(settings.replace(old, new))


@pytest.mark.parametrize(
    ('old', 'new', 'flag'),
    [
        ('num-epochs: 1', 'num-epochs: 2', '--num-epochs 2, and the checkpoint 1, which counts: 1'),
        ('lr: 0.1', 'lr: 0.3', '--lr 0.3, and the checkpoint 0.1'),
        ('save-plot-dir: .', 'save-plot-dir: /etc', "--save-plot-dir '/etc', and the checkpoint '.'"),
        ('keep: 3', 'keep: 9', '--keep 9, and the checkpoint 3'),
    ],
)
def test_edited_settings_do_not_go_before_the_checkpoints_and_are_told(run, tmp_path, old, new, flag):
    folder = shutil.copytree(run(BASE).folder, tmp_path / 'run')
    before = (folder / 'settings.yaml').read_bytes()
    edit(folder, old, new)
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0
    assert len(read_history(folder / 'history.csv')) == 1
    assert f'settings.yaml has {flag}' in (folder / 'train.log').read_text()
    assert yaml.safe_load((folder / 'settings.yaml').read_text()) == {**yaml.safe_load(before), 'save-dir': str(folder)}


def test_an_edit_that_the_command_line_repeats_is_no_news(run, tmp_path):
    folder = shutil.copytree(run(BASE).folder, tmp_path / 'run')
    edit(folder, 'num-epochs: 1', 'num-epochs: 2')
    assert train_cifar.main(['--resume', '--save-dir', str(folder), '--num-epochs', '2']) == 0
    assert len(read_history(folder / 'history.csv')) == 2
    assert 'which counts' not in (folder / 'train.log').read_text()


@pytest.mark.parametrize('content', [b'a: [', b'\xff', b'lr: -1', b'lr: [[1]]', b'nothing: 1', b''])
def test_damaged_settings_are_written_anew_from_the_checkpoint(run, tmp_path, content):
    folder = shutil.copytree(run(BASE).folder, tmp_path / 'run')
    before = yaml.safe_load((folder / 'settings.yaml').read_text())
    (folder / 'settings.yaml').write_bytes(content)
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0
    assert yaml.safe_load((folder / 'settings.yaml').read_text()) == {**before, 'save-dir': str(folder)}


@pytest.mark.parametrize(
    ('setting', 'sentence'),
    [
        ('logging-file: ../outside.log', '--logging-file to ../outside.log, which is not in the folder of the run'),
        ('save-plot-dir: /tmp/outside', '--save-plot-dir to /tmp/outside, which is not in'),
        ('json: outside.json', 'sets --json, which is not part of a run'),
        ('resume: true', 'sets --resume, which is not part of a run'),
    ],
)
def test_settings_of_a_folder_from_elsewhere_write_nothing_outside(tmp_path, setting, sentence):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'settings.yaml').write_text(f'model: cifar_resnet8_v2\n{setting}\n')
    with pytest.raises(UsageError, match=sentence):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')])
    assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_a_log_outside_the_folder_is_asked_for_again(tmp_path):
    outside = ['--logging-file', str(tmp_path / 'outside.log')]
    folder = Run(tmp_path / 'run', f'{BASE} {shlex.join(outside)}').folder
    with pytest.raises(UsageError, match='--logging-file to .*outside.log, which is not in .*; give'):
        train_cifar.main(['--resume', '--save-dir', str(folder)])
    assert train_cifar.main(['--resume', '--save-dir', str(folder), *outside]) == 0


@pytest.mark.parametrize('seed', range(3))
def test_flipped_bits_in_what_lies_beside_the_checkpoints(run, tmp_path, seed):
    """Whatever they are, the run that is continued is the one in the checkpoint."""
    folder = shutil.copytree(run(BASE).folder, tmp_path / 'run')
    (folder / 'mode.json').write_text('{"mode": "hybrid", "images_per_second": {"hybrid": 1.0}}')
    random = np.random.RandomState(seed)
    for name in ('settings.yaml', 'log.jsonl', 'mode.json', 'history.csv'):
        content = np.frombuffer((folder / name).read_bytes(), np.uint8).copy()
        places = random.randint(0, len(content), 8)
        content[places] ^= (1 << random.randint(0, 8, 8)).astype(np.uint8)
        (folder / name).write_bytes(content.tobytes())
    resumed = Run(folder, '--resume --num-epochs 2')
    assert resumed.digest == run(TWO).digest
    assert [row['step'] for row in resumed.history] == [row['step'] for row in run(TWO).history]


def test_a_run_that_was_moved_under_a_clock_that_was_set_back(run, tmp_path, monkeypatch):
    """Nothing in a run depends on the clock, or on where its folder was."""
    folder = shutil.copytree(run(BASE).folder, tmp_path / 'moved')
    for path in folder.rglob('*'):
        os.utime(path, (4e9, 4e9))
    monkeypatch.setattr('time.time', lambda: 1e9)
    resumed = Run(folder, f'{TWO} --resume')
    assert resumed.digest == run(TWO).digest
    assert [row['step'] for row in resumed.history] == [row['step'] for row in run(TWO).history]
    assert resumed.figures['best_params'].startswith(str(folder))
    assert yaml.safe_load((folder / 'settings.yaml').read_text())['save-dir'] == str(folder)


@pytest.mark.parametrize('kind', ['.ckpt.', '.params.'])
def test_a_request_to_stop_while_a_file_is_being_saved(run, tmp_path, monkeypatch, own_handlers, kind):
    asked = []

    def fsync(descriptor, usual=os.fsync):
        if kind in os.readlink(f'/proc/self/fd/{descriptor}') and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return usual(descriptor)

    flags = [*shlex.split(TWO), '--save-dir', str(tmp_path / 'run'), '--checkpoint-interval', '1']
    with monkeypatch.context() as patched:
        patched.setattr('os.fsync', fsync)
        assert train_cifar.main(flags) == 143
    assert not list((tmp_path / 'run').rglob('.*.part'))
    assert Run(tmp_path / 'run', f'{TWO} --resume').digest == run(TWO).digest


def test_what_gives_other_last_bits_is_told(tmp_path, monkeypatch):
    Run(tmp_path / 'run', BASE)
    monkeypatch.setenv('MXNET_OMP_MAX_THREADS', '7')
    monkeypatch.setattr(kernels, 'identity', lambda: 'kernels-other.so')
    assert train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')]) == 0
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert 'computing with 7 threads and the kernels kernels-other.so, and with ' in log


def test_without_the_kernels_the_log_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, 'absence', lambda: None)
    Run(tmp_path / 'with', BASE)
    monkeypatch.setattr(kernels, 'absence', lambda: 'they are not compiled')
    Run(tmp_path / 'without', BASE)
    logs = [(tmp_path / name / 'train.log').read_text() for name in ('with', 'without')]
    assert 'without the kernels' not in logs[0]
    assert 'without the kernels: they are not compiled' in logs[1]


def test_data_that_changed_under_a_run(tmp_path):
    folder_of_images(tmp_path / 'pets')
    flags = f'{BASE} --dataset {tmp_path / "pets"} --batch-size 4 --original-defaults'.replace('--limit-train 16', '')
    Run(tmp_path / 'run', flags)
    (tmp_path / 'pets' / 'train' / 'dog' / '0.png').unlink()
    with pytest.raises(UsageError, match='had 8 training images and would now have 7'):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')])


def test_classes_that_changed_under_a_run(tmp_path):
    """As many classes with as many images, except for one with another name: labels before it would be shifted."""
    folder_of_images(tmp_path / 'pets')
    flags = f'{BASE} --dataset {tmp_path / "pets"} --batch-size 4 --original-defaults'.replace('--limit-train 16', '')
    Run(tmp_path / 'run', flags)
    for part in ('train', 'test'):
        (tmp_path / 'pets' / part / 'cat').rename(tmp_path / 'pets' / part / 'elk')
    with pytest.raises(UsageError, match="class 0 of the run to resume is 'cat' and would now be 'dog'; the data set"):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')])


def test_weights_of_classes_that_changed_under_a_run(tmp_path):
    weights = tmp_path / 'weights.csv'
    weights.write_text('\n'.join(f'{digit},{1 + digit}' for digit in range(10)))
    Run(tmp_path / 'run', f'{BASE} --class-weights {weights}')
    assert 'weights of the classes: 0 1, 1 2, 2 3' in (tmp_path / 'run' / 'train.log').read_text()
    weights.write_text('\n'.join(f'{digit},1' for digit in range(10)))
    with pytest.raises(UsageError, match='the class weights of the run to resume are .1.0, 2.0, .* restore the file'):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')])


def test_a_balanced_order_goes_on_with_the_same_bits(run, tmp_path):
    flags = f'{BASE} --balanced-sampling --loss focal --class-weights auto'
    Run(tmp_path / 'run', flags)
    assert train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run'), '--num-epochs', '2']) == 0
    longer = tmp_path / 'run' / 'last.params'
    assert hashlib.sha256(longer.read_bytes()).hexdigest() == run(f'{flags} --num-epochs 2').digest


def test_a_time_that_is_over_ends_a_run_cleanly_and_it_goes_on(run, tmp_path):
    argv = [*shlex.split(f'{TWO} --max-time 0.000001s'), '--save-dir', str(tmp_path / 'run')]
    assert train_cifar.main(argv) == 0
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert 'stopped after 0.000001s (--max-time) in epoch 1, after batch 1; --resume goes on from here' in log
    assert not (tmp_path / 'run' / 'best.params').exists()
    assert Run(tmp_path / 'run', '--resume --max-time 1h --patience 9').digest == run(TWO).digest


def test_more_epochs_of_a_stepped_schedule(run, tmp_path):
    folder = tmp_path / 'run'
    Run(folder, BASE)
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0
    said = 'this run is finished: its epoch is done; --resume --num-epochs 2 would go on to as many'
    assert said in (folder / 'train.log').read_text()
    assert train_cifar.main(['--resume', '--save-dir', str(folder), '--num-epochs', '2']) == 0
    assert (folder / 'train.log').read_text().count('this run is finished') == 1
    assert hashlib.sha256((folder / 'last.params').read_bytes()).hexdigest() == run(TWO).digest


def test_epochs_that_shape_the_schedule_must_stay(tmp_path):
    Run(tmp_path / 'run', f'{BASE} --lr-mode cosine')
    with pytest.raises(UsageError, match='--num-epochs is 2'):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run'), '--num-epochs', '2'])
    assert train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')]) == 0
    assert f'a new run with --init-params {tmp_path}/run goes on' in (tmp_path / 'run' / 'train.log').read_text()


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    done = Run(tmp_path / 'run', TWO)
    settings = (done.folder / 'settings.yaml').read_bytes()
    with pytest.raises(UsageError, match='--num-epochs is 1, and 2 epochs are done; give no fewer'):
        train_cifar.main(['--resume', '--save-dir', str(done.folder), '--num-epochs', '1'])
    assert (done.folder / 'settings.yaml').read_bytes() == settings


@pytest.mark.parametrize('again', ['', ' --resume'])
def test_a_run_that_failed_before_its_first_step_does_not_block_its_folder(tmp_path, monkeypatch, again):
    def full(*args, **kwargs):
        raise UserError('the disk is full')

    with monkeypatch.context() as patched:
        patched.setattr('training.built.make_outputs', full)
        with pytest.raises(UserError, match='the disk is full'):
            train_cifar.main([*shlex.split(f'{BASE} --limit-train 24'), '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run' / 'settings.yaml').exists()
    mended = Run(tmp_path / 'run', BASE + again)
    assert '16 images to train on' in mended.log


def test_the_log_may_be_in_a_folder_of_its_own(tmp_path):
    folder = Run(tmp_path / 'run', f'{BASE} --logging-file logs/a.log').folder
    assert 'best Acc' in (folder / 'logs' / 'a.log').read_text()


def test_a_folder_whose_name_is_no_utf8(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.stdout', io.StringIO())  # as tolerant as `run_main` makes it
    folder = tmp_path / os.fsdecode(b'caf\xc3\xa9-\xff')
    argv = [*shlex.split(BASE.replace('--no-report', '--log-interval 1')), '--save-dir', str(folder)]
    assert train_cifar.main(argv) == 0
    assert b'run folder ' + os.fsencode(folder) in (folder / 'train.log').read_bytes()
    assert b'caf\xc3\xa9-\\udcff' in (folder / 'report.html').read_bytes()
    (params,) = folder.glob('last.params')
    assert os.fsdecode(b'caf\xc3\xa9-\xff') in read_manifest(params)['command']
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0


def test_resume_without_a_run_begins_one(tmp_path):
    finished = Run(tmp_path / 'run', f'{BASE} --resume')
    assert 'nothing to resume yet: starting at epoch 1' in finished.log
