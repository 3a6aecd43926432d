"""Files that are replaced together: all or none, whatever goes wrong."""

import os

import pytest

from common import files
from common.together import written_together
from environment import UserError
from tests.training.small_disk import available, on_small_disk
from tests.training.test_disk_full import file_size_limit


def write_all(folder, text):
    with written_together() as new:
        new.make_folder(folder / 'sub')
        new.write(folder / 'a', lambda file: file.write(text.encode()))
        new.write_text(folder / 'sub' / 'b', text * 2)
        new.write_json(folder / 'c.json', text * 3)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))


def test_all_are_written(tmp_path):
    for text in ('old', 'new'):
        write_all(tmp_path / 'x', text)
        assert contents(tmp_path / 'x') == {'a': text, 'sub/b': text * 2, 'c.json': f'"{text * 3}"\n'}
        assert names(tmp_path / 'x') == ['a', 'c.json', 'sub', 'sub/b']


@pytest.mark.parametrize('limit', [0, 3, 6])
def test_what_cannot_be_written_changes_nothing(limit, tmp_path):
    write_all(tmp_path / 'x', 'old')
    before = contents(tmp_path)
    for folder in ('x', 'y'):
        with file_size_limit(limit), pytest.raises(
            UserError, match=f'cannot write {tmp_path / folder}/.*: the file would'
        ):
            write_all(tmp_path / folder, 'new')
    assert contents(tmp_path) == before
    assert names(tmp_path) == ['x', 'x/a', 'x/c.json', 'x/sub', 'x/sub/b']


def test_an_error_in_the_block_changes_nothing(tmp_path):
    (tmp_path / 'a').write_text('old')

    def fail():
        with written_together() as new:
            new.make_folder(tmp_path / 'x' / 'y')
            new.write_text(tmp_path / 'a', 'new')
            assert (new.beside(tmp_path) / 'a').read_text() == 'new'
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(tmp_path) == ['a']
    assert (tmp_path / 'a').read_text() == 'old'


def test_what_took_its_place_is_put_back_if_another_file_cannot(tmp_path, monkeypatch):
    write_all(tmp_path, 'old')
    (tmp_path / 'sub' / 'b').unlink()
    before = contents(tmp_path)
    honest = os.replace

    def replace(source, target):
        if os.path.basename(target) == 'c.json' and not source.endswith('.old'):
            raise PermissionError(1, 'not permitted', target)
        honest(source, target)

    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(UserError, match=r'cannot write .*/c\.json: the operation is not permitted'):
        write_all(tmp_path, 'new')
    assert contents(tmp_path) == before


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(UserError, match=f'cannot write {tmp_path}/a: it is a folder'):
        write_all(tmp_path, 'new')
    assert names(tmp_path) == ['a']
    (tmp_path / 'file').write_text('')
    with written_together() as new, pytest.raises(UserError, match='there is a file of that name'):
        new.make_folder(tmp_path / 'file')


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'target').write_text('old')
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere' / 'target')
    reader, writer = os.pipe()
    with written_together() as new:
        new.write_text(tmp_path / 'link', 'new')
        new.write_text(f'/dev/fd/{writer}', 'said')
        new.remove(tmp_path / 'link')
        new.remove(tmp_path / 'absent')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'elsewhere' / 'target').read_text() == 'new'
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == 'said'


def test_the_last_writing_of_a_file_counts_and_unwanted_ones_go_in_the_end(tmp_path):
    (tmp_path / 'unwanted').write_text('old')
    with written_together() as new:
        new.write_text(tmp_path / 'a', 'first')
        new.write_text(tmp_path / 'a', 'second')
        new.remove(tmp_path / 'unwanted')
        assert (tmp_path / 'unwanted').exists()
    assert contents(tmp_path) == {'a': 'second'}


def test_the_hidden_folder_of_a_killed_process_goes_with_the_next_write(tmp_path):
    stale = tmp_path / '.new.1-0.part'.replace('.1-', f'.{2**22 + 1}-')  # no process ID is as large
    stale.mkdir()
    (stale / 'a').write_text('half')
    files.write_text(tmp_path / 'b', 'whole')
    assert names(tmp_path) == ['b']


@pytest.mark.skipif(not available(), reason='no name spaces here to mount a small disk in')
def test_a_disk_that_is_really_full():
    done = on_small_disk(
        300,
        """
from environment import UserError
from common.together import written_together
def write(size):
    with written_together() as new:
        for name in 'abc':
            new.write(disk / 'out' / name, lambda file: file.write(bytes([size % 251]) * size))
(disk / 'out').mkdir()
write(4096)
old = {path.name: path.read_bytes() for path in (disk / 'out').iterdir()}
results = []
for free in range(0, 40000, 4096):
    fill(disk, free)
    try:
        write(5000)
        results.append('written')
        break
    except UserError as error:
        assert 'the disk is full' in str(error) and str(disk / 'out') in str(error), error
        assert {path.name: path.read_bytes() for path in (disk / 'out').iterdir()} == old
        results.append('refused')
print(sorted(set(results)))
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['refused', 'written']\n"
