"""Files of state dictionaries: NumPy's and PyTorch's, read safely."""

import sys

import numpy as np
import pytest

from environment import SetupError, UserError
from model.convert.files import read_state, write_state

STATE = {'a.weight': np.arange(6, dtype='float32').reshape(2, 3), 'a.bias': np.ones(2, 'float32')}


def same(state):
    return state.keys() == STATE.keys() and all((state[name] == STATE[name]).all() for name in STATE)


def test_npz(tmp_path):
    write_state(tmp_path / 'state.npz', STATE)
    assert same(read_state(tmp_path / 'state.npz'))


def test_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / 'state.npz', a=np.array([object()]))
    with pytest.raises(UserError, match='not an intact .npz file'):
        read_state(tmp_path / 'state.npz')


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04 and then nothing'])
def test_damaged_npz(tmp_path, content):
    (tmp_path / 'state.npz').write_bytes(content)
    with pytest.raises(UserError, match='state.npz: not an intact .npz file'):
        read_state(tmp_path / 'state.npz')


def test_an_array_in_place_of_an_archive(tmp_path):
    with open(tmp_path / 'state.npz', 'wb') as file:
        np.save(file, np.ones(2))
    with pytest.raises(UserError, match='not an intact .npz file'):
        read_state(tmp_path / 'state.npz')


def test_absent_files_and_unknown_formats(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_state(tmp_path / 'state.npz')
    with pytest.raises(UserError, match=r'written to .pth, .pt, .npz; name the file so'):
        write_state(tmp_path / 'state.h5', STATE)


def test_without_pytorch_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    (tmp_path / 'state.pth').write_bytes(b'anything')
    for call in (lambda: read_state(tmp_path / 'state.pth'), lambda: write_state(tmp_path / 'other.pth', STATE)):
        with pytest.raises(SetupError, match='no package torch; run: .*setup.sh --torch'):
            call()
    assert not (tmp_path / 'other.pth').exists()


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip('torch')

    def tensors(self, torch):
        return {name: torch.from_numpy(array) for name, array in STATE.items()}

    def test_there_and_back(self, torch, tmp_path):
        write_state(tmp_path / 'state.pth', STATE)
        assert same(read_state(tmp_path / 'state.pth'))
        loaded = torch.load(tmp_path / 'state.pth', weights_only=True)
        assert (loaded['a.weight'].numpy() == STATE['a.weight']).all()

    @pytest.mark.parametrize('zipped', [True, False])  # PyTorch's format since 1.6 and the one before
    def test_a_whole_checkpoint(self, torch, tmp_path, zipped):
        checkpoint = {'epoch': 3, 'state_dict': self.tensors(torch), 'optimizer': {'state': {}, 'lr': [0.1]}}
        path = tmp_path / 'model_best.pth.tar'
        torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
        assert same(read_state(path))

    def test_code_is_refused(self, torch, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / 'module.pth')
        with pytest.raises(UserError, match='holds more than tensors, which loading safely refuses'):
            read_state(tmp_path / 'module.pth')

    @pytest.mark.parametrize('part', [0, 5, 200, 900])
    def test_damage(self, torch, tmp_path, part):
        torch.save(self.tensors(torch), tmp_path / 'whole.pth')
        (tmp_path / 'state.pth').write_bytes((tmp_path / 'whole.pth').read_bytes()[:part])
        with pytest.raises(UserError, match='state.pth: '):
            read_state(tmp_path / 'state.pth')

    def test_a_tensor_is_no_state(self, torch, tmp_path):
        torch.save(torch.ones(2), tmp_path / 'tensor.pth')
        with pytest.raises(UserError, match='holds a Tensor and no state dictionary'):
            read_state(tmp_path / 'tensor.pth')
