"""Downloads from a server that cuts, forgets and lies: complete or not at all, resumed, by one process at a time."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import download as module
from common.download import Checksum, check_file, download
from environment import UserError
from tests.servers import server

ROOT = Path(__file__).resolve().parents[2]
CONTENT = np.random.RandomState(0).bytes(3_000_000)
SHA256 = Checksum('sha256', hashlib.sha256(CONTENT).hexdigest()[:8])
REMEDY = 'put it there by other means'


@pytest.fixture
def site(monkeypatch):
    for proxy in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(module, 'PAUSE', 0)
    monkeypatch.setattr(module, 'BLOCK', 1 << 16)
    with server() as (served, url):
        served.files['w.pth'] = CONTENT
        yield served, f'{url}/w.pth'


def only(path):
    """Return whether the file is alone in its folder."""
    return [each.name for each in path.parent.iterdir()] == [path.name]


def ranges(served):
    return [asked for _, asked in served.asked]


def test_a_file_comes_once(site, tmp_path, capfd):
    served, url = site
    path = tmp_path / 'new' / 'w.pth'
    download(url, path, SHA256, REMEDY)
    assert path.read_bytes() == CONTENT
    assert only(path)
    assert 'w.pth: 100%' in capfd.readouterr().err
    download(url, path, SHA256, REMEDY)
    assert ranges(served) == [None]


def test_what_was_cut_is_gone_on_with_at_once(site, tmp_path):
    served, url = site
    served.cuts = [1_000_000, None]
    path = tmp_path / 'w.pth'
    download(url, path, SHA256, REMEDY)
    assert path.read_bytes() == CONTENT
    assert only(path)
    assert ranges(served) == [None, 'bytes=1000000-']


def test_or_by_the_next_start(site, tmp_path):
    served, url = site
    served.cuts = [1_000_000, *[0] * module.TRIES]
    path = tmp_path / 'w.pth'
    with pytest.raises(UserError, match=f'(?s)cannot download {url} .*1000000 bytes are kept.*{REMEDY}'):
        download(url, path, SHA256, REMEDY)
    assert not path.exists()
    download(url, path, SHA256, REMEDY)
    assert path.read_bytes() == CONTENT
    assert only(path)
    assert set(ranges(served)[1:]) == {'bytes=1000000-'}


def test_a_file_that_changed_meanwhile_is_begun_anew(site, tmp_path):
    served, url = site
    served.cuts = [1_000_000, *[0] * module.TRIES]
    path = tmp_path / 'w.pth'
    with pytest.raises(UserError):
        download(url, path, None, REMEDY)
    served.files['w.pth'], served.state = CONTENT[::-1], '"2"'
    download(url, path, None, REMEDY)
    assert path.read_bytes() == CONTENT[::-1]


def test_pieces_of_two_files_are_not_taken_for_one(site, tmp_path):
    served, url = site
    served.files['w.pth'] = b'\0' * 2_000_000
    served.cuts = [1_000_000, *[0] * module.TRIES]
    path = tmp_path / 'w.pth'
    with pytest.raises(UserError):
        download(url, path, SHA256, REMEDY)
    served.files['w.pth'] = CONTENT  # the server claims that it is unchanged
    download(url, path, SHA256, REMEDY)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file(site, tmp_path):
    served, url = site
    served.cuts = [1_000_000, *[0] * module.TRIES]
    path = tmp_path / 'w.pth'
    with pytest.raises(UserError):
        download(url, path, None, REMEDY)
    served.files['w.pth'] = CONTENT[:1000]
    download(url, path, None, REMEDY)
    assert path.read_bytes() == CONTENT[:1000]


def test_a_server_that_sends_no_parts(site, tmp_path):
    served, url = site
    served.ranges, served.cuts = False, [1_000_000, 1_000_000, None]
    path = tmp_path / 'w.pth'
    download(url, path, SHA256, REMEDY)
    assert path.read_bytes() == CONTENT
    assert set(ranges(served)) == {None}
    path.unlink()
    served.cuts = [1_000_000] * 9
    with pytest.raises(UserError, match='it broke off after 1000000 of 3000000 bytes'):
        download(url, path, SHA256, REMEDY)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_no_length(site, tmp_path):
    served, url = site
    served.length, served.ranges = False, False
    download(url, tmp_path / 'w.pth', SHA256, REMEDY)
    assert (tmp_path / 'w.pth').read_bytes() == CONTENT


def test_it_follows_where_it_is_sent(site, tmp_path):
    served, url = site
    served.moved['old'] = url
    served.cuts = [1_000_000, None]
    download(url.replace('w.pth', 'old'), tmp_path / 'w.pth', SHA256, REMEDY)
    assert (tmp_path / 'w.pth').read_bytes() == CONTENT
    assert served.asked[2:] == [('old', 'bytes=1000000-'), ('w.pth', 'bytes=1000000-')]


def test_another_file_is_refused(site, tmp_path):
    served, url = site
    served.files['w.pth'] = CONTENT + b'x'
    with pytest.raises(UserError, match=f'different.*3000001 bytes.*SHA256 .* instead of {SHA256.value}.*{REMEDY}'):
        download(url, tmp_path / 'w.pth', SHA256, REMEDY)
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_is_no_file(site, tmp_path):
    served, url = site
    served.pages.add('w.pth')
    with pytest.raises(UserError, match=f'cannot download .*the server sent a web page instead.*{REMEDY}'):
        download(url, tmp_path / 'w.pth', None, REMEDY)


@pytest.mark.parametrize(
    ('url', 'words'),
    [
        ('http://127.0.0.1:1/w.pth', 'refused'),
        ('http://no-such-host.invalid/w.pth', 'Name|name|resolution'),
        ('http://[/w.pth', 'cannot download'),
        ('weights/w.pth', 'unknown url type'),
    ],
)
def test_no_network_is_one_sentence(site, tmp_path, url, words):
    with pytest.raises(UserError, match=words) as caught:
        download(url, tmp_path / 'new' / 'w.pth', None, REMEDY)
    assert str(caught.value).endswith(REMEDY)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'new').exists()


def test_no_such_file_there(site, tmp_path):
    _, url = site
    with pytest.raises(UserError, match=r'x \(404 Not Found\); put it'):
        download(f'{url}x', tmp_path / 'w.pth', None, REMEDY)


def test_a_server_that_falls_silent(site, tmp_path, monkeypatch):
    class Silent:
        status, headers = 200, module.http.client.HTTPMessage()

        def read(self, size):
            raise TimeoutError('timed out')

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

    monkeypatch.setattr(module, '_open', lambda *args: Silent())
    with pytest.raises(UserError, match=r'cannot download .*timed out'):
        download(site[1], tmp_path / 'w.pth', None, REMEDY)


def test_a_full_disk_is_not_blamed_on_the_network(site, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, 'fsync', full)
    with pytest.raises(UserError, match=r'cannot write .*the disk is full'):
        download(site[1], tmp_path / 'w.pth', SHA256, REMEDY)


def test_two_processes_fetch_it_once(site, tmp_path):
    served, url = site
    code = (
        'import sys; from pathlib import Path; from common.download import Checksum, download\n'
        f'download(sys.argv[1], Path(sys.argv[2]), Checksum({SHA256.kind!r}, {SHA256.value!r}), "?")'
    )
    command = [sys.executable, '-c', code, url, str(tmp_path / 'w.pth')]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len(served.asked) == 1
    assert (tmp_path / 'w.pth').read_bytes() == CONTENT
    assert only(tmp_path / 'w.pth')


@pytest.mark.parametrize(
    ('kind', 'value'),
    [
        ('md5', '900150983cd24fb0d6963f7d28e17f72'),
        ('sha1', 'a9993e364706816aba3e25717850c26c9cd0d89d'),
        ('sha256', 'ba7816bf'),
        ('git', 'f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f'),  # git hash-object
    ],
)
def test_checksums(tmp_path, kind, value):
    path = tmp_path / 'abc'
    path.write_bytes(b'abc')
    check_file(path, Checksum(kind, value))
    path.write_bytes(b'abd')
    with pytest.raises(UserError, match=f'abc has the .* instead of {value}.*delete it'):
        check_file(path, Checksum(kind, value))
