"""Atomic writes: all or nothing, on a full disk, without permission, and after a predecessor was killed."""

import errno
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common import files
from common.files import REASONS, atomic_write, check_writable
from environment import UserError

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = b'old content', b'new content, which is longer'


@pytest.fixture
def target(tmp_path):
    path = tmp_path / 'file.bin'
    path.write_bytes(OLD)
    return path


def only(path):
    """Return whether `path` is alone in its folder."""
    return os.listdir(path.parent) == [path.name]


def test_writes_replaces_and_leaves_nothing_else(target):
    atomic_write(target, lambda file: file.write(NEW))
    assert target.read_bytes() == NEW
    assert only(target)


def test_takes_text_paths_relative_paths_and_new_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atomic_write('new.bin', lambda file: file.write(NEW))
    assert (tmp_path / 'new.bin').read_bytes() == NEW


def test_a_writer_may_use_the_name_of_the_file(target):
    def write(file):
        with open(file.name, 'wb') as other:
            other.write(NEW)

    atomic_write(target, write)
    assert target.read_bytes() == NEW


def test_new_files_have_the_permissions_of_any_other(tmp_path):
    atomic_write(tmp_path / 'atomic', lambda file: None)
    (tmp_path / 'plain').write_bytes(b'')
    assert stat.S_IMODE((tmp_path / 'atomic').stat().st_mode) == stat.S_IMODE((tmp_path / 'plain').stat().st_mode)


def test_follows_a_link(target, tmp_path):
    link = tmp_path / 'folder' / 'link.bin'
    link.parent.mkdir()
    link.symlink_to(target)
    atomic_write(link, lambda file: file.write(NEW))
    assert link.is_symlink()
    assert target.read_bytes() == NEW


@pytest.mark.parametrize('name', ['x' * 255, '\u00e9' * 127, 'with space and \u6f22\u5b57', '.hidden'])
def test_any_name_that_the_file_system_takes(tmp_path, name):
    atomic_write(tmp_path / name, lambda file: file.write(NEW))
    assert (tmp_path / name).read_bytes() == NEW
    assert only(tmp_path / name)


def test_the_old_file_is_there_until_the_new_one_is_complete_and_flushed(target, monkeypatch):
    events = []

    def record(name):
        original = getattr(os, name)

        def call(*args):
            events.append((name, target.read_bytes()))
            return original(*args)

        monkeypatch.setattr(os, name, call)

    record('fsync')
    record('replace')
    atomic_write(target, lambda file: file.write(NEW))
    # The file is flushed, renamed, and then the folder is flushed.
    assert events == [('fsync', OLD), ('replace', OLD), ('fsync', NEW)]


def test_an_error_of_the_writer_changes_nothing_and_passes(target):
    def write(file):
        file.write(NEW)
        raise KeyError('a bug')

    with pytest.raises(KeyError):
        atomic_write(target, write)
    assert target.read_bytes() == OLD
    assert only(target)


def test_an_interrupt_changes_nothing_and_passes(target):
    def write(file):
        file.write(NEW)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(target, write)
    assert target.read_bytes() == OLD
    assert only(target)


def test_an_error_about_another_file_is_not_reported_as_ours(target, tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic_write(target, lambda file: file.write((tmp_path / 'source').read_bytes()))
    assert target.read_bytes() == OLD
    assert only(target)


class FailsToClose(io.BufferedWriter):
    """A file on a network disk that finds out at the end that it is full."""

    def __init__(self, path, number):
        super().__init__(io.FileIO(path, 'xb'))
        self.number = number

    def close(self):
        if not self.closed:
            super().close()
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize('number', sorted(REASONS), ids=errno.errorcode.get)
@pytest.mark.parametrize('call', ['fsync', 'replace', 'open', 'close'])
def test_every_failure_of_the_system_is_one_sentence_and_changes_nothing(target, monkeypatch, call, number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    if call == 'open':
        monkeypatch.setattr('builtins.open', fail)
    elif call == 'close':
        monkeypatch.setattr('builtins.open', lambda path, mode: FailsToClose(path, number))
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(UserError) as caught:
        atomic_write(target, lambda file: file.write(NEW))
    monkeypatch.undo()
    what, remedy = REASONS[number]
    assert str(caught.value) == f'cannot write {target}: {what}; {remedy}'
    assert target.read_bytes() == OLD
    assert only(target)


def test_an_unknown_failure_is_reported_in_the_words_of_the_system(target, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(UserError, match=os.strerror(errno.ENOLCK)):
        atomic_write(target, lambda file: file.write(NEW))


def test_bytes_that_a_file_system_loses_without_a_word_are_missed(target, monkeypatch):
    original = os.fsync

    def lose(handle):
        os.truncate(handle, len(NEW) - 1)
        original(handle)

    monkeypatch.setattr(os, 'fsync', lose)
    with pytest.raises(UserError, match='disk is full'):
        atomic_write(target, lambda file: file.write(NEW))
    assert target.read_bytes() == OLD
    assert only(target)


def test_a_folder_that_cannot_be_flushed_is_reported(target, monkeypatch):
    def fail(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, 'flush_folder', fail)
    with pytest.raises(UserError, match='the disk reports an error'):
        atomic_write(target, lambda file: file.write(NEW))
    assert target.read_bytes() == NEW
    assert only(target)


def test_a_file_system_that_flushes_no_folders_will_do(target, monkeypatch):
    original = os.fsync

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        original(handle)

    monkeypatch.setattr(os, 'fsync', only_files)
    atomic_write(target, lambda file: file.write(NEW))
    assert target.read_bytes() == NEW


class LimitedFileSize:
    """Limit this process's files to `size` bytes within the block: a full disk without needing one."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limits[1]))

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        signal.signal(signal.SIGXFSZ, self.handler)


@pytest.mark.parametrize('limit', [0, 1, 4096, 99_999])
def test_a_file_that_outgrows_the_limit(target, limit):
    with LimitedFileSize(limit), pytest.raises(UserError, match='larger than allowed'):
        atomic_write(target, lambda file: file.write(bytes(100_000)))
    assert target.read_bytes() == OLD
    assert only(target)
    with LimitedFileSize(100_000):
        atomic_write(target, lambda file: file.write(bytes(100_000)))


def test_a_full_disk_met_at_the_very_end(target):
    """The last bytes wait in Python's buffer and fail when it is flushed, after the writer has returned."""
    returned = []

    def write(file):
        file.write(bytes(100))
        returned.append(True)

    with LimitedFileSize(99), pytest.raises(UserError, match='larger than allowed'):
        atomic_write(target, write)
    assert returned
    assert target.read_bytes() == OLD
    assert only(target)


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_bytes(OLD)
    (tmp_path / 'folder' / 'inside').mkdir(parents=True)
    for path, words in [
        (tmp_path / 'absent' / 'file', 'no such file or folder'),
        (tmp_path / 'file' / 'below', 'not a folder'),
        (tmp_path / 'folder', 'it is a folder'),
        (tmp_path / ('x' * 300), 'name is too long'),
    ]:
        with pytest.raises(UserError, match=words) as caught:
            atomic_write(path, lambda file: file.write(NEW))
        assert str(path) in str(caught.value)
        with pytest.raises(UserError) as foretold:
            check_writable(path)
        assert str(foretold.value) == str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match='permission denied'):
            atomic_write(tmp_path / 'file', lambda file: file.write(NEW))
    finally:
        tmp_path.chmod(0o700)


WRITER = """
import sys, time
from common.files import atomic_write
def write(file):
    file.write(bytes(1000))
    file.flush()
    print('writing', flush=True)
    time.sleep(60)
atomic_write(sys.argv[1], write)
"""


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(target):
    command = [sys.executable, '-c', WRITER, str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout.readline() == b'writing\n'
        assert len(os.listdir(target.parent)) == 2

        # It stays while its writer lives.
        atomic_write(target.with_name('other'), lambda file: file.write(NEW))
        assert len(os.listdir(target.parent)) == 3
    finally:
        process.kill()
        process.communicate()
    assert target.read_bytes() == OLD
    assert len(os.listdir(target.parent)) == 3

    # By whichever file is written next.
    atomic_write(target.with_name('other'), lambda file: file.write(NEW))
    assert sorted(os.listdir(target.parent)) == ['file.bin', 'other']


def test_a_predecessor_may_have_had_our_process_number(target):
    (target.parent / f'.file.bin.{os.getpid()}-0.part').write_bytes(b'half')
    atomic_write(target, lambda file: file.write(NEW))
    assert only(target)


def test_files_of_others_that_look_similar_stay(target):
    names = [
        '.file.bin.part',
        'file.bin.1-1.part',
        f'.file.{os.getpid()}.tmp',
        '.x.99999999999999999999-0.part',
    ]
    for name in names:
        (target.parent / name).write_bytes(b'')
    atomic_write(target, lambda file: file.write(NEW))
    assert sorted(os.listdir(target.parent)) == sorted([*names[:3], 'file.bin'])


def test_threads_do_not_disturb_each_other(tmp_path):
    """Each thread writes its own file while the others are in the middle of theirs."""
    barrier = threading.Barrier(4)
    errors = []

    def write(file):
        barrier.wait(timeout=300)
        file.write(NEW)
        barrier.wait(timeout=300)

    def work(name):
        try:
            atomic_write(tmp_path / name, write)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(str(i % 3),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(os.listdir(tmp_path)) == ['0', '1', '2']
