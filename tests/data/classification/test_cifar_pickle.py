"""CIFAR's pickles: nothing that a pickle names is called or imported."""

import pickle
import sys

import numpy as np
import pytest

from data.classification.cifar import load_cifar
from data.classification.cifar_pickle import PickleError, read_batch
from environment import UserError
from tests.data.conftest import SmallCifar

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


class Malicious:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_arrays_and_lists():
    for protocol in (2, 3, 4):
        table = read_batch(pickle.dumps({'data': ARRAY, 'labels': [1, 2, 3]}, protocol=protocol))
        np.testing.assert_array_equal(table['data'], ARRAY)
        assert table['labels'] == [1, 2, 3]


def test_pickles_of_python_2():
    """Return what Python 2's cPickle writes with protocol 2, as in the official archives: the array's bytes are a
    string.
    """
    data = bytes(range(250, 256)) + b"'\\\n\x00ab"
    python2 = (
        b'\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b'
        b'\x87Rq\x05(K\x01K\x03K\x04\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff'
        b'J\xff\xff\xff\xffK\x00tb\x89T\x0c\x00\x00\x00' + data + b'tbu.'
    )
    table = read_batch(python2)
    np.testing.assert_array_equal(table['data'], np.frombuffer(data, np.uint8).reshape(3, 4))
    np.testing.assert_array_equal(pickle.loads(python2, encoding='latin1')['data'], table['data'])


def test_a_malicious_pickle_does_nothing(tmp_path):
    target = tmp_path / 'touched'
    for function, args in (
        (open, (str(target), 'w')),
        (eval, ('1 + 1',)),
        (exec, (f'open({str(target)!r}, "w")',)),
    ):
        with pytest.raises(PickleError, match='asks for'):
            read_batch(pickle.dumps({'data': Malicious(function, *args)}))
    assert not target.exists()


def test_a_pickle_imports_nothing():
    assert 'antigravity' not in sys.modules
    with pytest.raises(PickleError, match='asks for antigravity.fly'):
        read_batch(b'cantigravity\nfly\n.')
    assert 'antigravity' not in sys.modules


@pytest.mark.parametrize(
    'name', ['numpy\nload', 'numpy\nfromfile', 'numpy.core.multiarray\nfromfile', '_codecs\nlookup']
)
def test_other_names_of_the_same_modules_are_refused(name):
    with pytest.raises(PickleError, match='asks for'):
        read_batch(f'c{name}\n.'.encode())


@pytest.mark.parametrize(
    'content',
    [
        {'data': ARRAY.astype(np.float32)},
        {'data': np.array([{}, {}], dtype=object)},
        {'data': np.asfortranarray(ARRAY)},
        {'data': np.zeros(3, dtype='u1,u1')},
        [ARRAY],
    ],
)
def test_other_content_is_refused(content):
    with pytest.raises(PickleError):
        read_batch(pickle.dumps(content, protocol=2))


def test_a_pickle_cannot_ask_for_all_of_the_memory():
    assert read_batch(b'\x80\x02}r\xff\xff\xff\x7f.') == {}  # a high number by itself costs nothing
    for content in (
        b'}p2147483647\n.',
        b'\x80\x05\x96\x00\x00\x00\x00\xff\x00\x00\x00.',
    ):
        with pytest.raises(PickleError):
            read_batch(content)


def test_damage_is_found_or_harmless():
    whole = pickle.dumps({'data': ARRAY, 'labels': [1, 2, 3]}, protocol=2)
    for length in range(len(whole)):
        with pytest.raises(PickleError):
            read_batch(whole[:length])
    random = np.random.RandomState(0)
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[random.randint(len(whole))] ^= 1 << random.randint(8)
        try:
            read_batch(bytes(damaged))
        except PickleError:
            pass


def test_loading_reports_a_malicious_batch(tmp_path):
    small = SmallCifar('cifar10')
    inner = small.unpack(1, tmp_path)
    (inner / 'data_batch_3').write_bytes(pickle.dumps({'data': Malicious(eval, '1')}))
    with pytest.raises(UserError, match='data_batch_3 .*asks for builtins.eval'):
        load_cifar(small.sized(), 'train', tmp_path)
