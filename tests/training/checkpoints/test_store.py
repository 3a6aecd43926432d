"""The folder of a run's checkpoints: which are kept, and which is the newest that is intact."""

import logging
import os

import pytest

from environment import UserError
from training.checkpoints import checkpoint
from training.checkpoints.checkpoint import CheckpointStore, write_checkpoint

from .test_checkpoint import HEAD, sealed


def names(store):
    return [path.name for path in store.paths()]


def test_a_store_without_files_has_nothing_and_makes_no_folder(tmp_path):
    store = CheckpointStore(tmp_path / 'checkpoints')
    assert store.load_newest() is None
    assert store.paths() == []
    assert os.listdir(tmp_path) == []


def test_the_newest_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / 'run' / 'checkpoints', keep=2)
    for batch in range(5):
        path = store.save({'batch': batch}, epoch=1, batch=batch)
    assert names(store) == [f'checkpoint-00000{n + 1}-epoch-001-batch-00000{n}.ckpt' for n in (4, 3)]
    assert store.load_newest() == ({'batch': 4}, path)
    assert len(os.listdir(store.folder)) == 2


def test_the_newest_is_the_last_saved_also_after_going_back(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save('far', epoch=9, batch=0)
    store.save('back', epoch=2, batch=5)
    assert CheckpointStore(tmp_path).load_newest()[0] == 'back'


def test_more_than_a_million_checkpoints_are_in_order(tmp_path):
    write_checkpoint(tmp_path / 'checkpoint-999999-epoch-001-batch-000001.ckpt', 'old')
    store = CheckpointStore(tmp_path)
    store.save('new', epoch=1000, batch=10_000_000)
    assert store.load_newest()[0] == 'new'


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    others = ['checkpoint-1.ckpt', 'notes.txt', 'checkpoint-000001-epoch-001-batch-000001.ckpt.bak']
    for name in others:
        (tmp_path / name).write_bytes(b'')
    store = CheckpointStore(tmp_path, keep=1)
    for batch in range(3):
        store.save(batch, epoch=0, batch=batch)
    assert store.load_newest()[0] == 2
    assert sorted(os.listdir(tmp_path)) == sorted([*others, names(store)[0]])


def damage(path, how):
    content = path.read_bytes()
    path.write_bytes(
        {
            'truncated': content[:100],
            'flipped': content[:-1] + bytes([content[-1] ^ 1]),
            'foreign': b'something else',
            'future': sealed(content[HEAD:], version=9),
            'empty': b'',
        }[how]
    )


@pytest.mark.parametrize('how', ['truncated', 'flipped', 'foreign', 'future', 'empty'])
def test_a_damaged_file_is_skipped_with_one_sentence(tmp_path, caplog, how):
    store = CheckpointStore(tmp_path)
    for batch in range(3):
        store.save({'batch': batch}, epoch=0, batch=batch)
    newest, second, _ = store.paths()
    damage(newest, how)
    with caplog.at_level(logging.WARNING):
        assert store.load_newest() == ({'batch': 1}, second)
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert f'skipping {newest}, which ' in caplog.text


def test_a_folder_or_an_unreadable_file_in_a_checkpoints_place_is_skipped(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    store.save('good', epoch=0, batch=0)
    (tmp_path / 'checkpoint-000002-epoch-000-batch-000001.ckpt').mkdir()
    assert store.load_newest()[0] == 'good'
    assert 'Is a directory' in caplog.text


def test_none_intact_is_an_error_that_names_the_folder(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    for batch in range(2):
        damage(store.save('x', epoch=0, batch=batch), 'flipped')
    with pytest.raises(UserError, match='none of the 2 checkpoints in') as caught:
        store.load_newest()
    assert str(tmp_path) in str(caught.value)
    assert len(caplog.records) == 2


def test_damaged_files_do_not_push_out_intact_ones(tmp_path, caplog):
    store = CheckpointStore(tmp_path, keep=2)
    intact = store.save('intact', epoch=0, batch=0)
    damaged = store.save('damaged', epoch=0, batch=1)
    damage(damaged, 'truncated')
    assert store.load_newest()[0] == 'intact'
    new = store.save('new', epoch=0, batch=1)
    assert store.paths() == [new, damaged, intact]
    newer = store.save('newer', epoch=0, batch=2)
    assert store.paths() == [newer, new, damaged]


def test_with_one_to_keep_the_old_goes_only_after_the_new_is_complete(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, keep=1)
    old = store.save('old', epoch=0, batch=0)

    def fail(path, write):
        raise UserError('the disk is full')

    monkeypatch.setattr(checkpoint, 'atomic_write', fail)
    with pytest.raises(UserError):
        store.save('new', epoch=0, batch=1)
    assert store.load_newest() == ('old', old)


def test_keep_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match='at least 1'):
        CheckpointStore(tmp_path, keep=0)


def test_a_file_in_the_folders_place_is_a_users_error(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    store = CheckpointStore(tmp_path / 'file')
    with pytest.raises(UserError, match='cannot create the folder'):
        store.save('x', epoch=0, batch=0)
    with pytest.raises(UserError, match='cannot list the folder'):
        store.load_newest()
