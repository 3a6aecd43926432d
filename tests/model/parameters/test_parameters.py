"""Parameter files of ours, GluonCV's and MXNet's; damaged ones; manifests."""

import contextlib
import errno
import itertools
import json
import os
import struct

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mxnet.gluon import nn

from common.files import sha256_file
from environment import UserError
from model import get_model, load_params, read_manifest, save_params
from model.parameters.file_format import read_params_file, write_params_file
from model.parameters.load import manifest_path


def initialised(name='cifar_atac_resnet8_v2', **options):
    net = get_model(name, **options)
    net.initialize(mx.init.MSRAPrelu())
    return net


def values(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def written(arrays, path):
    with open(path, 'wb') as file:
        write_params_file(file, arrays)
    return path


ARRAYS = st.dictionaries(
    st.text(st.characters(blacklist_characters='\0', blacklist_categories=('Cs',)), min_size=1, max_size=20),
    st.tuples(
        st.sampled_from(['float32', 'float64', 'float16', 'uint8', 'int8', 'int32', 'int64']),
        st.lists(st.integers(1, 4), min_size=1, max_size=4),
        st.integers(0, 2**32 - 1),
    ).map(lambda t: np.random.RandomState(t[2]).uniform(0, 100, t[1]).astype(t[0])),
    max_size=5,
)


@given(ARRAYS)
@settings(max_examples=60, deadline=None)
def test_reading_and_writing_are_mxnets(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp('params')
    ours = written(arrays, folder / 'ours.params')
    for name, array in read_params_file(ours).items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
    if arrays:
        as_mxnet = {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
        mx.nd.save(str(folder / 'mxnet.params'), as_mxnet)
        theirs = read_params_file(folder / 'mxnet.params')
        assert theirs.keys() == arrays.keys()
        for name, array in mx.nd.load(str(ours)).items():
            np.testing.assert_array_equal(array.asnumpy(), arrays[name])
            np.testing.assert_array_equal(theirs[name], arrays[name])


def in_older_form(array, version):
    """Return an array as MXNet wrote it: up to 0.9 (0), in 0.10 and 0.11 (1), today (2), with NumPy's shapes (3)."""
    flag = {'float32': 0, 'float64': 1, 'float16': 2, 'uint8': 3, 'int32': 4}[array.dtype.name]
    if version == 0:
        shape = struct.pack(f'<I{array.ndim}I', array.ndim, *array.shape)
    else:
        kind = struct.pack('<i', 0) if version > 1 else b''
        magic = struct.pack('<I', 0xF993FAC8 + version - 1)
        shape = magic + kind + struct.pack(f'<i{array.ndim}q', array.ndim, *array.shape)
    return shape + struct.pack('<iii', 1, 0, flag) + array.tobytes()


def in_older_forms(arrays, path, version):
    pieces = [struct.pack('<QQQ', 0x112, 0, len(arrays)), *(in_older_form(a, version) for a in arrays.values())]
    pieces += [struct.pack('<Q', len(arrays)), *(struct.pack('<Q', len(name)) + name.encode() for name in arrays)]
    path.write_bytes(b''.join(pieces))
    return path


@pytest.mark.parametrize('version', [0, 1, 2, 3])
def test_arrays_of_every_older_mxnet_are_read_as_mxnet_reads_them(tmp_path, version):
    random = np.random.RandomState(0)
    arrays = {
        f'layer{i}.weight': random.uniform(0, 100, shape).astype(dtype)
        for i, (shape, dtype) in enumerate(
            [((3,), 'float32'), ((2, 3, 1, 1), 'float64'), ((4, 2), 'float16'), ((5,), 'uint8'), ((1, 2, 3), 'int32')]
        )
    }
    path = in_older_forms(arrays, tmp_path / 'old.params', version)
    ours = read_params_file(path)
    if version < 3:  # which MXNet only reads with its NumPy shapes
        theirs = mx.nd.load(str(path))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name].asnumpy()) for name in ours)
    for name, array in arrays.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)


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


def test_bfloat16_is_read(tmp_path):
    array = np.array([1, 2.5, -3, 0], np.float32)
    narrow = mx.nd.amp_cast(mx.nd.array(array), dtype=np.dtype([('bfloat16', np.uint16)]))
    mx.nd.save(str(tmp_path / 'narrow.params'), {'a': narrow})
    read = read_params_file(tmp_path / 'narrow.params')['a']
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array)


def test_sparse_arrays_and_lists_are_refused_by_their_kind(tmp_path):
    for kind in ('row_sparse', 'csr'):
        mx.nd.save(str(tmp_path / 'sparse.params'), {'a': mx.nd.ones((2, 2)), 'b': mx.nd.ones((2, 2)).tostype(kind)})
        with pytest.raises(UserError, match=r'sparse.params: .*the array at byte \d+ is sparse'):
            read_params_file(tmp_path / 'sparse.params')
    mx.nd.save(str(tmp_path / 'list.params'), [mx.nd.ones(2), mx.nd.ones(3)])
    with pytest.raises(UserError, match='its 2 arrays were saved as a list, without names'):
        read_params_file(tmp_path / 'list.params')


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


SMALL = {'layer.weight': np.arange(6, dtype='float32').reshape(2, 3), 'layer.bias': np.zeros(2, 'float16')}


def test_every_truncation_is_found(tmp_path):
    data = written(SMALL, tmp_path / 'whole.params').read_bytes()
    for length in range(len(data)):
        (tmp_path / 'cut.params').write_bytes(data[:length])
        with pytest.raises(UserError, match='cut.params'):
            read_params_file(tmp_path / 'cut.params')


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_crashes_the_reader(tmp_path, data):
    whole, version = tmp_path / 'whole.params', data.draw(st.sampled_from([0, 1, 2, 3, None]))
    raw = bytearray((written(SMALL, whole) if version is None else in_older_forms(SMALL, whole, version)).read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[position] = data.draw(st.integers(0, 255))
    (tmp_path / 'damaged.params').write_bytes(raw)
    with contextlib.suppress(UserError):  # anything else fails the test; checksums find wrong numbers
        arrays = read_params_file(tmp_path / 'damaged.params')
        assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_each_flipped_bit_is_found_through_the_manifest(tmp_path):
    net = mx.gluon.nn.Dense(2, in_units=2)
    net.initialize()
    path = tmp_path / 'net.params'
    save_params(net, path, {'model': 'dense'})
    raw = path.read_bytes()
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match='sha256'):
            load_params(net, path)
    path.write_bytes(raw)
    load_params(net, path)


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


def test_manifest_belongs_to_the_file(tmp_path):
    net = initialised()
    save_params(net, tmp_path / 'a.b.params', {'model': 'cifar_atac_resnet8_v2', 'classes': 10})
    manifest = read_manifest(tmp_path / 'a.b.params')
    assert manifest['model'] == 'cifar_atac_resnet8_v2'
    assert len(manifest['sha256']) == 64
    assert manifest_path(tmp_path / 'a.b.params').name == 'a.b.json'
    assert read_manifest(tmp_path / 'other.params') is None
    manifest_path(tmp_path / 'a.b.params').write_text('{')
    with pytest.raises(UserError, match='manifest'):
        load_params(net, tmp_path / 'a.b.params')


def small(value):
    net = nn.Dense(2, in_units=2)
    net.initialize(mx.init.Constant(value))
    return net


class Killed(BaseException):
    pass


def killed(save, monkeypatch, rename):
    """Run `save()`, ended right before the rename of this number, from 0; return whether that came."""
    numbers, replace = itertools.count(), os.replace

    def deadly(*paths):
        if next(numbers) == rename:
            raise Killed
        replace(*paths)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(os, 'replace', deadly)
        save()
        return False
    return True


@pytest.mark.parametrize('old', [{'model': 'old', 'sha256': 'its own'}, {'model': 'old'}, None])
@pytest.mark.parametrize('rename', range(4))
def test_a_save_killed_before_any_rename_leaves_parameters_that_load_by_their_manifest(
    tmp_path, monkeypatch, old, rename
):
    path, new = tmp_path / 'net.params', {'model': 'new'}
    save_params(small(1), path, old)
    if old and 'sha256' not in old:
        manifest_path(path).write_text(json.dumps(old))
    assert killed(lambda: save_params(small(2), path, new), monkeypatch, rename) == (rename < 3)
    net = small(0)
    load_params(net, path)
    value = float(net.weight.data().asnumpy()[0, 0])
    assert value == (1 if rename < 2 else 2)
    manifest = read_manifest(path) or {}
    assert manifest.get('model') == ((old or {}).get('model') if value == 1 else 'new')
    assert 'replaces' not in manifest
    # A flipped bit is found all the same, and the next save is like any other.
    if 'sha256' in manifest:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match='sha256'):
            load_params(net, path)
        path.write_bytes(content)
    save_params(small(3), path, {'model': 'next'})
    assert json.loads(manifest_path(path).read_text()) == {'model': 'next', 'sha256': sha256_file(path)}


def test_what_is_saved_without_a_manifest_over_what_has_one_loads(tmp_path):
    path = tmp_path / 'net.params'
    save_params(small(1), path, {'model': 'old'})
    save_params(small(2), path)
    load_params(small(0), path)
    assert read_manifest(path) == {'sha256': sha256_file(path)}
    manifest_path(path).write_text('{"of": "another program"}')
    save_params(small(3), path)
    assert read_manifest(path) == {'of': 'another program'}


WRONG_MANIFESTS = {
    '': 'not a readable manifest',
    '{"model": "x"': 'not a readable manifest',
    '[]': r'it is \[\]; allowed: a table',
    '{"model": 5}': 'model is 5; allowed: a text',
    '{"model_kwargs": [1]}': r'model_kwargs is \[1\]; allowed: a table or null',
    '{"model_kwargs": "x"}': "model_kwargs is 'x'; allowed: a table or null",
    '{"classes": "10"}': "classes is '10'; allowed: a whole number",
    '{"class_names": 3}': 'class_names is 3; allowed: a list, each of a text or null',
    '{"class_names": ["a", ["b"]]}': r"class_names\[1\] is \['b'\]; allowed: a text",
    '{"preprocessing": 32}': 'preprocessing is 32; allowed: a table',
    '{"sha256": 5}': 'sha256 is 5; allowed: a text',
    '{"accuracy": {"top1": "high"}}': "accuracy.top1 is 'high'; allowed: a number",
    '{"replaces": {"model": "x"}}': 'replaces lacks sha256',
}


@pytest.mark.parametrize('text', WRONG_MANIFESTS)
def test_a_manifest_that_is_not_what_it_should_be_is_told_with_file_and_key(tmp_path, text):
    save_params(small(1), tmp_path / 'net.params')
    (tmp_path / 'net.json').write_text(text)
    with pytest.raises(UserError, match=rf'net\.json: .*{WRONG_MANIFESTS[text]}.*; restore it from where'):
        load_params(small(0), tmp_path / 'net.params')


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
