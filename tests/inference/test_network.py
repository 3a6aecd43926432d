"""Loading a trained network by its manifest: what is wrong in it is reported in one sentence."""

import json

import pytest

from environment import UsageError, UserError
from inference.network import load_network
from model import get_model, save_params

NAME = 'cifar_atac_resnet8_v2'
RIGHT = {'model': NAME, 'model_kwargs': {'classes': 3}, 'classes': 3, 'class_names': ['ant', 'bee', 'cow']}
PIXELS = {'size': 32, 'mean': [0.5] * 3, 'std': [0.2] * 3}


@pytest.fixture(scope='module')
def params(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'net.params'
    net = get_model(NAME, classes=3)
    net.initialize()
    save_params(net, path)
    return path


@pytest.fixture
def with_manifest(params):
    """Return `with_manifest(entry=value)`, which returns the path of parameters whose manifest has these entries."""

    def write(**entries):
        params.with_suffix('.json').write_text(json.dumps({**RIGHT, **entries}))
        return params

    return write


def test_a_right_manifest_is_enough(with_manifest):
    network = load_network(with_manifest())
    assert (network.name, network.class_names) == (NAME, ('ant', 'bee', 'cow'))


@pytest.mark.parametrize('task', ['classification', 'detection'])
@pytest.mark.parametrize(
    ('entries', 'sentence'),
    [
        ({'model': 5}, 'model is 5; allowed: a text'),
        ({'model': 'nonsense'}, 'nonsense.* is not a'),
        ({'model_kwargs': [1]}, r'model_kwargs is \[1\]; allowed: a table'),
        ({'model_kwargs': 'classes'}, "model_kwargs is 'classes'; allowed: a table"),
        ({'model_kwargs': {'colour': 'red'}}, "no argument 'colour'|not a detector"),
        ({'class_names': 3}, 'class_names is 3; allowed: a list'),
        ({'class_names': [['ant'], 'bee', 'cow']}, r'class_names\[0\] is'),
        ({'sha256': 5}, 'sha256 is 5; allowed: a text'),
        ({'preprocessing': [32]}, r'preprocessing is \[32\]; allowed: a table'),
        ({'task': 7}, 'task is 7; allowed: a text'),
    ],
)
def test_a_wrong_manifest_is_told_with_its_file(with_manifest, task, entries, sentence):
    with pytest.raises(UserError, match=rf'net\.json: .*({sentence}).*restore it') as caught:
        load_network(with_manifest(**{'task': task, **entries}))
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'size': '32'}, "size '32'"),
        ({'size': [32]}, r'size \[32\]'),
        ({'mean': 0.5}, 'mean 0.5'),
        ({'mean': [10**400, 0, 0]}, 'mean .* must be three finite numbers'),
        ({'std': ['a', 'b', 'c']}, 'std'),
        ({'colour': 'red'}, 'unknown entry colour'),
    ],
)
def test_a_wrong_preprocessing_is_told(with_manifest, change, sentence):
    with pytest.raises(UserError, match=sentence):
        load_network(with_manifest(preprocessing={**PIXELS, **change}))


def test_what_is_given_over_the_manifest_is_blamed_for_itself(with_manifest):
    with pytest.raises(UsageError, match='--model: '):
        load_network(with_manifest(), model='nonsense')
    with pytest.raises(UsageError, match="no argument 'colour'"):
        load_network(with_manifest(), options={'colour': 'red'})
