"""Images and folders that cannot be read: left out and told, up to a limit."""

import errno
import logging
import os

import numpy as np
import pytest

from data.bad import Tolerance
from data.classification.by_name import load_dataset
from environment import UserError
from tests.data.conftest import write_images


def test_unreadable_images_are_left_out_and_told(tmp_path, caplog):
    write_images(tmp_path / 'a', 120, size=8)
    write_images(tmp_path / 'b', 120, size=8, suffix='.jpg')
    broken, whole = tmp_path / 'a' / '003.png', tmp_path / 'b' / '005.jpg'
    broken.write_bytes(b'GIF89a nothing')
    whole.write_bytes(whole.read_bytes()[:-60])
    with caplog.at_level(logging.WARNING):
        dataset = load_dataset(tmp_path, 'all', size=8)
    assert len(dataset) == 238
    assert len(dataset.unreadable) == 2
    assert str(broken) in dataset.unreadable[0]
    assert str(whole) in dataset.unreadable[1]
    whole.unlink()
    whole.symlink_to('nowhere.jpg')
    assert 'No such file' in load_dataset(tmp_path, 'all', size=8).unreadable[1]
    assert '2 of 240 images' in caplog.text
    assert np.bincount(dataset.labels).tolist() == [119, 119]


def test_many_unreadable_images_are_an_error(tmp_path):
    write_images(tmp_path / 'a', 20, size=8)
    (tmp_path / 'a' / '000.png').write_bytes(b'')
    (tmp_path / 'a' / '001.png').write_bytes(b'')
    assert len(load_dataset(tmp_path, 'all', size=8)) == 18
    (tmp_path / 'a' / '002.png').write_bytes(b'')
    with pytest.raises(UserError, match=r'3 images of the split all .* 0.1 allow 2 of 20: .*000.png'):
        load_dataset(tmp_path, 'all', size=8)


@pytest.mark.parametrize(('images', 'allowed'), [(5, 1), (37, 3), (10_000, 100), (0, 1)])
def test_how_many_damaged_images_are_put_up_with(images, allowed):
    assert Tolerance().of(images) == allowed
    assert Tolerance(0).of(images) == 0
    assert Tolerance(2, 0.0).of(images) == 1
    for wrong in ((-1, 0.1), (1, 1.5), (1, -0.1)):
        with pytest.raises(ValueError, match='must be'):
            Tolerance(*wrong)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_without_permission_is_unreadable(tmp_path):
    write_images(tmp_path / 'a', 1)
    (tmp_path / 'a' / '000.png').chmod(0)
    with pytest.raises(UserError, match='Permission denied'):
        load_dataset(tmp_path, 'all')


def test_a_class_folder_that_may_not_be_read_is_not_left_out(tmp_path, monkeypatch):
    for name in 'ab':
        write_images(tmp_path / name, 2)
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'b':
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(UserError, match=f'^cannot read the folder {tmp_path}/b: permission denied; change the permis'):
        load_dataset(tmp_path, 'all')
