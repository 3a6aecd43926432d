"""Files of state dictionaries, from PyTorch, safetensors and NumPy, read safely and without their frameworks.

What PyTorch and safetensors wrote is in torch_files.zip, with the values that they have (make_torch_files.py).
"""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from environment import UserError
from model.convert.files import read_state, write_state

from .states import STATE, refused, same

WRITTEN = ('pth', 'pt', 'safetensors', 'npz')


def values(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if not name.endswith('num_batches_tracked')}


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
        ('module', 'it asks for torch.nn.modules.container.Sequential.*save only its state dictionary'),
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
