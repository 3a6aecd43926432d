"""One process at a time in a folder: who waits, who gives up, and what is left behind."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.lock import alone
from environment import UserError

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import os, sys
{without}
from common.lock import alone
with alone(sys.argv[1], 'training'):
    {inside}
    print('in', flush=True)
    sys.stdin.readline()
"""
NO_FLOCK = """
import errno, fcntl
def flock(*args):
    raise OSError(errno.ENOLCK, 'No locks available')
fcntl.flock = flock
"""


# The parent goes on once its child runs.
FORK = """ready, told = os.pipe()
    if not os.fork():
        os.write(told, b'.')
        os.read(0, 1)
        os._exit(0)
    os.read(ready, 1)
"""


@pytest.fixture
def holder(tmp_path):
    """Return `holder()`, which starts a process that holds `tmp_path / 'run'`."""
    started = []

    def start(inside='pass', without=''):
        code = HOLD.format(inside=inside, without=without)
        command = [sys.executable, '-c', code, str(tmp_path / 'run')]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == 'in\n'
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(params=['flock', 'without'])
def without(request, monkeypatch):
    """Repeat the test on a file system with locks and on one without."""
    if request.param == 'flock':
        return ''

    def flock(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', flock)
    return NO_FLOCK


def test_a_second_process_is_told_who_is_there(tmp_path, holder, without):
    first = holder(without=without)
    said = f'{tmp_path}/run is in use: process {first.pid} is training there; wait until it has ended, or choose'
    with pytest.raises(UserError, match=re.escape(said)), alone(tmp_path / 'run', 'training'):
        pass
    first.communicate('\n')
    assert os.listdir(tmp_path) == []  # it had created the folder, which stayed empty
    with alone(tmp_path / 'run', 'training'):
        assert os.listdir(tmp_path / 'run') == ['.lock']


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_holds_nobody_off(tmp_path, holder, without, number):
    first = holder(without=without)
    first.send_signal(number)
    first.wait()
    assert os.listdir(tmp_path / 'run') == ['.lock']
    with alone(tmp_path / 'run', 'training'):
        pass


def test_nor_does_its_orphan(tmp_path, holder):
    first = holder(FORK)
    first.kill()
    first.wait()
    with alone(tmp_path / 'run', 'training'):
        pass
    first.stdin.write('\n')


@pytest.mark.parametrize('content', ['', '{', '[]', '[' * 100_000, '{"process": -1}', '\0', '{"process": 1e400}'])
def test_a_foreign_file_is_no_lock(tmp_path, without, content):
    (tmp_path / '.lock').write_text(content)
    with alone(tmp_path, 'training'):
        pass


@pytest.mark.parametrize('change', [{'process': 2**70}, {'host': 'elsewhere'}, {'began': '1'}, {'file': 1}])
def test_without_locks_the_note_of_another_process_is_no_lock(tmp_path, without, change):
    with alone(tmp_path / 'run', 'training'):
        note = (tmp_path / 'run' / '.lock').read_text()
    (tmp_path / '.lock').touch()
    note = {**json.loads(note), 'file': (tmp_path / '.lock').stat().st_ino, **change}
    (tmp_path / '.lock').write_text(json.dumps(note))
    with alone(tmp_path, 'training'):
        pass


def test_a_copy_of_a_folder_in_use_is_free(tmp_path, holder, without):
    holder(without=without)
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    with alone(tmp_path / 'copy', 'training'):
        pass


def test_within_one_process_too_and_other_files_are_free(tmp_path, without):
    with alone(tmp_path, 'packing images', 'train.rec'), alone(tmp_path, 'packing images', 'val.rec'):
        said = f'{tmp_path}/train.rec is in use: process {os.getpid()} is packing images there'
        with pytest.raises(UserError, match=re.escape(said)), alone(tmp_path, 'packing images', 'train.rec'):
            pass
        assert sorted(os.listdir(tmp_path)) == ['.train.rec.lock', '.val.rec.lock']
    assert os.listdir(tmp_path) == []


def test_what_came_into_the_folder_stays_and_a_lock_that_was_removed_is_another(tmp_path):
    with alone(tmp_path / 'a' / 'b', 'training'):
        (tmp_path / 'a' / 'b' / '.lock').unlink()
        with alone(tmp_path / 'a' / 'b', 'training'):
            (tmp_path / 'a' / 'b' / 'file').touch()
    assert os.listdir(tmp_path / 'a' / 'b') == ['file']


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / 'precious').write_text('content')
    (tmp_path / '.lock').symlink_to('precious')
    with pytest.raises(UserError, match=r'cannot write .*\.lock'), alone(tmp_path, 'training'):
        pass
    assert (tmp_path / 'precious').read_text() == 'content'


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot create the folder'), alone(tmp_path / 'file' / 'run', 'training'):
        pass
