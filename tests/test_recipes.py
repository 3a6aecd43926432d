"""Every recipe parses, builds its network, and says of itself what is true."""

import importlib
import re
from pathlib import Path

import pytest

from model import count, get_model, input_size
from model.published import PUBLISHED
from training.data.cifar import CIFAR

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'recipes').rglob('*.yaml'))
CLASSES = {**{name: len(data.class_names) for name, data in CIFAR.items()}, 'imagenet': 1000}


class Recipe:
    """A file of recipes/: its header's lines by their first word, and the settings that the command gives."""

    def __init__(self, path):
        text = (ROOT / path).read_text(encoding='utf-8')
        self.header = dict(re.findall(r'^# (\w+): +(.+)$', text, re.MULTILINE))
        self.script, self.config = re.match(r'python (train_\w+)\.py --config (\S+)', self.header['Command']).groups()
        self.settings = importlib.import_module(self.script).make_parser().parse(['--config', str(ROOT / path)])
        self.task = importlib.import_module(self.script.replace('train_', 'training.')).TASK
        self.dataset = getattr(self.settings, 'dataset', 'imagenet')

    @property
    def network(self):
        return self.task.network(self.settings, CLASSES[self.dataset])


@pytest.fixture(params=RECIPES)
def path(request):
    return request.param


def test_a_recipe_is_the_published_networks(path):
    recipe = Recipe(path)
    name, options, _ = recipe.network
    published = PUBLISHED[name]
    side = input_size(name)
    assert count(get_model(name, **options), (1, 3, side, side)) == (published.params, published.macs)
    assert options == {'classes': CLASSES[recipe.dataset], **published.options}
    assert f'{published.accuracy[recipe.dataset]:.2f} %' in recipe.header['Expected']


def test_a_recipe_says_what_it_is(path):
    recipe = Recipe(path)
    assert recipe.config == path
    assert {'Paper', 'Command', 'Expected', 'Hardware'} <= set(recipe.header)
    assert '# Last run: ' in (ROOT / path).read_text(encoding='utf-8')


def test_there_is_one_for_every_network_of_dianet():
    names = {name for name, row in PUBLISHED.items() if 'DIANet' in row.paper and 'cifar100' in row.accuracy}
    assert {Path(path).stem for path in RECIPES if path.startswith('recipes/dianet/')} == names
