"""Every preset parses, says what it is, and sets nothing without effect."""

import importlib
import re
from pathlib import Path

import pytest

import train_cifar
from environment import UsageError
from model import get_model
from tests.photos import write_photos
from training.config.idle import unreached
from training.config.presets import FOLDER, preset, presets
from training.config.settings import read_settings
from training.optim.schedule import make_schedule
from training.tasks.cifar import CifarTask
from training.tasks.imagenet import ImagenetTask

TASKS = {'train_cifar': CifarTask, 'train_imagenet': ImagenetTask}
IMAGES = {'train_cifar': 50000, 'train_imagenet': 1281167}
PRESETS = [(script, name) for script in TASKS for name in presets(script)]


@pytest.fixture(params=PRESETS, ids=lambda known: known[1])
def found(request):
    """Return the script, its parser, what the file sets, and the resulting settings."""
    script, name = request.param
    parser = importlib.import_module(script).make_parser()
    path = FOLDER / script / f'{name}.yaml'
    return script, parser, read_settings(str(path)), parser.parse(['--config', name]), path


def test_every_script_has_its_presets_and_help_names_them():
    for script in TASKS:
        names = ', '.join(sorted(presets(script), key=lambda name: int(re.sub('[a-z]', '', name))))
        assert names
        assert f'{names} in {script}.py' in importlib.import_module(script).make_parser().flags()['config'].help


def test_a_preset_sets_nothing_that_has_no_effect(found):
    _, parser, given, settings, _ = found
    names = {action.option_strings[-1].lstrip('-'): name for name, action in parser.flags().items()}
    idle = set()
    for group in settings.every():
        idle.update(name for fields, _ in group.idle() for name in fields)
    for key in given:
        assert names[key] not in idle, key


def test_its_network_and_schedule_are_sound(found):
    script, _, given, settings, _ = found
    network = TASKS[script](settings).choose(10)
    assert network.name == given['model']
    get_model(network.name, **network.options)
    steps = IMAGES[script] // (settings.data.batch_size * (given.get('num-gpus') or 1))
    assert unreached(settings.schedule, settings.loss, steps) == []
    rate = make_schedule(settings.schedule, steps)
    assert rate(settings.schedule.num_epochs * steps - 1) < 0.01 * settings.schedule.lr


def test_it_says_what_it_is(found):
    script, _, _, _, path = found
    text = path.read_text(encoding='utf-8')
    assert f'# Command:  python {script}.py --config {path.stem}' in text
    for word in ('Expected', 'Hardware', 'Last run'):
        assert f'# {word}:' in text


def test_the_command_line_overrides_a_preset(found):
    _, parser, _, _, path = found
    assert parser.parse(['--config', path.stem, '--num-epochs', '7']).schedule.num_epochs == 7


@pytest.mark.parametrize('name', ['a4', 'fast10'])
def test_an_unknown_preset_is_told_with_those_there_are(name):
    parser = importlib.import_module('train_imagenet').make_parser()
    with pytest.raises(UsageError, match=f'--config {name} is not a file; give .* of train_imagenet.py: a1, a2, a3'):
        parser.parse(['--config', name])


def test_a_file_goes_before_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a2').write_text('num-epochs: 3\nlr: 0.7\n')
    assert preset('a2', 'train_imagenet.py') is None
    assert importlib.import_module('train_imagenet').make_parser().parse(['--config', 'a2']).schedule.lr == 0.7


def test_a_preset_is_followed_on_images_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(Path('photos'), 30)
    flags = '--dataset photos --model cifar_resnet8_v2 --num-epochs 2 --batch-size 8 --mode hybrid --no-report'
    assert train_cifar.main(['--config', 'fast10', *flags.split(), '--save-dir', 'run']) == 0
    log = Path('run/train.log').read_text()
    assert '--config is one of the recipes, which is followed as it is: nothing else is chosen' in log
    assert 'chosen for these images: ' not in log
    ran, given = read_settings('run/settings.yaml'), read_settings(str(FOLDER / 'train_cifar/fast10.yaml'))
    stated = {**given, 'model': 'cifar_resnet8_v2', 'num-epochs': 2, 'batch-size': 8}
    assert {key: ran[key] for key in stated} == stated
    assert (ran['lr'], ran['use-pretrained'], ran['label-smoothing']) == (0.1, False, 0.0)


def test_recipes_are_the_projects_files(tmp_path):
    parser = train_cifar.make_parser()
    copy = tmp_path / 'fast10.yaml'
    copy.write_bytes((FOLDER / 'train_cifar/fast10.yaml').read_bytes())
    recipe = FOLDER.parent / 'dianet/results/cifar_dia_resnet164bn_v1.yaml'
    followed = [parser.follows_recipe(['--config', str(each)]) for each in ('fast10', recipe, copy)]
    assert followed == [True, True, False]
    assert not parser.follows_recipe([])
