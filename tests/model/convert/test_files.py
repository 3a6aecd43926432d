"""Files of state dictionaries, from PyTorch, safetensors and NumPy, read safely and without their frameworks.

What PyTorch and safetensors wrote is in torch_files.zip, with the values that they have (make_torch_files.py).
"""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from common import safe_pickle
from environment import UserError
from model.convert.files import read_state, write_state

STATE = {'a.weight': np.arange(6, dtype='float32').reshape(2, 3), 'a.bias': np.ones(2, 'float32')}
WRITTEN = ('pth', 'pt', 'safetensors', 'npz')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('torch')
    with zipfile.ZipFile(Path(__file__).with_name('torch_files.zip')) as archive:
        archive.extractall(folder)
    return folder


def values(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if not name.endswith('num_batches_tracked')}


def same(state, expected=STATE):
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].shape == array.shape, name
        np.testing.assert_array_equal(state[name].astype('float64'), array.astype('float64'), err_msg=name)
    return True


def refused(path, content, words):
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_state(path)
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize('name', ['tensors.pth', 'tensors_old.pth', 'tensors.safetensors'])
def test_every_type_and_every_place_in_a_storage(files, name):
    expected, state = values(files / 'tensors.npz'), read_state(files / name)
    if name.endswith('.safetensors'):  # lacks these types, and has an order of its own
        expected = {key: array for key, array in expected.items() if 'fnuz' not in key}
    assert same(state, expected)
    assert state['int64'].dtype == np.int64
    assert state['float16'].dtype == np.float16
    assert state['bool'].dtype == bool


@pytest.mark.parametrize(
    'name',
    ['checkpoint', 'checkpoint_old', 'checkpoint_protocol_5', 'checkpoint_protocol_5_old'],
)
def test_a_whole_checkpoint(files, name):
    assert same(read_state(files / f'{name}.pth.tar'), values(files / 'checkpoint.npz'))


def test_the_name_of_a_file_says_nothing(files, tmp_path):
    for name in ('tensors.pth', 'tensors_old.pth', 'tensors.safetensors', 'tensors.npz'):
        (tmp_path / 'state.bin').write_bytes((files / name).read_bytes())
        assert read_state(tmp_path / 'state.bin').keys() == read_state(files / name).keys()


def test_arrays_of_numpy_beside_tensors(files):
    assert same(read_state(files / 'numpy.pth'), {'a': np.ones(3), 'b': np.ones(2)})


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('module', 'it asks for torch.nn.modules.container.Sequential.*save its state dictionary alone'),
        ('sparse', 'it asks for torch._utils._rebuild_sparse_tensor'),
        ('quantized', 'it asks for torch._utils._rebuild_qtensor'),
        ('meta', 'it asks for torch._utils._rebuild_meta_tensor_no_storage'),
        ('complex', 'a is not an array of numbers but an array of complex64'),
        ('tensor', 'holds a Tensor and no state dictionary'),
    ],
)
def test_what_is_no_state_dictionary_of_tensors(files, name, words):
    with pytest.raises(UserError, match=f'{name}.pth: .*{words}'):
        read_state(files / f'{name}.pth')


@pytest.mark.parametrize('suffix', WRITTEN)
def test_what_is_written_is_read(tmp_path, suffix):
    random = np.random.RandomState(0)
    state = {
        **STATE,
        'half': random.normal(size=(3, 2, 1, 1)).astype('float16'),
        'double': random.normal(size=(300, 3)),
        'turned': random.normal(size=(3, 5)).astype('float32').T,
        'scalar': np.float32(3.5).reshape(()),
        'empty': np.zeros((0, 3), 'float32'),
        'ä': np.zeros(1, 'float32'),
    }
    path = tmp_path / f'state.{suffix}'
    write_state(path, state)
    read = read_state(path)
    assert same(read, state)
    assert all(read[name].dtype == array.dtype for name, array in state.items())
    first = path.read_bytes()
    write_state(path, state)
    assert path.read_bytes() == first or suffix == 'npz'


def test_what_is_written_is_pytorchs(tmp_path):
    """The file has the objects and members that PyTorch's own reader, with which it was tried, looks for."""
    write_state(tmp_path / 'state.pth', {'a.weight': STATE['a.weight']})
    with zipfile.ZipFile(tmp_path / 'state.pth') as archive:
        members = {name.partition('/')[2]: archive.read(name) for name in archive.namelist()}
        starts = [info.header_offset + 30 + len(info.filename) + len(info.extra) for info in archive.infolist()]
    assert set(members) == {'data.pkl', 'byteorder', 'data/0', 'version'}
    assert (members['version'], members['byteorder']) == (b'3\n', b'little')
    assert members['data/0'] == STATE['a.weight'].tobytes()
    assert not any(start % 64 for start in starts)

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            return {'_rebuild_tensor_v2': lambda *parts: parts, 'OrderedDict': dict}.get(name, f'{module}.{name}')

        def persistent_load(self, reference):
            return reference

    storage = ('storage', 'torch.FloatStorage', '0', 'cpu', 6)
    assert Reader(io.BytesIO(members['data.pkl'])).load() == {'a.weight': (storage, 0, (2, 3), (3, 1), False, {})}


def test_absent_files_and_unknown_formats(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_state(tmp_path / 'state.npz')
    with pytest.raises(UserError, match=r'written to .pth, .pt, .safetensors, .npz, .params; name the file so'):
        write_state(tmp_path / 'state.h5', STATE)
    with pytest.raises(ValueError, match='n is of type int64: allowed are float16'):
        write_state(tmp_path / 'state.pth', {'n': np.ones(2, 'int64')})


@pytest.mark.parametrize(
    'content', [b'', b'text', b'PK\x03\x04 and then nothing', b'\x80\x02', b'\x02' + 7 * b'\0' + b'{']
)
def test_what_is_no_such_file(tmp_path, content):
    refused(tmp_path / 'state.pth', content, r'state.pth: not an intact file of arrays: .*; fetch or save it again')


def test_an_array_in_place_of_an_archive(tmp_path):
    with open(tmp_path / 'state.npz', 'wb') as file:
        np.save(file, np.ones(2))
    with pytest.raises(UserError, match='not an intact file of arrays'):
        read_state(tmp_path / 'state.npz')


def test_older_and_foreign_forms_are_told(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / 'old.pth', 'w') as archive:
        archive.addfile(tarfile.TarInfo('storages'))
    refused(tmp_path / 'old.pth', (tmp_path / 'old.pth').read_bytes(), r'tar archive, as PyTorch wrote before')
    write_state(tmp_path / 'state.pth', STATE)
    for extra, words in ((('state/constants.pkl', b''), 'TorchScript'), (('state/byteorder', b'big'), 'big-endian')):
        with zipfile.ZipFile(tmp_path / 'state.pth') as archive, zipfile.ZipFile(tmp_path / 'new.pth', 'w') as new:
            for name in archive.namelist():
                if name != extra[0]:
                    new.writestr(name, archive.read(name))
            new.writestr(*extra)
        refused(tmp_path / 'new.pth', (tmp_path / 'new.pth').read_bytes(), words)
    system = pickle.dumps({'little_endian': False}, 2)
    words = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), system, pickle.dumps({}, 2)]
    refused(tmp_path / 'old.pth', b''.join(words), 'big-endian')


def test_a_part_of_a_storage_as_versions_before_0_4_wrote_it(tmp_path):
    tensor = (
        b'ctorch._utils\n_rebuild_tensor\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0kX\x03\0\0\0cpuK\x06'
        b'(X\x01\0\0\0vK\x02K\x04ttQK\x01(K\x02t(K\x02ttR'
    )
    content = b''.join(
        [
            *(pickle.dumps(word, 2) for word in (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})),
            b'\x80\x02}X\x01\0\0\0a' + tensor + b's.',
            pickle.dumps(['k'], 2),
            struct.pack('<q6f', 6, *range(6)),
        ]
    )
    (tmp_path / 'old.pth').write_bytes(content)
    assert same(read_state(tmp_path / 'old.pth'), {'a': np.array([3.0, 5.0])})


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
