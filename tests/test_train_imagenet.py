"""The ImageNet command: the original's flags with their names and defaults, its command, its log, its files."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train_cifar
import train_imagenet
from environment import UsageError, UserError
from tests.training.jobs import write_records
from training.checkpoints.checkpoint import read_checkpoint
from training.logging.events import read_events
from training.logging.history import read_history
from training.loop import NonFinite
from training.optim.schedule import make_schedule
from training.tasks.imagenet import chosen_network

README = (
    '--mode hybrid --lr 0.075 --lr-mode cosine --num-epochs 160 --batch-size 128 --num-gpus 2 -j 48 --warmup-epochs 5 '
    '--dtype float16 --use-rec --last-gamma --no-wd --label-smoothing --save-dir params_resnet50_v1b_ChaATAC_2 '
    '--logging-file resnet50_v1b_ChaATAC_2.log --r 2 --act-layers 2'
)
BASE = (
    '--model cifar_resnet8_v2 --input-size 32 --use-rec --batch-size 8 --limit-train 16 --num-epochs 1 '
    '--mode hybrid -j 1 --no-report --original-defaults'
)

# Flag: its default in the original, where it had an effect.
ORIGINALS = {
    'use_rec': False,
    'summary': False,
    'batch_size': 32,
    'dtype': 'float32',
    'num_gpus': 0,
    'num_data_workers': 4,
    'num_epochs': 3,
    'lr': 0.1,
    'momentum': 0.9,
    'wd': 1e-4,
    'lr_mode': 'step',
    'lr_decay': 0.1,
    'lr_decay_epoch': '40,60',
    'lr_decay_period': 0,
    'warmup_lr': 0.0,
    'warmup_epochs': 0,
    'last_gamma': False,
    'input_size': 224,
    'crop_ratio': 0.875,
    'use_pretrained': False,
    'use_se': False,
    'batch_norm': False,
    'mixup': False,
    'mixup_alpha': 0.2,
    'mixup_off_epoch': 0,
    'label_smoothing': 0.0,
    'no_wd': False,
    'teacher': None,
    'temperature': 20.0,
    'hard_weight': 0.5,
    'save_period': 10,  # --save-frequency
    'resume_epoch': 0,
    'log_interval': 50,
    'logging_file': 'train_imagenet.log',
    'use_gn': False,
    'data_dir': '~/.mxnet/datasets/imagenet',
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    """Return `run(flags)`, which gives the folder of a run with them, once for each set of flags."""
    known = {}

    def once(flags):
        if flags not in known:
            folder = known[flags] = tmp_path_factory.mktemp('runs') / 'run'
            argv = ['--data-dir', str(data), '--save-dir', str(folder), '--json', f'{folder}.json', *shlex.split(flags)]
            assert train_imagenet.main(argv) == 0
        return known[flags]

    return once


def figures(folder):
    return json.loads(Path(f'{folder}.json').read_text())


def digest(folder):
    return hashlib.sha256(Path(figures(folder)['params']).read_bytes()).hexdigest()


def parse(flags):
    return train_imagenet.make_parser().parse(shlex.split(flags))


def test_the_originals_flags_have_their_defaults():
    settings = parse('').values()
    assert {name: settings[name] for name in ORIGINALS} == ORIGINALS


def test_the_originals_network_is_the_default():
    assert chosen_network(parse('').network, 1000)[:2] == (
        'atac_resnet50_v1b',
        {'classes': 1000, 'act_reduction': 4, 'act_layers': 2},
    )
    chosen = chosen_network(parse(README).network, 1000)
    assert chosen.options == {'classes': 1000, 'act_reduction': 2, 'act_layers': 2, 'last_gamma': True}
    assert chosen_network(parse('--act-type relu').network, 10)[:2] == (
        'resnet50_v1b',
        {'classes': 10, 'act_type': 'relu', 'act_layers': 2},
    )
    assert chosen_network(parse('--use_se').network, 10).name == 'atac_se_resnet50_v1b'
    assert chosen_network(parse('--use-gn').network, 10).options['norm'] == 'group'
    named = chosen_network(parse('--model dca_se_resnet50_v1b --last-gamma').network, 10)
    assert named == ('dca_se_resnet50_v1b', {'classes': 10, 'last_gamma': True})


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        ('--model resnet51_v1b', '--model: resnet51_v1b'),
        ('--act-type ChaATAK', "--act-type: unknown activation 'ChaATAK'"),
        ('--model cifar_resnet8_v2 --last-gamma', '--model: cifar_resnet8_v2 takes no argument'),
        ('--model se_resnet50_v1b --use_se', 'has an attention unit already'),
    ],
)
def test_networks_that_do_not_exist(flags, complaint):
    with pytest.raises(UsageError) as error:
        chosen_network(parse(flags).network, 10)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ('epoch', 'batch', 'logged'), [(0, 49, '0.000150'), (4, 5003, '0.075000'), (159, 5003, '0.000000')]
)
def test_the_originals_command_has_the_schedule_of_its_log(epoch, batch, logged):
    """Without the five batches by which its data exceeded its schedule: see tests/training/optim/test_schedule.py."""
    schedule = make_schedule(parse(README).schedule, 1281167 // 256)
    assert f'{schedule(epoch * 5004 + batch):f}' == logged


def test_the_originals_command_says_what_it_needs_here(data):
    with pytest.raises(UserError, match='--dtype is float16, which MXNet trains only on a GPU'):
        train_imagenet.main([*shlex.split(README), '--data-dir', str(data)])


@pytest.mark.slow
def test_the_originals_command_runs(data, tmp_path):
    """Verbatim, except for what this machine cannot do or what would take months."""
    changes = '--dtype float32 --num-epochs 1 --warmup-epochs 1 --batch-size 2 --limit-train 4 --input-size 64'
    assert (
        train_imagenet.main(
            [*shlex.split(README), *shlex.split(changes), '--data-dir', str(data), '--save-dir', f'{tmp_path}/run']
        )
        == 0
    )
    names = {path.name for path in (tmp_path / 'run').iterdir()}
    assert {'best.params', 'last.params', 'report.html'} <= names
    assert 'resnet50_v1b_ChaATAC_2.log' in names


def test_the_log_and_the_files_are_the_originals(run):
    folder = run(f'{BASE} --log-interval 1 --save-frequency 1')
    lines = (folder / 'train_imagenet.log').read_text().splitlines()
    assert lines[0].startswith("Namespace(model='cifar_resnet8_v2'")
    number = r'\d+\.\d{6}'
    for pattern in (
        rf'Epoch\[1\] Batch \[2\]\tSpeed: {number} samples/sec\taccuracy={number}\tlr=0\.100000',
        rf'\[Epoch 1\] training: accuracy={number}',
        rf'\[Epoch 1\] speed: \d+ samples/sec\ttime cost: {number}',
        rf'\[Epoch 1\] validation: err-top1={number} err-top5={number}',
    ):
        assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1, pattern
    assert {path.name for path in folder.glob('*.params')} == {'best.params', 'last.params', 'epoch-1.params'}
    assert [event['event'] for event in read_events(folder / 'log.jsonl')] == ['batches', 'batches', 'epoch']


# Flags that must change what is learned: two command lines that only differ in the flag.
CHANGING = {
    'act_type': (BASE, f'{BASE} --act-type swish'),
    'r': (f'{BASE} --act-type ChaATAC', f'{BASE} --act-type ChaATAC --r 8'),
    'act_layers': (f'{BASE} --act-type swish', f'{BASE} --act-type swish --act-layers 1'),
    'use_gn': (BASE, f'{BASE} --use-gn'),
    'input_size': (BASE, BASE.replace('--input-size 32', '--input-size 24')),
    'classes': (BASE, f'{BASE} --classes 9'),
    'limit_train': (BASE, BASE.replace('--limit-train 16', '--limit-train 24')),
    'resume_epoch': (f'{BASE} --num-epochs 2', f'{BASE} --num-epochs 2 --resume-epoch 1'),
    'cache': (f'{BASE} --cache off', f'{BASE} --cache 256'),
    'benchmark': (BASE, f'{BASE} --benchmark 2'),
    'min_area': (BASE, f'{BASE} --min-area 0.9'),
    'max_aspect': (BASE, f'{BASE} --max-aspect 1'),
    'jitter': (BASE, f'{BASE} --jitter 0'),
    'lighting': (BASE, f'{BASE} --lighting 0'),
    'interpolation': (BASE, f'{BASE} --interpolation plain'),
    'balanced_sampling': (BASE, f'{BASE} --balanced-sampling'),
    'label_noise': (BASE, f'{BASE} --label-noise 0.9'),
    'auto_augment': (BASE, f'{BASE} --auto-augment rand'),
    'random_erase': (BASE, f'{BASE} --random-erase 1'),
    'aug_repeats': (BASE, f'{BASE} --aug-repeats 2'),
}


@pytest.mark.parametrize('flag', [flag for flag in CHANGING if flag != 'cache'])
def test_flags_that_change_what_is_learned(run, flag):
    before, after = (run(flags) for flags in CHANGING[flag])
    assert digest(before) != digest(after)


def test_validation_as_the_originals(run):
    once, wrapped = (run(f'{BASE} --num-epochs 2{more}') for more in ('', ' --wrap-val'))
    assert digest(wrapped) == digest(once)
    first, second = read_history(wrapped / 'history.csv')
    # 11 images in batches of 8: all of them and five again, then the next eight.
    assert first['val_top5'] * 16 % 1 == 0
    assert second['val_top5'] * 8 % 1 == 0
    assert first['val_loss'] != read_history(once / 'history.csv')[0]['val_loss']


def test_the_cache_changes_nothing_where_it_keeps_what_was_read(run):
    assert digest(run(f'{BASE} --cache off')) == digest(run(BASE))


def test_folders_give_the_same_network_as_other_runs_of_them(data, tmp_path):
    random = np.random.RandomState(0)
    for part, count in (('train', 4), ('val', 2)):
        for label in ('cat', 'dog'):
            (tmp_path / 'pets' / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.randint(0, 256, (40, 36, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / 'pets' / part / label / f'{index}.png')
    flags = BASE.replace('--use-rec', '').replace('--batch-size 8', '--batch-size 4')
    argv = [*shlex.split(flags), '--data-dir', str(tmp_path / 'pets'), '--crop-ratio', '0.5']
    assert train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'run')]) == 0
    manifest = json.loads((tmp_path / 'run' / 'last.json').read_text())
    assert manifest['class_names'] == ['cat', 'dog']
    assert (manifest['preprocessing']['size'], manifest['preprocessing']['resize']) == (32, 64)


def test_records_elsewhere_and_bad_ones(data, tmp_path, caplog):
    place = tmp_path / 'moved'
    place.mkdir()
    for part in ('train', 'val'):
        for suffix in ('rec', 'idx'):
            (place / f'{part}-of-mine.{suffix}').write_bytes((data / 'rec' / f'{part}.{suffix}').read_bytes())
    flags = ' '.join(
        f'--rec-{part} {place}/{part}-of-mine.rec --rec-{part}-idx {place}/{part}-of-mine.idx'
        for part in ('train', 'val')
    )
    argv = [*shlex.split(f'{BASE} {flags}'), '--limit-val', '5']
    assert train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'run')]) == 0
    assert '16 images to train on, 5 to validate on' in (tmp_path / 'run' / 'train_imagenet.log').read_text()
    # A byte in the middle of the first validation image.
    content = bytearray((place / 'val-of-mine.rec').read_bytes())
    content[200] ^= 255
    (place / 'val-of-mine.rec').write_bytes(content)
    with pytest.raises(UserError, match='--max-bad 0 .* allow 0 of 5'):
        train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'strict'), '--max-bad', '0'])
    assert train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'lenient'), '--max-bad', '1']) == 0
    assert 'image skipped, 1 so far' in caplog.text
    assert '1 damaged images so far, the first: ' in (tmp_path / 'lenient' / 'train_imagenet.log').read_text()
    (event,) = [e for e in read_events(tmp_path / 'lenient' / 'log.jsonl') if e['event'] == 'damaged']
    assert 'val-of-mine.rec' in event['images'][0]


def test_data_only_and_summary(data, tmp_path, capsys):
    argv = [*shlex.split(BASE), '--data-dir', str(data), '--save-dir', str(tmp_path / 'run')]
    assert train_imagenet.main([*argv, '--data-only', '--json', str(tmp_path / 'speed.json')]) == 0
    assert json.loads((tmp_path / 'speed.json').read_text())['images_per_second'] > 0
    assert 'the training data alone: ' in capsys.readouterr().out
    # Prints and exits, without data and in any mode.
    assert train_imagenet.main(shlex.split('--model resnet18_v1b --mode hybrid --summary --data-dir nowhere')) == 0
    assert '(1, 1000)' in capsys.readouterr().out
    assert train_imagenet.main(shlex.split('--model resnet18_v1b --classes 12 --summary')) == 0
    assert '(1, 12)' in capsys.readouterr().out
    assert not (tmp_path / 'run').exists()


def test_starting_from_parameters_states_and_an_epoch(run, data, tmp_path):
    first = run(f'{BASE} --num-epochs 2')
    checkpoint = sorted((first / 'checkpoints').iterdir())[-2]  # after the first epoch
    assert read_checkpoint(checkpoint)['record']['epoch'] == 1
    argv = [*shlex.split(f'{BASE} --num-epochs 2 --resume-epoch 1'), '--data-dir', str(data)]
    argv += ['--resume-params', str(checkpoint)]
    assert train_imagenet.main([*argv, '--resume-states', str(checkpoint), '--save-dir', str(tmp_path / 'both')]) == 0
    assert train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'one')]) == 0
    ends = [(tmp_path / name / 'last.params').read_bytes() for name in ('both', 'one')]
    assert ends[0] == Path(figures(first)['params']).read_bytes()
    assert ends[1] != ends[0]
    with pytest.raises(UsageError, match='--resume-states is x.states; allowed: a checkpoint'):
        train_imagenet.main([*argv, '--resume-states', 'x.states', '--save-dir', str(tmp_path / 'no')])
    with pytest.raises(UsageError, match='--resume-epoch is 2; allowed: 0 to below --num-epochs'):
        train_imagenet.main([*argv, '--resume-epoch', '2', '--save-dir', str(tmp_path / 'no')])


def test_it_learns(tmp_path):
    """The network memorises one image of each class."""
    data = write_records(tmp_path, train=16, val=16, kinds=4)
    flags = (
        '--model cifar_atac_resnet8_v2 --input-size 32 --use-rec --batch-size 4 --num-epochs 8 --mode hybrid -j 1 '
        '--lr 0.05 --lr-mode cosine --crop-ratio 1 --checkpoint-interval 0 --min-area 0.8 --jitter 0 --lighting 0'
    )
    places = ['--data-dir', str(data), '--save-dir', f'{tmp_path}/run', '--json', f'{tmp_path}/run.json']
    assert train_imagenet.main([*shlex.split(flags), *places]) == 0
    assert json.loads((tmp_path / 'run.json').read_text())['best_top1'] > 0.9


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        ('--rec-train train.rec', '--rec-train is for --use-rec, which is not given'),
        ('--rec-val-idx val.idx', '--rec-val-idx is for --use-rec, which is not given'),
        ('--teacher-params net.params', '--teacher-params is for --teacher, which is not given'),
        ('--temperature 4', '--temperature is for --teacher, which is not given'),
        ('--mixup-alpha 0.5', '--mixup-alpha is for --mixup, which is not given'),
        ('--fp16-allreduce', '--fp16-allreduce is for --horovod, which is not given'),
        ('--warmup-lr 0.01', '--warmup-lr is for a warm-up, and --warmup-epochs and --warmup-steps are 0'),
        ('--lr-mode cosine --lr-decay 0.5', '--lr-decay is for --lr-mode step, and it is cosine'),
        ('--model resnet18_v1b --r 2', '--r is for other activation units than those of resnet18_v1b'),
    ],
)
def test_flags_that_others_would_make_idle(flags, complaint, tmp_path):
    with pytest.raises(UsageError, match=complaint):
        train_imagenet.main([*shlex.split(f'--benchmark 1 {flags}'), '--save-dir', str(tmp_path / 'run')])
    assert not (tmp_path / 'run').exists()


def test_what_a_recipe_no_longer_needs_is_no_mistake(data, tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text('model: cifar_atac_resnet8_v2\nr: 4\nlr-decay-epoch: [1]\nmixup-off-epoch: 1\n')
    argv = [*shlex.split(f'--config {recipe} {BASE} --lr-mode cosine'), '--data-dir', str(data)]
    assert train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'run')]) == 0
    assert train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'run'), '--resume']) == 0
    with pytest.raises(UsageError, match='--lr-decay-epoch is for --lr-mode step'):
        train_imagenet.main([*argv, '--lr-decay-epoch=2', '--save-dir', str(tmp_path / 'other')])


def test_the_way_back_has_the_scripts_own_flags(data, tmp_path):
    argv = [*shlex.split(f'{BASE} --lr 1e30 --checkpoint-interval 1 --max-skipped 0'), '--data-dir', str(data)]
    with pytest.raises(NonFinite, match='a longer --warmup-epochs, from that state with --resume-params$'):
        train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'run')])


def test_an_obsolete_flag_says_so(run):
    folder = run(f'{BASE} --batch-norm')
    assert '--batch-norm is obsolete' in (folder / 'train_imagenet.log').read_text()
    assert digest(folder) == digest(run(BASE))


def test_images_too_small_for_the_network(data, tmp_path):
    argv = ['--model', 'dca_cbam_resnet18_v1b', '--input-size', '16', '--use-rec', '--data-dir', str(data)]
    with pytest.raises(UserError, match='cannot take images of 16 x 16 pixels; it is made for 224'):
        train_imagenet.main([*argv, '--save-dir', str(tmp_path / 'run')])


def test_gpus_that_are_not_there(run):
    assert (
        '--num-gpus 2: no GPU is visible, training on the CPU'
        in (run(f'{BASE} --num-gpus 2') / 'train_imagenet.log').read_text()
    )


def test_validate_scores_what_was_trained(run, data):
    """The file alone gives the same figure as the run."""
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'scripts'))
    import validate

    folder = run(BASE)
    target = folder.parent / 'scores.json'
    argv = ['--params', figures(folder)['params'], '--dataset', str(data / 'rec' / 'val.rec'), '--split', 'test']
    assert validate.main([*argv, '--json', str(target)]) == 0
    scores = json.loads(target.read_text())
    assert (scores['count'], scores['top1']) == (11, figures(folder)['top1'])


# Flags with their own tests above, and those that tests/train_cifar tests.
OTHERS = set(
    'model last_gamma use_se batch_norm summary data_dir rec_train rec_train_idx rec_val rec_val_idx use_rec max_bad '
    'crop_ratio limit_val data_only num_gpus resume_states cache wrap_val'.split()
)


def test_every_flag_is_tested():
    shared = set(train_cifar.make_parser().flags())
    assert set(train_imagenet.make_parser().flags()) - shared <= set(CHANGING) | OTHERS
