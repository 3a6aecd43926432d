"""MXNet's file format, read and written without MXNet, and damaged files of it."""

import contextlib

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from environment import UserError
from model.parameters.file_format import read_params_file

from .files import in_older_forms, written

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
