"""Folders, checksums, and what is checked about a path before anything is written to it."""

import hashlib
import os
from pathlib import Path

import pytest

from common.files import check_writable, expanded, explained, make_folder, sha256_file
from environment import UserError


def test_make_folder(tmp_path):
    make_folder(tmp_path / 'a' / 'b')
    make_folder(tmp_path / 'a' / 'b')
    assert (tmp_path / 'a' / 'b').is_dir()
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(UserError, match='there is a file of that name'):
        make_folder(tmp_path / 'file')
    with pytest.raises(UserError, match='not a folder') as caught:
        make_folder(tmp_path / 'file' / 'c' / 'd')
    assert str(tmp_path / 'file' / 'c' / 'd') in str(caught.value)


@pytest.mark.parametrize('size', [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_sha256_file(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / 'file').write_bytes(content)
    assert sha256_file(tmp_path / 'file') == hashlib.sha256(content).hexdigest()


def test_sha256_of_what_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r'cannot read .*absent: there is no such file or folder; check the path'):
        sha256_file(tmp_path / 'absent')
    with pytest.raises(UserError, match='it is a folder'):
        sha256_file(tmp_path)


def test_explained_lets_other_files_and_other_errors_pass(tmp_path):
    with pytest.raises(FileNotFoundError), explained('read', tmp_path / 'a'):
        open(tmp_path / 'b')
    with pytest.raises(ValueError, match='x'), explained('read', tmp_path / 'a'):
        raise ValueError('x')
    with pytest.raises(UserError, match='cannot read'), explained('read', str(tmp_path / 'a')):
        open(tmp_path / 'a')


def test_checking_a_path_changes_nothing(tmp_path):
    (tmp_path / 'old').write_bytes(b'content')
    check_writable(tmp_path / 'old')
    check_writable(tmp_path / 'new')
    assert (tmp_path / 'old').read_bytes() == b'content'
    assert os.listdir(tmp_path) == ['old']


def test_a_pipe_is_not_opened_before_its_time(tmp_path):
    os.mkfifo(tmp_path / 'pipe')  # opening it would wait for a reader, and closing it would end the reader's input
    for path in (tmp_path / 'pipe', '/dev/stdout', '/dev/fd/1', os.devnull):
        check_writable(path)


def test_home_folders():
    assert expanded('~/a') == Path.home() / 'a'
    assert expanded('a/~') == Path('a/~')
    with pytest.raises(UserError, match=r'^~nobody-of-that-name/a begins with an unknown home folder'):
        expanded('~nobody-of-that-name/a')
