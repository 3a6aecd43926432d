"""What was saved comes back bit for bit or not at all, whatever happens to the files."""

import hashlib
import math
import os
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from training.checkpoints import checkpoint
from training.checkpoints.checkpoint import DamagedCheckpoint, read_checkpoint, write_checkpoint

BFLOAT16 = np.dtype([('bfloat16', np.uint16)])
HEAD = 16 + 8 + 32
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def same(one, other):
    """Return whether types and bits are equal, so 0.0 is not -0.0. Outside arrays all NaN are equal, as in JSON."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack('<d', one) == struct.pack('<d', other) or math.isnan(one) and math.isnan(other)
    return one == other


arrays = st.sampled_from(['?', 'i1', 'u1', '<i8', '<f2', '<f4', '<f8', '>i4']).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | arrays
keys = st.text().filter(lambda key: key != '__array__')
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


@settings(IN_FOLDER, max_examples=60)
@given(tree=trees)
@example(tree={'a': [], 'b': {}, '': None, 'file': 1, 'tree': [2], '\ud800': '\ud800'})
@example(tree=[0.0, -0.0, float('inf'), 5e-324, 2**200, True, 1])
def test_every_tree_comes_back(tmp_path, tree):
    write_checkpoint(tmp_path / 'file', tree)
    assert same(read_checkpoint(tmp_path / 'file'), tree)


@pytest.mark.parametrize(
    'array',
    [
        np.array([1.5, -2], np.float32).view(np.uint32).astype(np.uint16).view(BFLOAT16),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::-3],
        np.zeros((0, 3), np.float16),
        np.array(7),
    ],
    ids=['bfloat16', 'fortran', 'strided', 'empty', 'scalar'],
)
def test_every_array_comes_back_and_may_be_written_to(tmp_path, array):
    write_checkpoint(tmp_path / 'file', {'x': array})
    back = read_checkpoint(tmp_path / 'file')['x']
    assert same(back, array)
    back[...] = back


def test_numpy_scalars_come_back_as_numbers(tmp_path):
    write_checkpoint(tmp_path / 'file', [np.float32(0.1), np.int64(3), np.bool_(True), np.str_('x')])
    assert same(read_checkpoint(tmp_path / 'file'), [float(np.float32(0.1)), 3, True, 'x'])


@pytest.mark.parametrize(
    ('state', 'words'),
    [
        ({'a': [1, (2, 3)]}, r"state\['a'\]\[1\] is a tuple"),
        ({'a': {1: 2}}, r"state\['a'\] has the key 1"),
        ({'__array__': 'a0'}, 'has the key'),
        ([np.array([None])], r'state\[0\] is an array of Python objects'),
        ({'a': object()}, 'is a object'),
        (np.complex128(1), 'is a complex128'),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path, state, words):
    with pytest.raises(TypeError, match=words):
        write_checkpoint(tmp_path / 'file', state)
    assert os.listdir(tmp_path) == []


def test_the_same_state_gives_the_same_file(tmp_path):
    state = {'a': np.arange(5), 'b': [1.5, 'x']}
    for name in 'one', 'two':
        write_checkpoint(tmp_path / name, state)
    assert (tmp_path / 'one').read_bytes() == (tmp_path / 'two').read_bytes()


def test_the_file_is_a_zip_archive_too(tmp_path):
    write_checkpoint(tmp_path / 'file', {'a': np.arange(5)})
    with zipfile.ZipFile(tmp_path / 'file') as archive:
        assert set(archive.namelist()) == {'tree.npy', 'a0.npy'}
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


SMALL = {'w': np.array([1, 2], np.float16), 'e': 3}


@pytest.fixture
def intact(tmp_path):
    """Return a small checkpoint's content, and a function that reads content as a checkpoint."""
    path = tmp_path / 'file'
    write_checkpoint(path, SMALL)
    content = path.read_bytes()

    def read(changed):
        path.write_bytes(changed)
        return read_checkpoint(path)

    assert same(read(content), SMALL)
    return content, read


def test_every_single_flipped_bit_is_found(intact, tmp_path):
    content, _ = intact
    missed = []
    with open(tmp_path / 'file', 'r+b', buffering=0) as file:
        for position, byte in enumerate(content):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), position)
                try:
                    read_checkpoint(tmp_path / 'file')
                except DamagedCheckpoint:
                    continue
                missed.append((position, bit))
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert missed == []
    assert same(read_checkpoint(tmp_path / 'file'), SMALL)


def test_every_truncation_is_found(intact):
    content, read = intact
    for length in range(len(content)):
        with pytest.raises(DamagedCheckpoint):
            read(content[:length])


def corrupt(content, kind, first, second, extra):
    """Return `content` with some of the damage that happens to files."""
    first, second = sorted((first % len(content), second % len(content)))
    if kind == 'cut':
        return content[:first]
    if kind == 'append':
        return content + extra
    if kind == 'zero':
        return content[:first] + bytes(second - first) + content[second:]
    if kind == 'remove':
        return content[:first] + content[second:]
    if kind == 'insert':
        return content[:first] + extra + content[first:]
    if kind == 'overwrite':
        return content[:first] + extra + content[first + len(extra) :]
    size = min(second - first, len(content) - second)  # swap two blocks
    return (
        content[:first]
        + content[second : second + size]
        + content[first + size : second]
        + content[first : first + size]
        + content[second + size :]
    )


KINDS = ['cut', 'append', 'zero', 'remove', 'insert', 'overwrite', 'swap']
POSITIONS = st.integers(0, 1 << 16)


@settings(IN_FOLDER, max_examples=200)
@given(kind=st.sampled_from(KINDS), first=POSITIONS, second=POSITIONS, extra=st.binary(max_size=64))
def test_random_damage_is_found(intact, kind, first, second, extra):
    content, read = intact
    changed = corrupt(content, kind, first, second, extra)
    if changed == content:
        assert same(read(changed), SMALL)
    else:
        with pytest.raises(DamagedCheckpoint):
            read(changed)


def sealed(payload, version=checkpoint.VERSION):
    """Return a file in our format, checksum included, with any payload."""
    head = struct.pack('<12sIQ', checkpoint.MAGIC, version, len(payload))
    return head + hashlib.sha256(head + payload).digest() + payload


@settings(IN_FOLDER, max_examples=200)
@given(kind=st.sampled_from(KINDS), first=POSITIONS, second=POSITIONS, extra=st.binary(max_size=64))
def test_damage_under_a_right_checksum_never_crashes(intact, kind, first, second, extra):
    """No accident makes these, but a file may come from anywhere: it gives a state or `DamagedCheckpoint`."""
    content, read = intact
    with suppress(DamagedCheckpoint):
        read(sealed(corrupt(content[HEAD:], kind, first, second, extra)))


def npz(tmp_path, **members):
    np.savez(tmp_path / 'made.npz', **members)
    return (tmp_path / 'made.npz').read_bytes()


def text(json):
    return np.frombuffer(json.encode(), np.uint8)


def test_a_pickle_is_never_loaded(intact, tmp_path):
    _, read = intact

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'sprung'),)

    payload = npz(tmp_path, tree=text('{"__array__": "a0"}'), a0=np.array([Trap()], object))
    with pytest.raises(DamagedCheckpoint, match='foreign content'):
        read(sealed(payload))
    assert not (tmp_path / 'sprung').exists()


@pytest.mark.parametrize('json', ['', '{', '{"__array__": "a1"}', '{"__array__": [1]}', '[' * 100_000, '\udcff'])
def test_foreign_json(intact, tmp_path, json):
    _, read = intact
    tree = np.frombuffer(json.encode(errors='surrogateescape'), np.uint8)
    with pytest.raises(DamagedCheckpoint, match='foreign content'):
        read(sealed(npz(tmp_path, tree=tree, a0=np.zeros(2))))


def test_a_huge_array_that_is_not_there_does_no_harm(intact, tmp_path):
    _, read = intact
    payload = npz(tmp_path, tree=text('{"__array__": "a0"}'), a0=np.zeros(1000, 'f4'))
    assert b"'shape': (1000,), }    " in payload
    payload = payload.replace(b"'shape': (1000,), }    ", b"'shape': (1000000000,), }    "[:23].ljust(23))
    with pytest.raises(DamagedCheckpoint, match='foreign content'):
        read(sealed(payload))


def test_a_huge_length_is_not_believed(intact):
    content, read = intact
    with pytest.raises(DamagedCheckpoint, match='bytes instead of'):
        read(content[:16] + struct.pack('<Q', 1 << 62) + content[24:])


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'cut off after 0 bytes'),
        (checkpoint.MAGIC + b'\1', 'cut off after 13 bytes'),
        (b'PK\3\4' + bytes(100), 'not a checkpoint of this project'),
        (sealed(b'', version=2), 'has format version 2, and this program reads version 1'),
        (sealed(b'x' * 100)[:-1], 'has 155 bytes instead of 156'),
        (sealed(b'x' * 100)[:-1] + b'y', 'checksum does not match'),
        (sealed(b'x' * 100), 'foreign content'),
    ],
)
def test_the_message_says_what_is_wrong(intact, content, words):
    _, read = intact
    with pytest.raises(DamagedCheckpoint, match=words):
        read(content)
