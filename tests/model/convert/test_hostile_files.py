"""Damaged and hostile files of other projects: one sentence, in bounded memory, and nothing is run."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from common import safe_pickle
from environment import UserError
from model.convert.files import read_state, write_state

from .states import STATE, refused, same


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(pickled):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('x/data.pkl', pickled)
        archive.writestr('x/data/0', bytes(8))
    return file.getvalue()


def tensor(size=2, offset=0, shape=b'K\x02', strides=b'K\x01', kind=b'FloatStorage', key=b'0'):
    """Return a pickle of {'a': a tensor}, whose parts may be wrong."""
    size, offset = (b'\x8a\x09' + struct.pack('<qb', number, -(number < 0)) for number in (size, offset))
    storage = b'(X\x07\0\0\0storagectorch\n' + kind + b'\nX\x01\0\0\0' + key + b'X\x03\0\0\0cpu' + size + b'tQ'
    call = b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + offset + b'(' + shape + b't(' + strides + b't'
    return b'\x80\x02}X\x01\0\0\0a' + call + b'\x89}tRs.'


LARGE = b'\x8a\x08' + struct.pack('<q', 1 << 62)


@pytest.mark.parametrize(
    ('pickled', 'words'),
    [
        (tensor(size=3), 'a storage of 3 numbers has 8 bytes'),
        (tensor(size=1 << 60), 'a storage of .* numbers has 8 bytes'),
        (tensor(shape=b'K\x03'), 'reaches beyond its storage'),
        (tensor(offset=1), 'reaches beyond its storage'),
        (tensor(offset=-1), 'no sound shape'),
        (tensor(strides=b'J\xff\xff\xff\xff'), 'no sound shape'),
        (tensor(shape=LARGE * 40, strides=LARGE * 40), 'no sound shape'),
        (tensor(shape=LARGE * 3, strides=b'K\x00' * 3), 'not an intact file'),
        (tensor(shape=b'K\x00' + LARGE * 3, strides=b'K\x00' * 4), 'not an intact file'),
        (tensor(shape=b'\x88'), 'no sound shape'),
        (tensor(key=b'1'), 'the archive lacks x/data/1'),
        (b'\x80\x02K\x01Q.', 'a whole module'),
        (b'\x80\x02}X\x05\0\0\0modelh\x00s.', 'it is damaged'),
        (b'\x80\x02' + b'\x85' * 20_000 + b'.', 'it is damaged'),
        (b'\x80\x02})' + b'\x85' * 20_000 + b'K\x01s.', 'a table has a tuple as a key'),
        (b'\x80\x02}q\x00X\x05\0\0\0modelh\x00s.', 'holds no parameters|model is not an array'),  # a table in itself
        (b'\x80\x02}X\x01\0\0\0a\x8b' + struct.pack('<i', 900) + b'\x7f' * 900 + b's.', 'a number of 7199 bits'),
        (pickle.dumps(Malicious(eval, '1'), 2), 'it asks for (builtins|__builtin__).eval'),
        (b'\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.', 'it asks for os.system'),
        (b'\x80\x02ctorch\nFloatStorage\n)R.', 'it calls what cannot be called'),
    ],
)
def test_hostile_pickles_are_one_sentence_and_cost_nothing(tmp_path, pickled, words):
    content = zipped(pickled)
    tracemalloc.start()
    refused(tmp_path / 'state.pth', content, words)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (4 << 20) + 200 * len(content)


def test_a_pickle_has_no_end_of_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, '_MOST_STEPS', 1000)
    refused(tmp_path / 'state.pth', zipped(b'\x80\x02' + b'}' * 1001 + b'.'), 'more than 1000 steps')


def test_a_repeated_number_is_no_memory(tmp_path):
    (tmp_path / 'state.pth').write_bytes(zipped(tensor(shape=b'\x8a\x05\0\0\0\0\x01', strides=b'K\x00')))
    array = read_state(tmp_path / 'state.pth')['a']
    assert array.shape == (1 << 32,)
    assert array.strides == (0,)


@pytest.mark.parametrize(
    ('header', 'data', 'words'),
    [
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}', 8, 'not an intact file'),
        ('[]', 0, 'not an intact file'),
        ('{"a": 1}', 0, 'its header.a is 1; allowed: a table'),
        ('{"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}', 8, 'unknown type'),
        ('{"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}', 8, 'no sound shape'),
        ('{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', 8, 'does not fill its place'),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 4, 'does not fill its place'),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 12, '4 bytes belong to no array'),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}', 12, 'does not fill its place'),
        ('{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 8]}}', 8, 'allowed: a whole number'),
        ('{"a": {"dtype": "F32", "shape": [' + '[' * 20_000 + ']}}', 8, 'not an intact file'),
        ('{"a\\u001b[2J": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', 8, r'a\\x1b'),
        (
            '{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},'
            '"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
            0,
            'two of its entries have one name',
        ),
    ],
)
def test_damaged_safetensors(tmp_path, header, data, words):
    refused(tmp_path / 'a.safetensors', struct.pack('<Q', len(header)) + header.encode() + bytes(data), words)


def npz(header, data, **options):
    text = header.encode().ljust(100) + b'\n'
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', **options) as archive:
        archive.writestr('a.npy', b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text + data)
    return file.getvalue()


@pytest.mark.parametrize(
    ('header', 'words'),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 'does not fit its 8 bytes'),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }", 'does not fit its 8 bytes'),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 'not that of an array of numbers'),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (2,), }", 'not a sound array'),
        ("{'descr': __import__('os').getpid(), 'shape': (2,), }", 'not that of an array of numbers'),
    ],
)
def test_damaged_npz(tmp_path, header, words):
    refused(tmp_path / 'a.npz', npz(header, bytes(8)), f'a.npz: not an intact file of arrays: a in it .*{words}')


def test_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / 'state.npz', a=np.array([object()]))
    with pytest.raises(UserError, match='not that of an array of numbers'):
        read_state(tmp_path / 'state.npz')


def test_compressed_and_older_npz_are_read_and_bombs_are_not(tmp_path):
    np.savez_compressed(tmp_path / 'state.npz', **STATE, zeros=np.zeros((100, 100)))
    assert same(read_state(tmp_path / 'state.npz'), {**STATE, 'zeros': np.zeros((100, 100))})
    python_2 = npz("{'descr': '<f4', 'fortran_order': True, 'shape': (1L, 2L), }", bytes(8))
    (tmp_path / 'state.npz').write_bytes(python_2)
    assert same(read_state(tmp_path / 'state.npz'), {'a': np.zeros((1, 2))})
    size = 1 << 26
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}"
    bomb = npz(header, bytes(size), compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / 'state.npz', bomb, 'more than 100 times its own size')


def mutated(data, random):
    """Return the content with a few bits, bytes or stretches changed."""
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5])):
        # Headers hold the words.
        at = min(random.randint(len(data)) if random.rand() < 0.5 else int(random.exponential(600)), len(data) - 1)
        kind = random.randint(5)
        if kind < 2:
            data[at] ^= 1 << random.randint(8)
        elif kind == 2:
            data[at : at + 1] = random.choice([b'\xff' * 4, b'}' * 40, b'\x85' * 90, b'2' * 30, b'\x00', b''])
        elif kind == 3:
            other = random.randint(len(data))
            data[at : at + 20] = data[other : other + 20]
        else:
            del data[at + random.randint(1, 30) :]
    return bytes(data)


@pytest.mark.parametrize(
    'name',
    [
        'tensors.pth',
        'tensors_old.pth',
        'checkpoint.pth.tar',
        'checkpoint_old.pth.tar',
        'tensors.safetensors',
        'tensors.npz',
    ],
)
def test_damage_is_answered_or_one_sentence_in_bounded_memory(files, tmp_path, name):
    whole, random = (files / name).read_bytes(), np.random.RandomState(0)
    tracemalloc.start()
    for _ in range(200):
        content = mutated(whole, random)
        (tmp_path / 'state').write_bytes(content)
        try:
            answer = read_state(tmp_path / 'state')
        except UserError as error:
            answer = str(error)
        if isinstance(answer, str):
            assert answer.startswith(str(tmp_path / 'state'))
            assert '\n' not in answer
            assert len(answer) < 700
        else:
            assert all(isinstance(array, np.ndarray) for array in answer.values())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (4 << 20)


def test_every_flipped_bit_of_an_archive_is_harmless(tmp_path):
    """Each changed bit of the data is found by its checksum; in headers, bits that nobody reads change nothing."""
    for suffix in ('npz', 'pth'):
        write_state(tmp_path / f'whole.{suffix}', STATE)
        raw = (tmp_path / f'whole.{suffix}').read_bytes()
        for bit in range(0, 8 * len(raw), 29):
            damaged = bytearray(raw)
            damaged[bit // 8] ^= 1 << (bit % 8)
            (tmp_path / 'state').write_bytes(damaged)
            try:
                state = read_state(tmp_path / 'state')
            except UserError:
                continue
            assert sorted(array.tobytes() for array in state.values()) == sorted(a.tobytes() for a in STATE.values())


def test_headers_of_safetensors_are_json(tmp_path):
    write_state(tmp_path / 'state.safetensors', STATE)
    data = (tmp_path / 'state.safetensors').read_bytes()
    length = struct.unpack_from('<Q', data)[0]
    header = json.loads(data[8 : 8 + length])
    assert header['a.bias'] == {'dtype': 'F32', 'shape': [2], 'data_offsets': [24, 32]}
    assert (8 + length) % 8 == 0
