"""CIFAR: both versions, packed and unpacked, give the same images; damage of any kind is one sentence."""

import errno
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from common import download
from data.classification import cifar
from data.classification.by_name import load_dataset
from data.classification.cifar import CIFAR, load_cifar
from environment import UserError
from tests.data.conftest import SmallCifar


def expected(small, version, split):
    archive = small.source.archives[version]
    names = {'train': archive.train, 'test': archive.test, 'all': archive.files}[split]
    images = np.concatenate([small.images[name] for name in names])
    return images, sum((small.labels[name][small.source.label_key] for name in names), [])


def assert_right(dataset, small, version, split):
    images, labels = expected(small, version, split)
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels.tolist() == labels
    assert dataset.labels.dtype == np.int64
    assert dataset.class_names == small.source.class_names
    assert (dataset.name, dataset.split) == (small.source.name, split)


@pytest.mark.parametrize('split', ['train', 'test', 'all'])
@pytest.mark.parametrize('version', [0, 1], ids=['binary', 'python'])
def test_unpacked(small_cifar, tmp_path, version, split):
    inner = small_cifar.unpack(version, tmp_path)
    source = small_cifar.sized()
    assert_right(load_cifar(source, split, tmp_path), small_cifar, version, split)
    assert_right(load_cifar(source, split, inner), small_cifar, version, split)


@pytest.mark.parametrize('version', [0, 1], ids=['binary', 'python'])
def test_packed(small_cifar, tmp_path, version):
    path = small_cifar.pack(version, tmp_path)
    source = small_cifar.sized(path)
    assert_right(load_cifar(source, 'train', tmp_path), small_cifar, version, 'train')
    assert_right(load_cifar(source, 'test', path), small_cifar, version, 'test')
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # nothing is unpacked on the disk


def test_labels_and_names_of_the_real_datasets():
    assert [len(CIFAR[name].class_names) for name in ('cifar10', 'cifar100', 'cifar100_coarse')] == [
        10,
        100,
        20,
    ]
    for source in CIFAR.values():
        assert list(source.class_names) == sorted(set(source.class_names))
        assert len(set(source.class_names)) == len(source.class_names)
        assert (source.train_images, source.test_images) == (50000, 10000)


def test_an_archive_with_another_md5_is_refused(small_cifar, tmp_path):
    path = small_cifar.pack(0, tmp_path)
    with pytest.raises(UserError, match=r'has the MD5 .* instead of .*delete it'):
        load_cifar(small_cifar.source, 'train', tmp_path)
    with pytest.raises(UserError, match='has the MD5'):
        load_cifar(small_cifar.source, 'train', path)


@pytest.mark.parametrize('keep', [0, 10, 1000, -100])
def test_a_truncated_archive_is_refused_even_if_its_md5_were_right(tmp_path, keep):
    small = SmallCifar('cifar10')
    path = small.pack(0, tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match='MD5'):
        load_cifar(small.source, 'train', tmp_path)
    with pytest.raises(UserError, match=r'damaged archive|does not contain'):
        load_cifar(small.sized(path), 'train', tmp_path)


@pytest.mark.parametrize('packed', [False, True])
def test_files_that_may_not_be_read(small_cifar, tmp_path, monkeypatch, packed):
    path = small_cifar.pack(0, tmp_path) if packed else small_cifar.unpack(0, tmp_path)
    source = small_cifar.sized(*[path] * packed)

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(download, 'open', refuse, raising=False)
    monkeypatch.setattr(Path, 'read_bytes', refuse)
    with pytest.raises(UserError, match=f'^cannot read {path}.*: permission denied; change the permissions'):
        load_cifar(source, 'train', tmp_path)


def test_a_home_folder_that_nobody_has():
    with pytest.raises(UserError, match='~nobody-of-that-name/x begins with an unknown home folder'):
        load_dataset('cifar10', 'train', '~nobody-of-that-name/x')


def test_incomplete_folder(small_cifar, tmp_path):
    inner = small_cifar.unpack(0, tmp_path)
    (inner / small_cifar.source.archives[0].test[0]).unlink()
    with pytest.raises(UserError, match=r'but not test.*unpack cifar-10'):
        load_cifar(small_cifar.sized(), 'train', tmp_path)
    # The archive beside it is the better source.
    path = small_cifar.pack(1, tmp_path)
    assert_right(load_cifar(small_cifar.sized(path), 'train', tmp_path), small_cifar, 1, 'train')


@pytest.mark.parametrize('version', [0, 1], ids=['binary', 'python'])
@pytest.mark.parametrize('damage', [lambda data: data[:-1], lambda data: b'', lambda data: data * 2])
def test_files_of_wrong_length(tmp_path, version, damage):
    small = SmallCifar('cifar100')
    inner = small.unpack(version, tmp_path)
    file = inner / small.source.archives[version].train[0]
    file.write_bytes(damage(file.read_bytes()))
    if version == 1 and damage(b'ab') == b'abab':
        # What follows the end of a pickle is not read.
        assert_right(load_cifar(small.sized(), 'train', tmp_path), small, 1, 'train')
    else:
        with pytest.raises(UserError, match=r'once more'):
            load_cifar(small.sized(), 'train', tmp_path)


def test_a_label_out_of_range(tmp_path):
    small = SmallCifar('cifar10')
    inner = small.unpack(0, tmp_path)
    data = bytearray((inner / 'data_batch_2.bin').read_bytes())
    data[0] = 10
    (inner / 'data_batch_2.bin').write_bytes(bytes(data))
    with pytest.raises(UserError, match='data_batch_2.bin .* is not an intact batch'):
        load_cifar(small.sized(), 'train', tmp_path)


def test_too_few_images(tmp_path):
    small = SmallCifar('cifar10')
    small.unpack(0, tmp_path)
    with pytest.raises(UserError, match='holds 20 images for train instead of the 50000'):
        load_cifar(small.source, 'train', tmp_path)


def test_data_dir_that_is_another_file(tmp_path):
    file = tmp_path / 'x.zip'
    file.write_bytes(b'')
    with pytest.raises(UserError, match='is a file but not cifar-10-binary.tar.gz or cifar-10-python.tar.gz'):
        load_dataset('cifar10', 'train', data_dir=file)


@pytest.fixture
def site(monkeypatch):
    """Yield a dictionary of files that a web server serves; a value (content, length) lies about its
    length.
    """
    served = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip('/')
            if name not in served:
                self.send_error(404)
                return
            content, length = served[name]
            self.send_response(200)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            """Quiet."""

    server = HTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    monkeypatch.setattr(download, 'PAUSE', 0)
    monkeypatch.setattr(cifar, 'SITE', f'http://127.0.0.1:{server.server_port}/')
    for proxy in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(proxy, raising=False)
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(site, tmp_path, capfd, monkeypatch):
    small = SmallCifar('cifar10')
    path = small.pack(0, tmp_path)
    content = path.read_bytes()
    source = small.sized(path)
    path.unlink()
    site[path.name] = (content, len(content))
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'home'))
    assert_right(load_cifar(source, 'train'), small, 0, 'train')
    assert 'cifar-10-binary.tar.gz: 100%' in capfd.readouterr().err
    stored = tmp_path / 'home' / 'datasets' / 'cifar10' / path.name
    assert hashlib.md5(stored.read_bytes()).hexdigest() == source.archives[0].md5
    site.clear()
    assert_right(load_cifar(source, 'test'), small, 0, 'test')  # without the site


@pytest.mark.parametrize('longer', [0, 1000], ids=['another file', 'broken off'])
def test_a_bad_download_leaves_nothing(site, tmp_path, longer):
    site['cifar-10-binary.tar.gz'] = (b'x' * 1000, 1000 + longer)
    folder = tmp_path / 'new'
    with pytest.raises(
        UserError, match=r'(is incomplete or a different file|broke off).*put cifar-10-binary.tar.gz or'
    ):
        load_dataset('cifar10', 'train', data_dir=folder)
    assert not folder.exists()


def test_no_data_and_no_network(site, tmp_path):
    with pytest.raises(UserError, match=r'cannot download .*Not Found.*put cifar-100-binary.tar.gz or .*--data-dir'):
        load_dataset('cifar100', 'train', data_dir=tmp_path)
