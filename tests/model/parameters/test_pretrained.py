"""Trained parameters by the network's name: found, checked and loaded, with an error if there are none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from environment import UserError
from model import get_model, load_params, save_params
from model.count import count
from model.parameters import pretrained as module
from model.parameters.file_format import read_params_file
from model.parameters.pretrained import SHIPPED, find_trained, folder_name, same_network, trained_in

ROOT = Path(__file__).resolve().parents[3]
RUNS = trained_in(SHIPPED)
FOLDERS = sorted({run.path.parent for run in RUNS})
SHIPPING = [run for run in RUNS if run.path.exists()]


def put(root, name, dataset='digits', seed=0, params=True, **options):
    """Ship a run of a network with random values, and return them by name."""
    options = {'classes': 4, **options}
    net = get_model(name, **options)
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(0.5))
    net(mx.nd.zeros((1, 3, 32, 32)))
    folder = root / dataset / folder_name(name, options)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {'model': name, 'model_kwargs': options, 'classes': 4, 'seed': seed, 'accuracy': {'top1': 0.5}}
    path = folder / f'seed-{seed}.params'
    save_params(net, path, manifest, 'float16')
    arrays = read_params_file(path)
    if not params:
        path.unlink()
    return arrays


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Ship ATAC with local and with global context, and SE with two seeds."""
    monkeypatch.setattr(module, 'SHIPPED', tmp_path)
    return {
        'local': put(tmp_path, 'cifar_atac_resnet8_v2'),
        'global': put(tmp_path, 'cifar_atac_resnet8_v2', act_global=True),
        'other': put(tmp_path, 'cifar_se_resnet8_v2', seed=1, params=False),
        'se': put(tmp_path, 'cifar_se_resnet8_v2', seed=2),
    }


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def assert_has(net, arrays):
    found = values(net)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == np.float32
        assert (found[name] == array.astype(np.float32)).all(), name


def test_options_tell_networks_of_one_name_apart(shipped):
    assert_has(get_model('cifar_atac_resnet8_v2', pretrained='digits'), shipped['local'])
    assert_has(get_model('cifar_atac_resnet8_v2', pretrained='digits', act_global=True), shipped['global'])
    assert_has(get_model('cifar_se_resnet8_v2', pretrained='digits'), shipped['se'])


@pytest.mark.parametrize(
    'options', [{'act_global': False}, {'act_reduction': 2}, {'classes': 4}, {'act_type': 'ChaATAC'}]
)
def test_what_is_the_default_anyway_may_be_said(shipped, options):
    assert_has(get_model('cifar_atac_resnet8_v2', pretrained='digits', **options), shipped['local'])


@pytest.mark.parametrize('options', [{'final_drop': 0.5}, {'use_global_stats': True}])
def test_options_of_training_are_free(shipped, options):
    net = get_model('cifar_atac_resnet8_v2', pretrained='digits', **options)
    assert_has(net, shipped['local'])
    assert any(type(block).__name__ == 'Dropout' for block in _blocks(net)) == ('final_drop' in options)


def test_true_is_what_comes_with_the_project(shipped):
    net = get_model('cifar_se_resnet8_v2', pretrained=True)
    assert_has(net, shipped['se'])
    assert net.pretrained['tag'] == 'cifar_se_resnet8_v2/seed-2'


def test_other_classes_start_a_new_classifier(shipped):
    net = get_model('cifar_se_resnet8_v2', pretrained='digits', classes=7)
    found = values(net)
    for name, array in found.items():
        if name in net.classifier_parameters():
            assert array.shape[0] == 7
        else:
            assert (array == shipped['se'][name].astype(np.float32)).all()
    assert found['output.weight'].std() > 0
    assert not found['output.bias'].any()


@pytest.mark.parametrize('initialised', [False, True])
def test_a_file_without_its_classifier(shipped, tmp_path, initialised):
    net = get_model('cifar_se_resnet8_v2', classes=4)
    own = {}
    if initialised:
        net.initialize(mx.init.Normal(0.5))
        own = values(net)
    load_params(net, tmp_path / 'digits' / 'cifar_se_resnet8_v2' / 'seed-2.params', new_classifier=True)
    for name, array in values(net).items():
        if name in net.classifier_parameters():
            assert array.shape[0] == 4
            assert not initialised or (array == own[name]).all()
        else:
            assert (array == shipped['se'][name].astype(np.float32)).all()


def _blocks(net):
    found = []
    net.apply(found.append)
    return found


@pytest.mark.parametrize(
    ('name', 'arguments', 'words'),
    [
        ('cifar_resnet8_v2', {'pretrained': 'digits'}, ['cifar_resnet8_v2', 'cifar_se_resnet8_v2', 'act_global=True']),
        ('cifar_se_resnet8_v2', {'pretrained': 'mnist'}, ["'mnist'", 'trained on digits']),
        ('cifar_se_resnet8_v2', {'pretrained': 5}, ['pretrained is 5', 'data set']),
        ('cifar_se_resnet8_v2', {'pretrained': 'digits', 'reduction': 8}, ['reduction=8', 'cifar_se_resnet8_v2']),
        ('cifar_atac_resnet8_v2', {'pretrained': 'digits', 'act_relu': False}, ['act_relu=False', '(act_global=True)']),
        ('cifar_se_resnet8_v2', {'pretrained': 'digits', 'act_glob': 1}, ["takes no argument 'act_glob'"]),
        ('cifar_see_resnet8_v2', {'pretrained': 'digits'}, ['not a backbone']),
    ],
)
def test_where_there_are_none_it_says_what_there_is(shipped, name, arguments, words):
    with pytest.raises(ValueError) as error:
        get_model(name, **arguments)
    for word in words:
        assert word in str(error.value)


def test_none_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'SHIPPED', tmp_path)
    with pytest.raises(ValueError, match='no trained parameters in'):
        get_model('cifar_se_resnet8_v2', pretrained='digits')


def test_without_pretrained_it_has_no_values(shipped):
    for nothing in (None, False):
        net = get_model('cifar_se_resnet8_v2', pretrained=nothing)
        assert all(parameter._data is None for parameter in net.collect_params().values())


def test_a_damaged_file_is_refused(shipped, tmp_path):
    path = tmp_path / 'digits' / 'cifar_se_resnet8_v2' / 'seed-2.params'
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match='sha256'):
        get_model('cifar_se_resnet8_v2', pretrained='digits')


def test_a_damaged_manifest_is_told(shipped, tmp_path):
    path = tmp_path / 'digits' / 'cifar_se_resnet8_v2' / 'seed-1.json'
    path.write_text(json.dumps({'model': 'x'}))
    with pytest.raises(UserError, match='seed-1.json: it lacks model_kwargs'):
        get_model('cifar_se_resnet8_v2', pretrained='digits')


def test_a_link_to_no_manifest_is_told(shipped, tmp_path):
    (tmp_path / 'digits' / 'cifar_se_resnet8_v2' / 'seed-9.json').symlink_to('nowhere.json')
    with pytest.raises(UserError, match='seed-9.json: it lacks model'):
        get_model('cifar_se_resnet8_v2', pretrained='digits')


def test_the_same_network_however_it_is_put():
    name = 'cifar_dca_se_resnet8_v2'
    assert same_network(get_model, name, {}, {'reduction': 16})
    assert not same_network(get_model, name, {}, {'reduction': 8})
    assert not same_network(get_model, name, {}, {'adapter': 'bottleneck'})
    assert not same_network(get_model, name, {'classes': 10}, {'classes': 11})


def test_names_of_folders():
    assert folder_name('cifar_atac_resnet14_v2', {'classes': 10}) == 'cifar_atac_resnet14_v2'
    assert folder_name('cifar_atac_resnet14_v2', {'act_global': True}) == 'cifar_atac_resnet14_v2-act_global'
    assert folder_name('a', {'act_layers': 2, 'reduction': [8, 16]}) == 'a-act_layers_2-reduction_[8,16]'


def test_a_network_that_ships_loads_from_any_folder(tmp_path):
    script = (
        'from model import get_model; import mxnet as mx, sys\n'
        f'net = get_model({SHIPPING[0].model!r}, pretrained={SHIPPING[0].dataset!r}, **{SHIPPING[0].options!r})\n'
        'print(net(mx.nd.zeros((2, 3, 32, 32))).shape)'
    )
    done = subprocess.run(
        [sys.executable, '-c', script],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == f'(2, {SHIPPING[0].manifest["classes"]})\n', done.stderr


@pytest.mark.parametrize('run', SHIPPING, ids=lambda run: run.path.parent.name)
def test_what_ships(run):
    """Each is found by its name and options, complete, in float16, with all that belongs to it."""
    assert find_trained(get_model, run.model, run.options, run.dataset) == run
    net = get_model(run.model, pretrained=run.dataset, **run.options)
    arrays = read_params_file(run.path)
    statistics = {name for name in arrays if name.endswith(('running_mean', 'running_var'))}
    assert {arrays[name].dtype.name for name in set(arrays) - statistics} == {'float16'}
    assert all(np.isfinite(array).all() for array in arrays.values())
    size = run.manifest['preprocessing']['size']
    assert run.path.stat().st_size < 2.6 * count(net, (1, 3, size, size)).params + 60_000
    assert net(mx.nd.zeros((1, 3, size, size))).shape == (1, len(run.manifest['class_names']))
    assert all(run.path.with_suffix(ending).stat().st_size for ending in ('.csv', '.log', '.yaml'))


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_has_the_parameters_of_one_seed_and_runs_that_differ_in_it_alone(folder):
    runs = [run for run in RUNS if run.path.parent == folder]
    is_evidence = runs[0].manifest['epochs'] <= 8  # of which claims need the manifests alone
    assert sum(run.path.exists() for run in runs) == (0 if is_evidence else 1)
    assert len({run.manifest['seed'] for run in runs}) == len(runs)
    assert all(run.path.stem == f'seed-{run.manifest["seed"]}' for run in runs)
    for run in runs:
        assert folder.name == folder_name(run.model, run.options)
        for key in ('model', 'model_kwargs', 'epochs', 'class_names', 'preprocessing', 'data'):
            assert run.manifest[key] == runs[0].manifest[key]
        assert run.manifest['images'] == 10_000
        assert abs(run.manifest['accuracy']['top1'] - run.manifest['accuracy_in_float32']['top1']) < 0.005
        text = json.dumps(run.manifest)
        assert not any(word in text for word in ('/tmp', '/home', '/work', '/root'))
