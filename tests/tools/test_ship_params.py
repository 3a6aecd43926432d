"""tools/ship_params.py: what it puts into params/, where the tables and get_model find it at once."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import train_cifar
from common import files as files_module
from data.classification.by_name import load_dataset
from model import get_model, load_params, read_manifest
from model.parameters import pretrained
from model.parameters.file_format import read_params_file
from tests.data.loaders import loader as make_loader
from training.evaluate import evaluate

FLAGS = (
    '--dataset digits --model cifar_se_resnet8_v2 --num-epochs 1 --batch-size 32 --limit-train 320 --mode hybrid '
    '--no-report --checkpoint-interval 0'
).split()


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Return folders of finished runs: two seeds, and another learning rate."""
    place = tmp_path_factory.mktemp('runs')
    for name, flags in (('a', ['--seed', '0']), ('b', ['--seed', '1']), ('c', ['--seed', '2', '--lr', '0.05'])):
        assert train_cifar.main([*FLAGS, *flags, '--save-dir', str(place / name)]) == 0
    return place


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}


def full_for(name):
    """Return a `write_and_flush` that finds the disk full when it writes the file `name`."""
    honest = files_module.write_and_flush

    def write(path, content):
        if name in path:
            raise OSError(errno.ENOSPC, 'No space left on device', path)
        honest(path, content)

    return write


def test_the_first_seed_brings_its_parameters_and_the_others_their_figures(runs, tmp_path, in_process, monkeypatch):
    code, out, err = in_process(
        'ship_params.py', runs / 'b', runs / 'a', '--name', 'digits', '--about', 'Digits', '--params-dir', tmp_path
    )
    assert code == 0, err
    folder = tmp_path / 'digits' / 'cifar_se_resnet8_v2'
    assert files(folder) == {'seed-0.params', 'seed-0.json', 'seed-0.csv', 'seed-0.log', 'seed-0.yaml', 'seed-1.json'}
    first, second = (read_manifest(folder / f'seed-{seed}.params') for seed in (0, 1))
    assert [manifest['seed'] for manifest in (first, second)] == [0, 1]
    assert first['sha256'] != second['sha256']
    assert f'top-1 {100 * first["accuracy"]["top1"]:.2f} % on 355 images' in out
    assert {first[key] for key in ('data', 'dataset', 'dtype', 'epochs', 'images')} == {
        'Digits',
        'digits',
        'float16',
        1,
        355,
    }
    arrays = read_params_file(folder / 'seed-0.params')
    assert arrays['output.weight'].dtype == np.float16
    monkeypatch.setattr(pretrained, 'SHIPPED', tmp_path)
    net = get_model('cifar_se_resnet8_v2', pretrained='digits')
    scores = evaluate(net, make_loader(load_dataset('digits', 'test'), 50))
    assert scores.top1 == first['accuracy']['top1']
    assert scores.loss == pytest.approx(first['accuracy']['loss'], rel=1e-5)
    # The parameters in full precision are close, but not the same.
    trained = read_manifest(runs / 'a' / 'last.params')['accuracy']
    assert first['accuracy_in_float32'] == trained
    assert first['accuracy']['loss'] != trained['loss']
    assert first['accuracy']['loss'] == pytest.approx(trained['loss'], rel=0.01)
    other = get_model('cifar_se_resnet8_v2', classes=10)
    load_params(other, runs / 'b' / 'last.params')
    assert second['accuracy']['top1'] == pytest.approx(
        evaluate(other, make_loader(load_dataset('digits', 'test'), 50)).top1, abs=0.005
    )


def test_paths_of_this_machine_stay_here(runs, tmp_path, in_process):
    assert in_process('ship_params.py', runs / 'a', '--name', 'digits', '--params-dir', tmp_path / 'out')[0] == 0
    folder = tmp_path / 'out' / 'digits' / 'cifar_se_resnet8_v2'
    for path in folder.glob('seed-0.[!p]*'):
        assert str(runs) not in path.read_text(), path
    assert (folder / 'seed-0.log').read_text().count('run folder a\n') == 1


def test_a_full_disk_leaves_what_was_shipped_before(runs, tmp_path, in_process):
    given = ['--name', 'digits', '--params-dir', tmp_path]
    assert in_process('ship_params.py', runs / 'a', *given)[0] == 0
    folder = tmp_path / 'digits' / 'cifar_se_resnet8_v2'
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    another = tmp_path / 'another run of this seed'
    shutil.copytree(str(runs / 'b'), str(another))
    manifest = another / 'last.json'
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), 'seed': 0}))
    for name in ('seed-0.csv', 'seed-0.yaml', 'seed-0.params'):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files_module, 'write_and_flush', full_for(name))
            code, _, err = in_process('ship_params.py', another, *given, '--replace')
        assert (code, err.count('\n')) == (1, 1), err
        assert 'the disk is full' in err
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert in_process('ship_params.py', another, *given, '--replace')[0] == 0
    assert (folder / 'seed-0.params').read_bytes() != before['seed-0.params']


def test_again_changes_nothing_and_another_run_of_the_seed_must_be_meant(runs, tmp_path, in_process):
    def ship(run, *flags):
        return in_process('ship_params.py', run, '--name', 'digits', '--params-dir', tmp_path / 'out', *flags)

    assert ship(runs / 'a', '--json', tmp_path / 'shipped.json')[0] == 0
    path = tmp_path / 'out' / 'digits' / 'cifar_se_resnet8_v2' / 'seed-0.json'
    before = path.read_bytes()
    (told,) = json.loads((tmp_path / 'shipped.json').read_text())
    assert told.pop('file') == str(path.with_suffix('.params'))
    assert told == {key: json.loads(before)[key] for key in told}
    assert {'model', 'seed', 'accuracy', 'accuracy_in_float32'} <= set(told)
    assert ship(runs / 'a')[0] == 0
    assert path.read_bytes() == before
    manifest = json.loads(before)
    path.write_text(json.dumps({**manifest, 'sha256': '0' * 64}))
    code, _, err = ship(runs / 'a')
    assert code == 1
    assert '--replace' in err
    assert ship(runs / 'a', '--replace')[0] == 0
    assert path.read_bytes() == before


def test_runs_that_were_trained_otherwise_have_no_common_mean(runs, tmp_path, in_process):
    code, _, err = in_process(
        'ship_params.py', *(runs / name for name in 'ac'), '--name', 'digits', '--params-dir', tmp_path
    )
    assert code == 1
    assert 'seed-0.json was trained with a different lr (0.1, and this run with 0.05)' in err
    assert not (tmp_path / 'digits' / 'cifar_se_resnet8_v2' / 'seed-2.json').exists()


@pytest.fixture
def copy(runs, tmp_path):
    """Return a copy of a run, to be damaged."""
    return Path(shutil.copytree(runs / 'a', tmp_path / 'copy'))


def damage(copy, how):
    if how == 'unfinished':
        text = (copy / 'settings.yaml').read_text().replace('num-epochs: 1', 'num-epochs: 2')
        (copy / 'settings.yaml').write_text(text)
    elif how == 'limited':
        (copy / 'settings.yaml').write_text((copy / 'settings.yaml').read_text() + 'limit-val: 8\n')
    elif how == 'no parameters':
        for path in copy.glob('*.params'):
            path.unlink()
    elif how == 'other images':
        text = (copy / 'history.csv').read_text().splitlines()
        cells = text[1].split(',')
        cells[text[0].split(',').index('val_top1')] = '0.999'
        (copy / 'history.csv').write_text('\n'.join([text[0], ','.join(cells)]) + '\n')
    elif how == 'no log':
        (copy / 'train.log').unlink()
    elif how == 'a detector':
        for path in copy.glob('last.json'):
            path.write_text(json.dumps({**json.loads(path.read_text()), 'task': 'detection'}))
    elif how == 'log from elsewhere':
        (copy / 'settings.yaml').write_text((copy / 'settings.yaml').read_text() + 'logging-file: ../../hosts\n')
    elif how == 'empty settings':
        (copy / 'settings.yaml').write_text('')
    elif how == 'bare manifest':
        for path in copy.glob('last.json'):
            path.write_text('{"model": "x", "epoch": 0}')
    elif how == 'no run':
        (copy / 'settings.yaml').unlink()


@pytest.mark.parametrize(
    ('how', 'words'),
    [
        ('unfinished', ['has 1 of its 2 epochs', 'let it finish']),
        ('limited', ['scored on only 8 images', '--limit-val']),
        ('no parameters', ['no parameters of its last epoch', '--resume']),
        ('other images', ['in training it was 99.90 %', '--dataset']),
        ('no log', ['lacks its log', 'train.log']),
        ('a detector', ['is the run of a detector', 'give a run of a classifier']),
        ('log from elsewhere', ["logging-file is '../../hosts'; allowed: the path of a file below its folder"]),
        ('empty settings', ['settings.yaml is not from a run: it lacks num-epochs']),
        ('bare manifest', ['.json lacks model_kwargs, classes']),
        ('no run', ['no settings.yaml', 'folder of a run']),
    ],
)
def test_what_is_no_finished_run(copy, tmp_path, in_process, how, words):
    damage(copy, how)
    code, _, err = in_process('ship_params.py', copy, '--name', 'digits', '--params-dir', tmp_path / 'out')
    assert code == 1
    assert err.count('\n') == 1
    for word in words:
        assert word in err
    assert not (tmp_path / 'out').exists()


def test_the_name_is_one_of_a_folder(runs, tmp_path, in_process):
    code, _, err = in_process('ship_params.py', runs / 'a', '--name', '../x', '--params-dir', tmp_path)
    assert code == 2
    assert '--name ../x must be a word' in err
