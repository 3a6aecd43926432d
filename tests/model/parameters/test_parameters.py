"""Saving and loading the parameters of networks, files of GluonCV and of older MXNet among them."""

import errno
import json
import os

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from environment import UserError
from model import get_model, load_params, read_manifest, save_params
from model.parameters.file_format import read_params_file

from .files import in_older_forms, initialised, small, values, written


def test_a_network_saved_by_the_oldest_mxnet_loads(tmp_path):
    net = initialised('cifar_resnet8_v2', classes=3)
    path = in_older_forms(values(net), tmp_path / 'net.params', 0)
    loaded = get_model('cifar_resnet8_v2', classes=3)
    load_params(loaded, path)
    assert all(np.array_equal(value, values(net)[name]) for name, value in values(loaded).items())
    data = path.read_bytes()
    for length in range(0, len(data), 211):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r'net.params: not an intact MXNet parameter file'):
            load_params(loaded, path)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_an_array_that_is_not_finite_is_named_and_nothing_changes(tmp_path, bad):
    net = initialised()
    before = values(net)
    for name in ('features.0.running_var', 'output.weight'):
        arrays = {**before, name: before[name].copy()}
        arrays[name].flat[1] = bad
        path = written(arrays, tmp_path / 'net.params')
        with pytest.raises(
            UserError, match=rf'net.params: {name} holds NaN or infinity \(1 of its {arrays[name].size} values\)'
        ):
            load_params(net, path)
    assert all((value == before[name]).all() for name, value in values(net).items())
    arrays['features.1.weight'] = np.full_like(before['features.1.weight'], bad)
    with pytest.raises(UserError, match=r'features.1.weight holds .*, and likewise 1 more'):
        load_params(net, written(arrays, tmp_path / 'net.params'))


def test_values_beyond_a_narrower_precision_are_named(tmp_path):
    net = small(1e5)
    with pytest.raises(UserError, match=r'net.params: weight reaches 1e\+05, and float16 ends at 6.55e\+04'):
        save_params(net, tmp_path / 'net.params', dtype='float16')
    assert not (tmp_path / 'net.params').exists()
    save_params(net, tmp_path / 'net.params')
    narrow = small(0)
    narrow.cast('float16')
    with pytest.raises(UserError, match='weight reaches 1e'):
        load_params(narrow, tmp_path / 'net.params')
    wide = written({'weight': np.full((2, 2), 1e300), 'bias': np.zeros(2)}, tmp_path / 'wide.params')
    with pytest.raises(UserError, match=r'weight reaches 1e\+300, and float32 ends'):
        load_params(net, wide)


def test_a_gluoncv_file_loads_and_gives_the_same_output(tmp_path):
    from gluoncv.model_zoo import get_model as gluoncv_model

    for name in ('resnet50_v1b', 'resnet18_v1b'):
        theirs = gluoncv_model(name, classes=10)
        theirs.initialize(mx.init.Xavier())
        data = mx.nd.random.normal(shape=(2, 3, 64, 64))
        expected = theirs(data).asnumpy()
        theirs.save_parameters(str(tmp_path / 'theirs.params'))
        ours = get_model(name, classes=10)
        load_params(ours, tmp_path / 'theirs.params')
        np.testing.assert_allclose(ours(data).asnumpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('options', [{}, {'deep_stem': True, 'avg_down': True}, {'dilated': True}])
def test_structure_is_gluoncvs(options):
    from gluoncv.model_zoo.resnetv1b import BasicBlockV1b, BottleneckV1b, ResNetV1b

    for block, layers, name in (
        (BasicBlockV1b, [2, 2, 2, 2], 'resnet18_v1b'),
        (BottleneckV1b, [3, 4, 6, 3], 'resnet50_v1b'),
    ):
        theirs = ResNetV1b(block, layers, classes=5, **options)
        ours = get_model(name, classes=5, **options)
        theirs.initialize(mx.init.Xavier())
        data = mx.nd.random.normal(shape=(1, 3, 65, 65))
        expected = theirs(data).asnumpy()
        from model.parameters.load import set_params

        set_params(ours, values(theirs), 'gluoncv')
        np.testing.assert_allclose(ours(data).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('stored', 'network'), [('float16', 'float32'), ('float32', 'float16'), ('float16', 'float16')]
)
def test_precisions_convert(tmp_path, stored, network):
    net = initialised()
    save_params(net, tmp_path / 'net.params', dtype=stored)
    loaded = get_model('cifar_atac_resnet8_v2')
    loaded.cast(network)
    load_params(loaded, tmp_path / 'net.params')
    for name, value in values(loaded).items():
        np.testing.assert_allclose(value.astype('float32'), values(net)[name], rtol=1e-3, atol=1e-6)
    assert loaded.features[1].weight.data().dtype == np.dtype(network)
    assert read_params_file(tmp_path / 'net.params')['features.0.running_var'].dtype == np.float32


def test_saving_waits_for_a_forward_pass(tmp_path):
    """Inference meanwhile turns one weight after the other into oneDNN's layout, in place."""
    for _ in range(12):
        net = nn.HybridSequential()
        for _ in range(40):
            net.add(nn.Conv2D(192, 3, padding=1, in_channels=192))
        net.initialize()
        expected = values(net)
        net(mx.nd.ones((1, 192, 2, 2)))
        save_params(net, tmp_path / 'net.params')
        saved = mx.nd.load(str(tmp_path / 'net.params'))
        assert all(np.array_equal(saved[name].asnumpy(), array) for name, array in expected.items())


def test_equal_networks_give_equal_files(tmp_path):
    net = initialised()
    for name in ('a', 'b'):
        save_params(net, tmp_path / f'{name}.params', {'model': 'x'})
    assert (tmp_path / 'a.params').read_bytes() == (tmp_path / 'b.params').read_bytes()


def test_what_is_missing_extra_or_of_another_shape_is_named_and_nothing_changes(tmp_path):
    net = initialised()
    arrays = values(net)
    before = values(net)
    cases = {
        'missing': ({k: v for k, v in arrays.items() if k != 'output.bias'}, '1 missing .output.bias'),
        'extra': ({**arrays, 'more.weight': np.zeros(3, 'f')}, '1 extra .more.weight'),
        'shape': (
            {**arrays, 'output.bias': np.zeros(7, 'f')},
            r'output.bias has the shape \(7,\) there and \(10,\)',
        ),
    }
    for name, (given_arrays, message) in cases.items():
        path = written(given_arrays, tmp_path / f'{name}.params')
        with pytest.raises(UserError, match=message):
            load_params(net, path)
    for name, value in values(net).items():
        assert (value == before[name]).all()


def test_files_of_other_kinds(tmp_path):
    net = initialised()
    with pytest.raises(UserError, match='no_such.params'):
        load_params(net, tmp_path / 'no_such.params')
    (tmp_path / 'text.params').write_text(json.dumps({'model': 'x'}))
    with pytest.raises(UserError, match='not an intact MXNet parameter file'):
        load_params(net, tmp_path / 'text.params')


def test_loads_to_the_device_asked_for(tmp_path):
    net = initialised()
    save_params(net, tmp_path / 'net.params')
    fresh = get_model('cifar_atac_resnet8_v2')
    load_params(fresh, tmp_path / 'net.params', ctx=[mx.cpu(0), mx.cpu(1)])
    assert fresh.output.weight.list_ctx() == [mx.cpu(0), mx.cpu(1)]


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    path, stat = tmp_path / 'net.params', os.stat

    def refuse(given, *arguments, **options):
        if str(given).startswith(str(path.with_suffix(''))):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(given))
        return stat(given, *arguments, **options)

    monkeypatch.setattr(os, 'stat', refuse)
    assert read_manifest(path) is None  # reading the parameters then reports it
