"""Flags that do not change what is learned: each has an effect."""

import json
import re
import shlex
from contextlib import ExitStack

import pytest

import train_cifar
from environment import UsageError, UserError
from tests.train_cifar.runs import BASE, ORIGINAL, TWO, Run, folder_of_images
from tests.train_cifar.test_learning_flags import CHANGING
from training.config.run_folder import claimed_folder
from training.logging.events import read_events
from training.logging.history import read_history


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        ('--r 2', '--r is for other activation units than those of cifar_resnet8_v2'),
        ('--useGlobal', '--useGlobal is for other activation units'),
        ('--act-type swish --useReLU', '--useReLU is for other activation units'),
        ('--option act_kernel=5', '--option act_kernel=5 is for other activation units'),
        ('--act-type SpaATAC --r 2', '--r is for other activation units'),
        ('--act-layers 1', '--act-layers is for units in the place of ReLU, and cifar_resnet8_v2 has ReLU everywhere'),
        ('--model atac --blocks 1 --act-type relu --r 2', '--r is for other activation units'),
        ('--model atac --blocks 1 --act-type relu --useReLU', '--useReLU is for other activation units'),
        ('--model atac --blocks 1 --act-type SpaATAC --useGlobal', '--useGlobal is for other activation units'),
        ('--crop-border mirror --crop-pad 0', '--crop-border is for images that are shifted, and --crop-pad is 0'),
        ('--interpolation plain', '--interpolation is for images of another size than the network sees'),
        ('--max-bad 1', '--max-bad is for image files of your own, and --dataset is digits'),
        ('--data-dir /tmp', '--data-dir is for the archives of CIFAR, and --dataset is digits'),
        (
            '--lr-mode step --lr-decay-period 5 --lr-decay-epoch 1,2',
            '--lr-decay-epoch is for other steps than those of --lr-decay-period 5',
        ),
        ('--mixup-off-epoch 1', '--mixup-off-epoch is for --mixup or --cutmix-alpha, which are not given'),
        ('--mixup-prob 0.5', '--mixup-prob is for --mixup or --cutmix-alpha, which are not given'),
        ('--mixup --mixup-switch-prob 0.1', '--mixup-switch-prob is for --mixup and --cutmix-alpha together'),
        ('--cutmix-alpha 1 --mixup-alpha 1', '--mixup-alpha is for --mixup, which is not given'),
        ('--auto-augment trivial --ra-ops 3', '--ra-ops is for --auto-augment rand, and it is trivial'),
        ('--ra-magnitude 3', '--ra-magnitude is for --auto-augment rand, and it is off'),
        ('--erase-mode const', '--erase-mode is for erasing, and --random-erase is 0'),
        ('--erase-max-area 0.2', '--erase-max-area is for erasing, and --random-erase is 0'),
    ],
)
def test_flags_that_others_make_idle(flags, complaint, tmp_path):
    with pytest.raises(UsageError, match=complaint):
        train_cifar.main([*shlex.split(f'{BASE} {flags}'), '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()


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
    for _ in range(2):
        assert train_cifar.main(shlex.split(f'{ORIGINAL} --useReLU')) == 0
    assert train_cifar.main(shlex.split(f'{ORIGINAL} --useReLU --resume --num-epochs 2')) == 0
    first, second = (tmp_path / 'runs' / name for name in ('digits-atac', 'digits-atac-2'))
    assert set((tmp_path / 'runs').iterdir()) == {first, second, tmp_path / 'runs' / 'results.csv'}
    assert [len(read_history(folder / 'history.csv')) for folder in (first, second)] == [1, 2]
    assert f'{second.relative_to(tmp_path)} takes ' in (second / 'train.log').read_text()


def test_a_folder_that_another_run_has_just_taken_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as held:
        folders = [claimed_folder('photos-net', held).path.name for _ in range(3)]
        assert folders == ['photos-net', 'photos-net-2', 'photos-net-3']
        monkeypatch.setattr('training.config.run_folder._numbered', lambda name: [1])  # looked before they existed
        assert claimed_folder('photos-net', held).path.name == 'photos-net-4'
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_save_period(run):
    names = {path.name for path in run(f'{TWO} --save-period 1').folder.glob('*.params')}
    assert names == {'best.params', 'last.params', 'epoch-1.params', 'epoch-2.params'}
    assert {path.name for path in run(TWO).folder.glob('*.params')} == {'best.params', 'last.params'}
    kept = run(f'{TWO} --save-period 1 --keep 1').folder
    assert [path.name for path in sorted(kept.glob('epoch-*'))] == ['epoch-2.json', 'epoch-2.params']


def test_save_plot_dir(run, tmp_path):
    assert (run(BASE).folder / 'history.png').exists()
    plots = tmp_path / 'plots'
    assert not (run(f'{BASE} --save-plot-dir {plots}').folder / 'history.png').exists()
    assert (plots / 'history.png').exists()


def test_checkpoint_interval_and_keep(run):
    assert len(run(BASE).checkpoints) == 1
    assert len(run(f'{TWO} --checkpoint-interval 1').checkpoints) == 3
    assert len(run(f'{TWO} --checkpoint-interval 1 --keep 9').checkpoints) == 4


def test_tensorboard(run):
    """For the file's content, --logger and --log-images, see tests/training/logging/test_loggers.py."""
    assert len(list((run(f'{BASE} --tensorboard').folder / 'tensorboard').iterdir())) == 1


def test_off_in_a_file_is_the_word(tmp_path):
    """YAML reads it as False."""
    (tmp_path / 'some.yaml').write_text('flip: off\n')
    config = ['--config', str(tmp_path / 'some.yaml')]
    assert train_cifar.make_parser().parse([*config, '--model', 'cifar_resnet8_v2']).data.flip == 'off'


def test_config(run, tmp_path):
    settings = run(BASE).folder / 'settings.yaml'
    assert Run(tmp_path / 'run', f'--config {settings}').digest == run(BASE).digest


def test_a_damaged_photo_among_few_is_left_out_and_named(tmp_path):
    folder_of_images(tmp_path / 'pets')
    damaged = tmp_path / 'pets' / 'train' / 'cat' / '2.png'
    damaged.write_bytes(damaged.read_bytes()[:90])
    flags = BASE.replace('digits', f'{tmp_path}/pets --original-defaults').replace('--batch-size 8', '--batch-size 4')
    log = Run(tmp_path / 'run', flags).log
    assert ': 7 images to train on, 8 to validate on, 2 classes' in log
    assert f'{damaged} cannot be read as an image' in log
    for allowed in ('--max-bad 0', '--max-bad 2 --max-bad-share 0'):
        damaged.with_name('1.png' if 'share' in allowed else '2.png').write_bytes(b'')
        with pytest.raises(UserError, match=f'{allowed.split(" --")[0]} and .* allow {int("share" in allowed)} of 8'):
            Run(tmp_path / 'no', f'{flags} {allowed}')


def test_json_and_log(run):
    figures = run(TWO).figures
    assert figures['epochs'] == 2
    assert figures['steps'] == 4
    assert figures['top1'] == run(TWO).history[-1]['val_top1']
    assert figures['best_top1'] == max(row['val_top1'] for row in run(TWO).history)
    lines = run(TWO).log.splitlines()
    assert lines[0].startswith("Namespace(model='cifar_resnet8_v2', blocks=0,")
    assert lines[-4].startswith('[Epoch 1] train=')
    assert lines[-2] == f'best Acc: {figures["best_top1"]:.4f}'
    assert re.search(r'run takes \d+\.\d MiB of the disk, \d+\.\d MiB of it for 2 checkpoints \(--keep 3\)$', lines[-1])


def test_the_manifest_says_what_the_parameters_are(run):
    manifest = run(f'{BASE} --drop-rate 0.5').manifest
    assert manifest['model'] == 'cifar_resnet8_v2'
    assert manifest['model_kwargs'] == {'classes': 10, 'final_drop': 0.5}
    assert manifest['class_names'] == list('0123456789')
    assert manifest['preprocessing']['size'] == 32
    assert set(manifest['accuracy']) == {'top1', 'top5', 'loss'}
    assert (manifest['dataset'], manifest['seed'], manifest['epoch']) == ('digits', 0, 1)
    assert '--drop-rate 0.5' in manifest['command']
    assert {'python', 'mxnet', 'numpy'} <= set(manifest['versions'])


def test_dataset_data_dir_and_workers(tmp_path, monkeypatch):
    from training.tasks import cifar as module

    folder_of_images(tmp_path / 'pets')
    seen = {}

    def load(name, splits, **arguments):
        seen.update(arguments)
        return original(name, splits, **arguments)

    original = module.load_splits
    monkeypatch.setattr(module, 'load_splits', load)
    flags = f'{BASE} --dataset {tmp_path / "pets"} --batch-size 4 -j 3 --original-defaults'
    finished = Run(tmp_path / 'run', flags)
    assert finished.manifest['class_names'] == ['cat', 'dog']
    assert finished.manifest['dataset'] == 'pets'
    assert (seen['data_dir'], seen['workers'], seen['interpolation']) == (None, 3, 'antialiased')
    plain = Run(tmp_path / 'plain', f'{flags} --interpolation plain')
    assert (finished.manifest['preprocessing']['interpolation'], plain.manifest['preprocessing']['interpolation']) == (
        'antialiased',
        'plain',
    )
    assert plain.digest != finished.digest
    with pytest.raises(UserError, match='--dataset'):
        train_cifar.main(shlex.split(f'{BASE} --dataset nothing'))
    for name in ('https_proxy', 'http_proxy'):  # there are no archives, and they cannot be downloaded
        monkeypatch.setenv(name, 'http://127.0.0.1:9')
    with pytest.raises(UserError, match='cifar'):
        train_cifar.main(shlex.split(f'{BASE} --dataset cifar10 --data-dir {tmp_path}'))


def test_no_workers_are_the_main_thread():
    assert train_cifar.make_parser().parse(['-j', '0']).data.num_data_workers == 1
    with pytest.raises(UsageError, match='whole numbers from 0'):
        train_cifar.make_parser().parse(['-j', '-1'])


def test_logging_file_and_log_interval(tmp_path):
    Run(tmp_path / 'run', f'{TWO} --log-interval 1')
    lines = (tmp_path / 'run' / 'train.log').read_text().splitlines()
    pattern = r'Epoch\[2\] Batch \[1\]\tSpeed: [\d.]+ samples/sec\taccuracy=[01]\.\d{6}\tlr=0\.100000'
    assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1
    events = read_events(tmp_path / 'run' / 'log.jsonl')
    assert [event['event'] for event in events] == ['batches', 'batches', 'epoch'] * 2
    assert [event['step'] for event in events] == [1, 2, 2, 3, 4, 4]
    Run(tmp_path / 'other', f'{BASE} --logging-file {tmp_path}/elsewhere.log')
    assert 'best Acc' in (tmp_path / 'elsewhere.log').read_text()


# Flags with their own tests above; --resume and --resume-from: see test_resume.py.
# --use-pretrained, --init-params and --freeze-stages: see tests/training/checkpoints/test_start.py.
# --teacher, --teacher-params, --temperature, --hard-weight: see tests/training/test_teacher.py.
# --ema: see tests/training/optim/test_average.py.
# --max-skipped: see tests/training/test_skipping.py; --horovod, --fp16-allreduce: see
# tests/training/distributed/test_horovod.py.
# --recompute: see tests/training/test_recompute.py.
# --plugin: see tests/test_plugin.py; --no-report: see tests/training/report/test_run_report.py.
OTHERS = set(
    'summary limit_val gpus dtype mode save_dir save_period save_plot_dir checkpoint_interval keep resume '
    'resume_from tensorboard config json dataset data_dir num_data_workers logging_file log_interval use_pretrained '
    'init_params freeze_stages max_skipped horovod teacher teacher_params temperature hard_weight ema no_report '
    'interpolation plugin max_bad max_bad_share quiet verbose logger log_images results val_interval patience '
    'max_time recompute original_defaults weights_dir input_size sync_bn fp16_allreduce'.split()
)


def test_every_flag_is_tested():
    assert set(train_cifar.make_parser().flags()) == set(CHANGING) | OTHERS
