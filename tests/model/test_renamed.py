"""Renamed networks: their former names, manifests and files still load."""

import json

import mxnet as mx
import numpy as np
import pytest

from environment import UserError
from inference.network import load_network
from model import get_model, load_params, save_params
from model.grammar import split_name

OLD = ('cifar_resnet11_v1', 'cifar_resnet29_v1', 'cifar_dia_resnet164_v1', 'cifar_atac_dca_se_resnet47_v1')


@pytest.mark.parametrize('name', OLD)
def test_a_name_that_is_no_other_networks_now_still_is_the_networks(name):
    now = name.replace('_v1', 'bn_v1')
    assert split_name(name) == split_name(now)
    with pytest.warns(FutureWarning, match=f'{name} is called {now} now'):
        net = get_model(name)
    assert set(net._collect_params_with_prefix()) == set(get_model(now)._collect_params_with_prefix())


@pytest.mark.parametrize('name', ['cifar_resnet20_v1', 'cifar_resnet56_v1', 'cifar_resnet32_v1'])
def test_the_published_names_are_the_networks_of_basic_blocks(name):
    assert type(get_model(name)).__name__ == 'CifarBasicResNet'


@pytest.mark.parametrize('name', ['cifar_resnet20_v1', 'cifar_se_resnet11_v1'])
def test_a_manifest_of_old_is_of_the_network_that_it_was_written_for(name, tmp_path):
    now = name.replace('_v1', 'bn_v1')
    net = get_model(now)
    net.initialize(mx.init.MSRAPrelu())
    data = mx.nd.random.normal(shape=(1, 3, 32, 32))
    expected = net(data).asnumpy()
    path = tmp_path / 'net.params'
    save_params(net, path, {'model': now, 'model_kwargs': {}})
    file = tmp_path / 'net.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), 'model': name}))
    loaded = load_network(path)
    assert loaded.name == now
    np.testing.assert_array_equal(loaded.net(data).asnumpy(), expected)


def test_a_manifest_of_now_is_taken_at_its_word(tmp_path):
    net = get_model('cifar_resnet20_v1')
    net.initialize()
    save_params(net, tmp_path / 'net.params', {'model': 'cifar_resnet20_v1', 'model_kwargs': {}})
    assert load_network(tmp_path / 'net.params').name == 'cifar_resnet20_v1'


def test_a_file_of_old_tells_the_name(tmp_path):
    net = get_model('cifar_resnet20bn_v1')
    net.initialize()
    save_params(net, tmp_path / 'net.params')
    with pytest.raises(UserError, match=r'is cifar_resnet\{N\}bn_v1 now'):
        load_params(get_model('cifar_resnet20_v1'), tmp_path / 'net.params')
