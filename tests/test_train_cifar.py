"""The command: every flag has an effect, the original's commands run, mistakes are one sentence."""

import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train_cifar
from environment import SetupError, UsageError, UserError
from training.records.events import read_events
from training.records.history import read_history

ROOT = Path(__file__).resolve().parent.parent
SMALL = '--dataset digits --limit-train 16 --limit-val 8 --batch-size 8 --mode hybrid --no-report'
BASE = f'{SMALL} --model cifar_resnet8_v2'
ORIGINAL = f'{SMALL} --model atac --act-type ChaATAC --r 2 --blocks 1'
TWO = f'{BASE} --num-epochs 2'
WIDE = f'{SMALL} --model cifar_wrn10_1'
GROUPED = f'{SMALL} --model cifar_resnext11_2x8d'
NORMS = f'{SMALL} --model cifar_dca_se_resnet8_v2'
WARM = TWO.replace('--limit-train 16', '--limit-train 32')
README = (
    '--gpus 0 --num-epochs 400 --mode hybrid -j 32 --batch-size 128 --wd 0.0001 --lr 0.2 --lr-decay 0.1 '
    '--lr-decay-epoch 300,350 --dataset cifar100 --model atac --act-type ChaATAC --useReLU --r 2 --blocks 3'
)


class Run:
    """A finished run in a folder of its own."""

    def __init__(self, folder, flags):
        self.folder = folder
        argv = [*shlex.split(flags), '--save-dir', str(folder), '--json', f'{folder}.json']
        assert train_cifar.main(argv) == 0
        self.figures = json.loads(Path(f'{folder}.json').read_text())
        log = folder / 'train.log'
        self.log = log.read_text() if log.exists() else ''
        self.manifest = json.loads(Path(self.figures['params']).with_suffix('.json').read_text())
        self.digest = hashlib.sha256(Path(self.figures['params']).read_bytes()).hexdigest()
        self.history = read_history(folder / 'history.csv')
        self.checkpoints = sorted(path.name for path in (folder / 'checkpoints').iterdir())


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """run(flags): train with them, once for each set of flags."""
    known = {}

    def once(flags):
        if flags not in known:
            known[flags] = Run(tmp_path_factory.mktemp('runs') / 'run', flags)
        return known[flags]

    return once


# Flags that must change what is learned: two command lines that differ in the flag alone.
CHANGING = {
    'model': (BASE, f'{SMALL} --model cifar_atac_resnet8_v2'),
    'blocks': (ORIGINAL, ORIGINAL.replace('--blocks 1', '--blocks 2')),
    'act_type': (BASE, f'{BASE} --act-type swish'),
    'r': (ORIGINAL, ORIGINAL.replace('--r 2', '--r 4')),
    'act_layers': (ORIGINAL, f'{ORIGINAL} --act-layers 1'),
    'useGlobal': (ORIGINAL, f'{ORIGINAL} --useGlobal'),
    'useReLU': (ORIGINAL, f'{ORIGINAL} --useReLU'),
    'drop_rate': (BASE, f'{BASE} --drop-rate 0.5'),
    'block_drop': (WIDE, f'{WIDE} --block-drop 0.5'),
    'option': (BASE, f'{BASE} --option update_input_norm=false'),
    'mean': (BASE, f'{BASE} --mean 0,0,0'),
    'std': (BASE, f'{BASE} --std 1,1,1'),
    'batch_size': (BASE, BASE.replace('--batch-size 8', '--batch-size 4')),
    'limit_train': (BASE, BASE.replace('--limit-train 16', '--limit-train 24')),
    'num_epochs': (BASE, TWO),
    'lr': (BASE, f'{BASE} --lr 0.05'),
    'lr_mode': (BASE, f'{BASE} --lr-mode cosine'),
    'lr_decay': (f'{BASE} --lr-decay-epoch 0', f'{BASE} --lr-decay-epoch 0 --lr-decay 0.5'),
    'lr_decay_epoch': (BASE, f'{BASE} --lr-decay-epoch 0'),
    'lr_decay_period': (TWO, f'{TWO} --lr-decay-period 1'),
    'warmup_epochs': (WARM, f'{WARM} --warmup-epochs 1'),
    'warmup_lr': (f'{WARM} --warmup-epochs 1', f'{WARM} --warmup-epochs 1 --warmup-lr 0.05'),
    'scale_lr': (BASE, f'{BASE} --scale-lr'),
    'optimizer': (TWO, f'{TWO} --optimizer sgd'),
    'momentum': (BASE, f'{BASE} --momentum 0.5'),
    'wd': (BASE, f'{BASE} --wd 0.01'),
    'no_wd': (BASE, f'{BASE} --no-wd'),
    'no_wd_depthwise': (GROUPED, f'{GROUPED} --no-wd-depthwise'),
    'wd_layer_norm': (f'{NORMS} --no-wd', f'{NORMS} --no-wd --wd-layer-norm'),
    'label_smoothing': (BASE, f'{BASE} --label-smoothing'),
    'mixup': (BASE, f'{BASE} --mixup'),
    'mixup_alpha': (f'{BASE} --mixup', f'{BASE} --mixup --mixup-alpha 2'),
    'mixup_off_epoch': (f'{BASE} --mixup', f'{BASE} --mixup --mixup-off-epoch 1'),
    'seed': (BASE, f'{BASE} --seed 1'),
}


@pytest.mark.parametrize('flag', CHANGING)
def test_flags_that_change_what_is_learned(run, flag):
    before, after = (run(flags) for flags in CHANGING[flag])
    assert before.digest != after.digest


def test_layer_norms_are_an_exception_from_something():
    with pytest.raises(UsageError, match='--wd-layer-norm excepts layer norms from --no-wd'):
        train_cifar.main(shlex.split(f'{NORMS} --wd-layer-norm'))


def test_the_same_flags_give_the_same_bits(run, tmp_path):
    assert Run(tmp_path / 'again', BASE).digest == run(BASE).digest
    # Lambda is 1 in the last epochs: as without.
    assert run(f'{BASE} --mixup --mixup-off-epoch 1').digest == run(BASE).digest


def test_summary(run, capsys):
    assert run(f'{BASE} --summary').digest == run(BASE).digest
    assert 'Layer (type)' in capsys.readouterr().out


def test_limit_val(run):
    assert '16 images to train on, 8 to validate on' in run(BASE).log
    assert '9 to validate on' in run(BASE.replace('--limit-val 8', '--limit-val 9')).log


def test_gpus(run):
    assert '--gpus 0: no GPU is visible, training on the CPU' in run(BASE).log
    assert 'GPU' not in run(f"{BASE} --gpus ''").log.split('\n', 1)[1]
    with pytest.raises(UsageError, match='--gpus is'):
        train_cifar.main(shlex.split(f'{BASE} --gpus x'))


def test_dtype(tmp_path):
    with pytest.raises(UserError, match='--dtype is float16, which MXNet trains only on a GPU'):
        train_cifar.main([*shlex.split(BASE), '--dtype', 'float16', '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()


def test_mode(run):
    assert run(BASE).figures['mode'] == 'hybrid'
    measured = run(BASE.replace('--mode hybrid', '--mode auto'))
    noted = json.loads((measured.folder / 'mode.json').read_text())
    assert noted['mode'] == measured.figures['mode']
    assert noted['images_per_second'][noted['mode']] == max(noted['images_per_second'].values())
    assert f'--mode auto: {noted["mode"]} is the fastest here' in measured.log


def test_save_dir_has_its_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_cifar.main(shlex.split(f'{ORIGINAL} --useReLU')) == 0
    (folder,) = (tmp_path / 'params').iterdir()
    assert folder.name.startswith('digits-atac-')
    for word in ('blocks_1', 'ChaATAC', 'r_2', 'useReLU', 'batch_size_8', 'seed_0'):
        assert word in folder.name.split('-')


def test_save_period(run):
    names = {path.name for path in run(f'{TWO} --save-period 1').folder.glob('digits-*.params')}
    assert names == {'digits-resnet8_v2-0.params', 'digits-resnet8_v2-1.params'}
    assert {path.name for path in run(TWO).folder.glob('digits-*.params')} == {'digits-resnet8_v2-1.params'}


def test_save_plot_dir(run, tmp_path):
    assert (run(BASE).folder / 'history.png').exists()
    plots = tmp_path / 'plots'
    assert not (run(f'{BASE} --save-plot-dir {plots}').folder / 'history.png').exists()
    assert (plots / 'history.png').exists()


def test_checkpoint_interval_and_keep(run):
    assert len(run(BASE).checkpoints) == 1
    assert len(run(f'{TWO} --checkpoint-interval 1').checkpoints) == 3
    assert len(run(f'{TWO} --checkpoint-interval 1 --keep 9').checkpoints) == 4


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


def test_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    with pytest.raises(SetupError, match='tensorboard'):
        train_cifar.main([*shlex.split(BASE), '--tensorboard', '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()
    monkeypatch.undo()
    pytest.importorskip('tensorboard')
    Run(tmp_path / 'run', f'{BASE} --tensorboard')
    assert len(list((tmp_path / 'run' / 'tensorboard').iterdir())) == 1


def test_config(run, tmp_path):
    settings = run(BASE).folder / 'settings.yaml'
    assert Run(tmp_path / 'run', f'--config {settings}').digest == run(BASE).digest


def test_json_and_log(run):
    figures = run(TWO).figures
    assert figures['epochs'] == 2
    assert figures['steps'] == 4
    assert figures['top1'] == run(TWO).history[-1]['val_top1']
    assert figures['best_top1'] == max(row['val_top1'] for row in run(TWO).history)
    lines = run(TWO).log.splitlines()
    assert lines[0].startswith("Namespace(model='cifar_resnet8_v2', blocks=0,")
    assert lines[-3].startswith('[Epoch 0] train=')
    assert lines[-1] == f'best Acc: {figures["best_top1"]:.4f}'


def test_the_manifest_says_what_the_parameters_are(run):
    manifest = run(f'{BASE} --drop-rate 0.5').manifest
    assert manifest['model'] == 'cifar_resnet8_v2'
    assert manifest['model_kwargs'] == {'classes': 10, 'final_drop': 0.5}
    assert manifest['class_names'] == list('0123456789')
    assert manifest['preprocessing']['size'] == 32
    assert set(manifest['accuracy']) == {'top1', 'top5', 'loss'}
    assert (manifest['dataset'], manifest['seed'], manifest['epoch']) == ('digits', 0, 0)
    assert '--drop-rate 0.5' in manifest['command']
    assert {'python', 'mxnet', 'numpy'} <= set(manifest['versions'])


def folder_of_images(path):
    random = np.random.RandomState(0)
    for split in ('train', 'test'):
        for label in ('cat', 'dog'):
            (path / split / label).mkdir(parents=True)
            for index in range(4):
                pixels = random.randint(0, 256, (40, 36, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path / split / label / f'{index}.png')


def test_dataset_data_dir_and_workers(tmp_path, monkeypatch):
    from training.tasks import cifar as module

    folder_of_images(tmp_path / 'pets')
    seen = {}

    def load(name, split, data_dir=None, workers=None):
        seen.update(data_dir=data_dir, workers=workers)
        return original(name, split, data_dir=data_dir, workers=workers)

    original = module.load_dataset
    monkeypatch.setattr(module, 'load_dataset', load)
    flags = f'{BASE} --dataset {tmp_path / "pets"} --batch-size 4 --data-dir elsewhere -j 3'
    finished = Run(tmp_path / 'run', flags)
    assert finished.manifest['class_names'] == ['cat', 'dog']
    assert finished.manifest['dataset'] == 'pets'
    assert seen == {'data_dir': 'elsewhere', 'workers': 3}
    with pytest.raises(UserError, match='--dataset'):
        train_cifar.main(shlex.split(f'{BASE} --dataset nothing'))
    for name in ('https_proxy', 'http_proxy'):  # no archives there, and nothing to download them from
        monkeypatch.setenv(name, 'http://127.0.0.1:9')
    with pytest.raises(UserError, match='cifar'):
        train_cifar.main(shlex.split(f'{BASE} --dataset cifar10 --data-dir {tmp_path}'))


def test_logging_file_and_log_interval(tmp_path):
    Run(tmp_path / 'run', f'{TWO} --log-interval 1')
    lines = (tmp_path / 'run' / 'train.log').read_text().splitlines()
    pattern = r'Epoch\[1\] Batch \[0\]\tSpeed: [\d.]+ samples/sec\taccuracy=[01]\.\d{6}\tlr=0\.100000'
    assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1
    events = read_events(tmp_path / 'run' / 'log.jsonl')
    assert [event['event'] for event in events] == ['batches', 'batches', 'epoch'] * 2
    assert [event['step'] for event in events] == [1, 2, 2, 3, 4, 4]
    Run(tmp_path / 'other', f'{BASE} --logging-file {tmp_path}/elsewhere.log')
    assert 'best Acc' in (tmp_path / 'elsewhere.log').read_text()


# Flags with a test of their own above, and --resume with several below.
# --use-pretrained, --init-params and --freeze-stages: see tests/training/checkpoints/test_start.py.
# --teacher, --teacher-params, --temperature, --hard-weight: see tests/training/learning/test_teacher.py.
# --ema: see tests/training/learning/test_average.py.
# --max-skipped: see tests/training/learning/test_skipping.py; --horovod: see tests/training/processes/test_horovod.py.
# --no-report: see tests/training/report/test_run_report.py.
OTHERS = set(
    'summary limit_val gpus dtype mode save_dir save_period save_plot_dir checkpoint_interval keep resume '
    'resume_from tensorboard config json dataset data_dir num_data_workers logging_file log_interval use_pretrained '
    'init_params freeze_stages max_skipped horovod teacher teacher_params temperature hard_weight ema no_report'.split()
)


def test_every_flag_is_tested():
    assert set(train_cifar.make_parser().flags()) == set(CHANGING) | OTHERS


def test_the_command_of_the_originals_readme_parses_to_what_it_meant():
    from training.flags.open_atac import network

    settings = train_cifar.make_parser().parse(shlex.split(README))
    assert (settings.num_epochs, settings.batch_size, settings.lr, settings.wd) == (400, 128, 0.2, 1e-4)
    assert (settings.lr_decay_epoch, settings.dataset, settings.mode) == ('300,350', 'cifar100', 'hybrid')
    assert network(settings, 100).name == 'cifar_atac_resnet20_v2'


def test_the_command_of_the_originals_readme_runs(tmp_path):
    """Verbatim, but on the digits, and cut short."""
    words = README.replace('cifar100', 'digits').replace('--num-epochs 400', '--num-epochs 1')
    command = [sys.executable, 'train_cifar.py', *words.split(), '--save-dir', str(tmp_path / 'run')]
    command += ['--limit-train', '128', '--limit-val', '16']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''  # no bar where nobody watches
    assert 'best Acc: ' in result.stdout


def test_an_existing_run_is_not_overwritten(run):
    folder = run(BASE).folder
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    with pytest.raises(UserError, match='already holds a run; add --resume'):
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
    params = first.folder / 'digits-resnet8_v2-1.params'
    assert hashlib.sha256(params.read_bytes()).hexdigest() == digest
    assert len(read_history(first.folder / 'history.csv')) == 2
    assert len(list((first.folder / 'checkpoints').iterdir())) == 1
    assert 'resumed from' in (first.folder / 'train.log').read_text()


def test_other_threads_are_told(tmp_path, monkeypatch):
    Run(tmp_path / 'run', BASE)
    monkeypatch.setenv('MXNET_OMP_MAX_THREADS', '7')
    assert train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')]) == 0
    assert 'computing with 7 threads, and with ' in (tmp_path / 'run' / 'train.log').read_text()


def test_data_that_changed_under_a_run(tmp_path):
    folder_of_images(tmp_path / 'pets')
    flags = f'{BASE} --dataset {tmp_path / "pets"} --batch-size 4'.replace('--limit-train 16', '')
    Run(tmp_path / 'run', flags)
    (tmp_path / 'pets' / 'train' / 'dog' / '0.png').unlink()
    with pytest.raises(UsageError, match='had 8 training images and would now have 7'):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')])


def test_more_epochs_of_a_stepped_schedule(run, tmp_path):
    folder = tmp_path / 'run'
    Run(folder, BASE)
    assert train_cifar.main(['--resume', '--save-dir', str(folder), '--num-epochs', '2']) == 0
    longer = folder / 'digits-resnet8_v2-1.params'
    assert hashlib.sha256(longer.read_bytes()).hexdigest() == run(TWO).digest


def test_epochs_that_shape_the_schedule_must_stay(tmp_path):
    Run(tmp_path / 'run', f'{BASE} --lr-mode cosine')
    with pytest.raises(UsageError, match='--num-epochs is 2'):
        train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run'), '--num-epochs', '2'])


def test_resume_without_a_run_begins_one(tmp_path):
    finished = Run(tmp_path / 'run', f'{BASE} --resume')
    assert 'nothing to resume yet: starting at epoch 0' in finished.log


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
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == status
    assert complaint in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
    assert not (tmp_path / 'run' / 'checkpoints').exists()
