"""Every recipe parses, builds its network, and describes itself correctly."""

import importlib
import re
from functools import lru_cache
from pathlib import Path

import pytest

from data.classification.cifar import CIFAR
from detection.published import PUBLISHED as DETECTED
from detection.task import DetectionTask
from model import count, get_model, input_size
from model.published import PUBLISHED
from tests.published_rows import FIGURES
from training.optim.schedule import make_schedule
from training.tasks.cifar import CifarTask
from training.tasks.imagenet import ImagenetTask

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / 'recipes').rglob('*.yaml') if 'presets' not in path.parts
)
STUDIES = [path for path in FILES if path.endswith('/study.yaml')]
EVERY = [path for path in FILES if path not in STUDIES]
DETECTORS = [path for path in EVERY if Path(path).name.startswith(('retinanet_', 'cascade_rcnn_'))]
#: Folders whose rows are no published network, but what a paper compares with one or takes apart: a few of them are.
VARIANTS = (
    *(f'recipes/dianet/{name}/' for name in ('reduction', 'cells', 'output', 'shared', 'stability', 'imagenet')),
    *(f'recipes/dcanet/{name}/' for name in ('connections', 'dimensions', 'stages', 'adapters', 'depth')),
    *(f'recipes/residual_attention/{name}/' for name in ('learning', 'masks', 'structure', 'noise')),
    *(f'recipes/residual_attention/imagenet/{name}.yaml' for name in ('attentionnext92', 'attentioninception56')),
    'recipes/residual_attention/port/cifar_residual_attention92_without_additions.yaml',
    *(
        f'recipes/open_atac/{name}/'
        for name in ('units', 'networks', 'context', 'kernels', 'inner_relu', 'reduction', 'layers', 'placement')
    ),
    'recipes/open_atac/table4/resnet50_v1b.yaml',
)
OTHERS = [path for path in EVERY if path.startswith(VARIANTS)]
RECIPES = [path for path in EVERY if path not in DETECTORS and path not in OTHERS]
#: Folders of the recipes whose authors train with PyTorch.
PYTORCHS = ('coordinate_attention', 'dcanet', 'dianet', 'simam', 'triplet_attention')
TASKS = {'train_cifar': CifarTask, 'train_imagenet': ImagenetTask, 'train_detection': DetectionTask}
CLASSES = {**{name: len(data.class_names) for name, data in CIFAR.items()}, 'imagenet': 1000}


@lru_cache(maxsize=None)
class Recipe:
    """A file in recipes/: the parts of its header by their first word, and the settings that it gives."""

    def __init__(self, path):
        text = (ROOT / path).read_text(encoding='utf-8')
        # A part may continue on lines that are indented like its first.
        said = re.findall(r'^# (\w+(?: run)?): +(.+(?:\n#           .+)*)$', text, re.MULTILINE)
        self.header = {word: re.sub(r'\n# +', ' ', line) for word, line in said}
        self.script, self.config = re.match(r'python (train_\w+)\.py --config (\S+)', self.header['Command']).groups()
        self.settings = importlib.import_module(self.script).make_parser().parse(['--config', str(ROOT / path)])
        self.given = self.settings.values()
        self.task = TASKS[self.script](self.settings)
        self.dataset = self.given.get('dataset', 'imagenet')

    @property
    def network(self):
        return self.task.choose(CLASSES[self.dataset])


@pytest.fixture(params=RECIPES)
def path(request):
    return request.param


def test_a_recipe_is_the_published_networks(path):
    recipe = Recipe(path)
    name, options = recipe.network
    published = PUBLISHED[name]
    side = input_size(name)
    assert count(get_model(name, **options), (1, 3, side, side)) == (published.params, published.macs)
    for initial in ('last_gamma', 'initialization', 'sample_variance'):  # they do not change the trained network
        options.pop(initial, None)
    assert options == {'classes': CLASSES[recipe.dataset], **published.options}
    assert f'{published.accuracy[recipe.dataset]:.2f} %' in recipe.header['Expected']


@pytest.mark.parametrize('path', OTHERS)
def test_a_variant_is_a_network_of_its_own(path):
    """It builds, differs from the other rows of its table, and states a figure only if one was published."""
    recipe = Recipe(path)
    name, options = recipe.network
    get_model(name, **options)
    given = recipe.given
    rows = [Recipe(other).given for other in OTHERS if Path(other).parent == Path(path).parent and other != path]
    same = ('config', 'save_dir')
    assert all(any(row[key] != given[key] for key in given if key not in same) for row in rows)
    published = PUBLISHED.get(name)
    folder, row = path[len('recipes/') : -len('.yaml')].rsplit('/', 1)
    if row in FIGURES.get(folder, {}):
        assert recipe.header['Expected'].startswith(f'{FIGURES[folder][row]:.2f} % top-1')
    elif recipe.header['Expected'][0].isdigit():
        assert f'{published.accuracy[recipe.dataset]:.2f} %' in recipe.header['Expected']
        side = input_size(name)
        assert count(get_model(name, **options), (1, 3, side, side)) == (published.params, published.macs)
    else:
        assert 'not at hand' in recipe.header['Expected']


@pytest.mark.parametrize('path', STUDIES)
def test_a_study_takes_its_folder(path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    monkeypatch.chdir(ROOT)
    args = importlib.import_module('study').parse([path])
    assert list(args.rows) == sorted(Path(each).stem for each in EVERY if Path(each).parent == Path(path).parent)
    assert {f'{Recipe(flags[1]).script}.py' for flags in args.rows.values()} == {args.script}
    assert args.baseline in args.rows
    text = (ROOT / path).read_text(encoding='utf-8')
    assert f'python tools/study.py {path} ' in text


@pytest.mark.parametrize('path', EVERY)
def test_a_recipe_says_what_it_is(path):
    recipe = Recipe(path)
    assert recipe.config == path
    assert {'Paper', 'Command', 'Expected', 'Hardware', 'Last run'} <= set(recipe.header)
    assert 'Hours' in recipe.header or 'long' in recipe.header['Hardware']


@pytest.mark.parametrize('path', EVERY)
def test_the_hardware_is_what_the_authors_name_and_the_settings_take(path):
    """DCANet's Usage.md names 8 Tesla V100, and DIANet's README two P100; the others name none."""
    recipe = Recipe(path)
    hardware = recipe.header['Hardware']
    given = recipe.given
    named = re.findall(r'V100|P100', hardware)
    if 'dcanet' in path:
        assert set(named) == {'V100'}
        assert 'Usage.md of 13952522076/DCANet' in hardware
    elif 'dianet' in path:
        assert hardware.startswith("2 Tesla P100 in the authors' runs (README of gbup-group/DIANet)")
    else:
        assert not named
    if given.get('num_gpus'):
        images = f'of {given["batch_size"]} images each'
        assert re.search(rf'\b{given["num_gpus"]} (GPUs?|Tesla V100) {images}', hardware)
    else:
        assert 'one GPU' in hardware


@pytest.mark.parametrize('path', EVERY)
def test_a_recipe_says_where_it_differs(path):
    """Differences are those from what the originals' code computes with the same settings."""
    recipe = Recipe(path)
    differs, given = recipe.header.get('Differs', ''), recipe.given
    pytorchs = path.split('/')[1] in PYTORCHS or '-pytorch' in recipe.header.get('Settings', '')
    assert ('momentum does not include the learning rate' in differs) == pytorchs
    assert ('norms see 64 images; here they see 128' in differs) == ('dianet' in path and given['batch_size'] == 128)
    if path in DETECTORS or not pytorchs:
        return
    option = given['option']
    name = recipe.network[0]
    if path.startswith('recipes/dianet/imagenet/'):
        assert 'initialization=he' in option
        return
    if name.endswith('_v1b'):
        unit = name.split('_')[-3] if name.count('_') > 1 else None
        assert f'initialization={"he_dense" if unit in ("cbam", "triplet") else "he"}' in option
    assert ('sample_variance=true' in option) == ('sk_' in name)


@pytest.mark.parametrize(
    ('folder', 'paper', 'dataset'),
    [
        ('dianet/results', 'DIANet', 'cifar100'),
        ('dcanet/table1', 'DCANet', 'imagenet'),
        ('open_atac', 'Attention as Activation', 'cifar10'),
        ('open_atac', 'Attention as Activation', 'imagenet'),
        ('residual_attention', 'Residual Attention', 'imagenet'),
        ('simam', 'SimAM', 'imagenet'),
        ('coordinate_attention', 'Coordinate Attention', 'imagenet'),
        ('triplet_attention', 'Triplet Attention', 'imagenet'),
        ('open_aff', 'Attentional Feature Fusion', 'imagenet'),
    ],
)
def test_there_is_one_for_every_network_of_a_published_table(folder, paper, dataset):
    names = {name for name, row in PUBLISHED.items() if paper in row.paper and dataset in row.accuracy}
    assert names
    of_folder = [path for path in RECIPES if path.startswith(f'recipes/{folder}/')]
    named = {Path(path).stem for path in of_folder if Recipe(path).dataset == dataset}
    assert named == names


def test_dcanets_images_and_weight_decay():
    """These are the arguments that its two scripts give to the augmentation and the optimizer."""
    for path in (path for path in (*RECIPES, *OTHERS) if path.startswith('recipes/dcanet/')):
        recipe = Recipe(path)
        given = recipe.given
        mobile = 'resnet' not in given['model']
        looks = {'min_area': 0.1, 'max_aspect': 1.25, 'jitter': 0.0, 'lighting': 0.0, 'interpolation': 'antialiased'}
        assert {name: given[name] for name in looks} == looks
        assert {given[name] for name in ('no_wd', 'no_wd_depthwise', 'wd_layer_norm')} == {mobile}
        assert (given['wd'], given['num_epochs']) == ((4e-5, 150) if mobile else (1e-4, 100))
        assert (given['optimizer'], given['lr'], given['momentum'], given['label_smoothing']) == ('sgd', 0.1, 0.9, 0)
        assert given['num_gpus'] * given['batch_size'] == (512 if mobile else 256)


@pytest.mark.parametrize('path', [path for path in RECIPES if path.split('/')[1] in ('open_atac', 'open_aff')])
def test_images_are_scaled_as_mxnet_does_where_the_authors_did(path):
    recipe = Recipe(path)
    if recipe.script == 'train_imagenet':  # CIFAR's images are not scaled
        assert recipe.given['interpolation'] == 'plain'


@pytest.mark.parametrize('path', [path for path in RECIPES if 'open_aff' in path])
def test_open_affs_settings(path):
    """These are the settings at the head of its logs."""
    given = Recipe(path).given
    assert (given['lr'], given['lr_mode'], given['warmup_epochs'], given['dtype']) == (0.075, 'cosine', 5, 'float16')
    assert (given['mixup'], given['mixup_alpha'], given['mixup_off_epoch'], given['label_smoothing']) == (
        True,
        0.2,
        0,
        0.1,
    )
    assert (given['last_gamma'], given['no_wd'], given['num_gpus'], given['optimizer']) == (True, True, 2, 'nag')
    assert (given['num_epochs'], given['batch_size']) == ((180, 96) if 'iaff' in path else (160, 128))


def test_there_is_one_for_every_published_detector():
    assert {Path(path).stem for path in DETECTORS} == set(DETECTED)


@pytest.mark.parametrize('path', DETECTORS)
def test_a_detectors_recipe_is_the_published_one(path):
    recipe = Recipe(path)
    name, options = recipe.task.choose(80)
    kind, backbone = re.fullmatch(r'(retinanet|cascade_rcnn)_(\w+)', name).groups()
    published = DETECTED[Path(path).stem]
    figures = f'AP {published.ap}, AP50 {published.ap50}, AP75 {published.ap75} on val2017'
    assert recipe.header['Expected'].startswith(figures)
    # Its backbone is the classifier of the recipe that it names.
    assert options == {'classes': 80, **PUBLISHED[backbone].options}
    assert recipe.header['Backbone'].endswith(f'recipes/dcanet/table1/{backbone}.yaml')
    assert f'{backbone}.params' in (ROOT / path).read_text(encoding='utf-8')
    schedule = make_schedule(recipe.settings.schedule, steps_per_epoch=7330)
    rate = 0.01 if kind == 'retinanet' else 0.02
    assert [schedule(step) for step in (0, 500, 7330 * 16, 7330 * 22)] == pytest.approx(
        [rate / 3, rate, rate / 10, rate / 100]
    )
    given = recipe.given
    assert given['num_gpus'] * given['batch_size'] == 16
    assert (given['optimizer'], given['momentum'], given['wd'], given['num_epochs']) == ('sgd', 0.9, 1e-4, 24)
    assert (given['short'], given['max_size'], given['clip_norm'], given['no_flip']) == (800, 1333, 35, False)
    assert given['interpolation'] == 'plain'  # mmdetection's
    assert (given['frozen_stages'], given['train_norms'], given['scale_lr']) == (1, False, None)
