"""ImageLoader: the contract of `Loader` with any number of threads; damaged images are reported and replaced."""

import logging
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.classification.cache import ImageCache, make_cache
from data.classification.image_loader import ImageLoader
from data.classification.imagenet import imagenet_preprocessing, images_per_second, noise_sources
from data.classification.sources import record_source
from data.pixels import shrink
from data.prefetch import prefetch
from data.preprocessing import Preprocessing
from environment import UsageError, UserError
from environment.machine_memory import free_memory
from tests.data.classification.conftest import of_folders, of_records
from tests.data.conftest import make_jpeg, write_rec
from tests.data.loaders import image_loader as make_image_loader
from tests.data.loaders import loaders_of as make_loaders_of

TINY = Preprocessing(8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), resize=10)


@pytest.fixture(scope='module')
def source(tmp_path_factory, jpegs):
    path = tmp_path_factory.mktemp('records') / 'train.rec'
    write_rec(path, jpegs)
    return record_source(path, None, 'train', TINY)


def passed(loader, epoch, start=0):
    """Return all valid rows of an epoch: data and labels."""
    parts = [(data[:n], labels[:n]) for _, data, labels, n in loader.batches(epoch, start)]
    return [np.concatenate(part) for part in zip(*parts)]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2**64 - 1),
    st.integers(0, 99),
)
def test_an_image_depends_on_seed_epoch_and_index_alone(source, batch, other, ranks, threads, seed, epoch):
    whole = make_image_loader(source, batch, True, seed, shuffle=True, threads=1)
    by_image = dict(zip(whole.order(epoch).tolist(), zip(*passed(whole, epoch))))
    assert len(by_image) == len(source)
    met = []
    for rank in range(ranks):
        part = make_image_loader(
            source, other, True, seed, shuffle=True, rank=rank, size=ranks, threads=threads, ahead=threads
        )
        order = part.order(epoch).tolist()
        met += order
        for index, data, label in zip(order, *passed(part, epoch)):
            np.testing.assert_array_equal(data, by_image[index][0])
            assert label == by_image[index][1] == source.labels[index]
    assert sorted(met) == list(range(len(source)))


@pytest.mark.parametrize('last', ['discard', 'keep', 'pad'])
@pytest.mark.parametrize('start', [0, 1, 4, 5, 9])
def test_a_resumed_epoch_is_the_tail_of_the_whole(source, last, start):
    whole = list(make_image_loader(source, 5, True, 3, shuffle=True, last=last, threads=2).batches(7))
    tail = list(make_image_loader(source, 5, True, 3, shuffle=True, last=last, threads=3).batches(7, start))
    assert [b[0] for b in tail] == list(range(start, len(whole)))
    for (_, data, labels, n), (_, data2, labels2, n2) in zip(whole[start:], tail):
        np.testing.assert_array_equal(data, data2)
        np.testing.assert_array_equal(labels, labels2)
        assert (n, data.dtype, labels.dtype) == (n2, np.float32, np.int64)


def test_scoring_gives_every_image_once_as_prediction_sees_it(source, jpegs, tmp_path):
    loader = make_image_loader(source, 5, last='pad', threads=2)
    batches = list(loader.batches(0))
    assert [data.shape for _, data, _, _ in batches] == [(5, 3, 8, 8)] * 5
    assert [n for *_, n in batches] == [5, 5, 5, 5, 3]
    data, labels = passed(loader, 0)
    for i, content in enumerate(jpegs):
        (tmp_path / 'a.jpg').write_bytes(content)
        np.testing.assert_array_equal(data[i], TINY.image(tmp_path / 'a.jpg')[0])
    assert labels.tolist() == source.labels.tolist()
    _, padded, fill, n = batches[-1]
    np.testing.assert_array_equal(padded[n:], np.repeat(TINY.batch(np.zeros((1, 8, 8, 3), np.uint8)), 2, axis=0))
    assert fill[n:].tolist() == [0, 0]
    ranks = [make_image_loader(source, 5, last='pad', rank=r, size=4, threads=1) for r in range(4)]
    assert len({len(rank) for rank in ranks}) == 1
    assert sum(n for rank in ranks for *_, n in rank.batches(0)) == 23


@pytest.fixture
def damaged(tmp_path, jpegs):
    """Make 23 records with right checksums, of which 2 and 7 are not JPEGs, and 22, the last, is cut off."""
    images = list(jpegs)
    images[2], images[7], images[22] = b'not an image', jpegs[7][:200] + jpegs[7][300:][::-1], jpegs[22][:-40]
    write_rec(tmp_path / 'train.rec', images)
    return record_source(tmp_path / 'train.rec', None, 'train', TINY)


def test_a_damaged_image_is_told_and_the_next_one_takes_its_place(damaged, source, caplog):
    arguments = {'augment': True, 'seed': 5, 'shuffle': True, 'threads': 2, 'last': 'discard'}
    loader = make_image_loader(damaged, 4, max_bad=3, **arguments)
    with caplog.at_level(logging.WARNING):
        batches = list(loader.batches(0)) + list(loader.batches(1))
    assert [n for *_, n in batches] == [4] * 10
    assert [f'record {i} of' in sentence for i, sentence in zip((2, 7, 22), loader.bad.sentences)] == [True] * 3
    assert len(caplog.records) == 3  # once each, not once per epoch
    intact = list(make_image_loader(source, 4, **arguments).batches(0))
    for batch, (_, data, labels, _), (_, wanted, expected, _) in zip(range(5), batches, intact):
        for row, index in enumerate(loader.order(0)[4 * batch : 4 * batch + 4]):
            if index in (2, 7, 22):
                assert labels[row] == source.labels[{2: 3, 7: 8, 22: 0}[index]]
            else:
                np.testing.assert_array_equal(data[row], wanted[row])
                assert labels[row] == expected[row]
    again = make_image_loader(damaged, 4, max_bad=3, **{**arguments, 'threads': 4})
    for one, other in zip(again.batches(0), batches):
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize('last', ['keep', 'pad'])
def test_scoring_leaves_damaged_images_out(damaged, source, last):
    loader = make_image_loader(damaged, 4, last=last, threads=2, max_bad=3)
    data, labels = passed(loader, 0)
    kept = [i for i in range(23) if i not in (2, 7, 22)]
    np.testing.assert_array_equal(data, passed(make_image_loader(source, 4), 0)[0][kept])
    assert labels.tolist() == source.labels[kept].tolist()
    shapes = {len(data) for _, data, _, _ in loader.batches(0)}
    assert shapes == ({4} if last == 'pad' else {4, 3, 2})


def test_too_many_damaged_images_stop_the_run(damaged):
    loader = make_image_loader(damaged, 4, True, threads=2, max_bad=2, shuffle=True)
    with pytest.raises(UserError, match=r'3 images of .*rec cannot be used, .* allow 2 of 23: record \d+ of'):
        list(loader.batches(0))
    with pytest.raises(UserError, match='--max-bad 0 .* allow 0 of 23'):
        list(make_image_loader(damaged, 4, last='pad').batches(0))


def test_no_image_at_all(tmp_path):
    write_rec(tmp_path / 'train.rec', [b'x'] * 4)
    source = record_source(tmp_path / 'train.rec', None, 'train', TINY)
    with pytest.raises(UserError, match='no image of .* can be read'):
        list(make_image_loader(source, 2, True, max_bad=100).batches(0))
    assert [n for *_, n in make_image_loader(source, 2, last='pad', max_bad=100).batches(0)] == [0, 0]


def test_caches(source, jpegs):
    plain = make_image_loader(source, 4, True, 1, shuffle=True, threads=2)
    cached = make_image_loader(source, 4, True, 1, shuffle=True, threads=2, cache='auto')
    scored = make_image_loader(source, 4, threads=2, cache='auto')
    for epoch in range(2):  # decoded, then from memory
        np.testing.assert_array_equal(passed(cached, epoch)[0], passed(plain, epoch)[0])
        np.testing.assert_array_equal(passed(scored, 0)[0], passed(make_image_loader(source, 4), 0)[0])
    assert all(cached.cache.get(i) is not None for i in range(23))
    assert all(scored.cache.get(i).shape == (8, 8, 3) for i in range(23))
    cached.decoder.source = None  # nothing is read any more
    assert cached.decoder.get(3) is cached.cache.get(3)
    assert plain.cache is None
    with pytest.raises(UserError, match='--cache on must be one of off, auto, 256'):
        make_image_loader(source, 4, cache='on')


def test_prepared_images_have_a_short_side_of_256(tmp_path):
    write_rec(tmp_path / 'a.rec', [make_jpeg(0, 300, 600), make_jpeg(1, 100, 400)])
    source = record_source(tmp_path / 'a.rec', None, 'train', TINY)
    loader = make_image_loader(source, 2, True, cache='256', threads=1)
    first = passed(loader, 0)[0]
    assert loader.cache.get(0).shape == (256, 512, 3)
    assert loader.cache.get(1).shape == (100, 400, 3)
    np.testing.assert_array_equal(passed(loader, 0)[0], first)
    full = make_image_loader(source, 2, True, cache='off', threads=1)
    assert not np.array_equal(passed(full, 0)[0][0], first[0])
    assert shrink(np.zeros((512, 300, 3), np.uint8), 256).shape == (437, 256, 3)


def test_a_cache_stops_at_its_limit(source, monkeypatch):
    cache = ImageCache(3, 250)
    for i in (0, 1, 2, 0):
        cache.put(i, np.zeros(100, np.uint8))
    assert [cache.get(i) is not None for i in range(3)] == [True, True, False]
    assert cache.taken == 200
    assert 0 < free_memory() < 2**50
    monkeypatch.setattr('data.classification.cache.free_memory', lambda: 2000)
    assert make_cache('auto', source) is None


def test_limits_and_classes(rec):
    data = of_records(rec, limit_train=9, limit_val=7, classes=5)
    assert (len(data.train.dataset), len(data.val.dataset), data.classes) == (9, 7, 5)
    assert data.class_names == ('0', '1', '2', '3', '4')
    with pytest.raises(UserError, match=r'record 2 of .* has the label 2 \(7 of 23 are like this\)'):
        of_records(rec, classes=2)
    names = rec.with_name('classes.txt')
    names.write_text('ant\nbee\ncow\n')
    assert of_records(rec).class_names == ('ant', 'bee', 'cow')
    assert of_records(rec, classes=4).class_names == ('ant', 'bee', 'cow', '3')
    for content, reason in (('ant\nbee\n', 'has the label 2'), ('a\na\nb\n', 'names a class twice')):
        names.write_text(content)
        with pytest.raises(UserError, match=reason):
            of_records(rec)
    names.unlink()
    with pytest.raises(UsageError, match='--batch-size makes 24 images'):
        of_records(rec, batch_size=24)
    moved = rec.rename(rec.with_name('other.rec'))
    index = rec.with_suffix('.idx')
    assert of_records(moved, train_idx=index, val_idx=index).classes == 3
    with pytest.raises(UserError, match=r'other\.rec needs its index'):
        of_records(moved)
    with pytest.raises(UsageError, match='--crop-ratio'):
        of_records(moved, crop_ratio=0)


def test_names_from_either_file(tmp_path, jpegs):
    for split, labels in (('train', [0, 1, 2]), ('val', [1, 0])):
        (tmp_path / split).mkdir()
        write_rec(tmp_path / split / 'a.rec', jpegs[: len(labels)], labels)
    files = [tmp_path / split / 'a.rec' for split in ('train', 'val')]
    names = {split: tmp_path / split / 'classes.txt' for split in ('train', 'val')}
    for split in ('train', 'val'):
        names[split].write_text('ant\nbee\ncow\n')
        data = of_records(*files)
        assert data.class_names == data.val.dataset.class_names == ('ant', 'bee', 'cow')
        assert data.val.dataset.labels.tolist() == [1, 0]
        names[split].unlink()
    names['train'].write_text('ant\nbee\ncow\n')
    names['val'].write_text('bee\ncow\nant\n')
    assert of_records(*files).val.dataset.labels.tolist() == [2, 1]
    names['val'].write_text('bee\nowl\ncow\n')
    with pytest.raises(UserError, match="has the class 'owl'"):
        of_records(*files)


def test_a_folder_of_class_folders(tmp_path, jpegs):
    for split, classes in (('train', 'abc'), ('val', 'ca')):
        for k, name in enumerate(classes):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / split / name / f'{i}.JPEG').write_bytes(jpegs[4 * k + i])
    (tmp_path / 'train' / 'a' / 'notes.txt').write_text('no image')
    (tmp_path / 'train' / 'empty').mkdir()
    data = of_folders(tmp_path, threads=2)
    assert (data.class_names, data.train.dataset.labels.tolist()) == (('a', 'b', 'c'), [0, 0, 1, 1, 2, 2])
    assert passed(data.val, 0)[1].tolist() == [0, 0, 2, 2]
    wider = of_folders(tmp_path, 5)
    assert (wider.classes, wider.class_names) == (5, ('a', 'b', 'c', '3', '4'))
    with pytest.raises(UserError, match='has 3 class folders and 2 classes are asked for'):
        of_folders(tmp_path, 2)
    (tmp_path / 'train' / 'a' / '1.JPEG').unlink()
    with pytest.raises(UserError, match=r'allow 0 of \d+: .*a/1.JPEG cannot be read \(No such file'):
        list(make_image_loader(data.train.dataset, 2, True).batches(0))
    (tmp_path / 'val' / 'd').mkdir()
    (tmp_path / 'val' / 'd' / 'x.png').write_bytes(b'')
    with pytest.raises(UserError, match="belongs to the class 'd', which has no folder with images below"):
        of_folders(tmp_path)
    with pytest.raises(UserError, match='is not a folder'):
        of_folders(tmp_path / 'absent')


def test_noise_and_the_speed_of_the_data_alone():
    data = make_loaders_of(*noise_sources(20, 3, imagenet_preprocessing(16)), 8, threads=2)
    assert passed(data.val, 0)[0].shape == (20, 3, 16, 16)
    asked = []

    class Slow(ImageLoader):
        def batches(self, epoch, start=0):
            for batch in super().batches(epoch, start):
                asked.append((epoch, batch[0]))
                time.sleep(0.02)
                yield batch

    data.train.__class__ = Slow
    speed = images_per_second(data.train, 5)
    assert asked == [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert 0 < speed < 8 / 0.02
    with pytest.raises(ValueError, match='batches 0'):
        images_per_second(data.train, 0)


@pytest.mark.parametrize('wrong', [{'threads': 0}, {'ahead': 0}])
def test_wrong_arguments(source, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_image_loader(source, 4, **wrong)


def counted(first=0, end=20, threads=3, ahead=2, work=lambda batch, row: None):
    begun = []

    def begin(number):
        begun.append(number)
        return [number], number % 4

    return begun, prefetch(begin, work, first, end, threads, ahead)


def test_no_more_batches_are_begun_than_allowed():
    begun, batches = counted(first=3)
    assert begun == []
    for number, batch in enumerate(batches, 3):
        assert batch == [number]
        assert begun == list(range(3, min(number + 3, 20)))


def test_all_rows_are_worked_on_once_and_before_their_batch_comes():
    done = []
    _, batches = counted(work=lambda batch, row: (time.sleep(0.0005), done.append((batch[0], row))))
    for (number,) in batches:
        assert {(number, row) for row in range(number % 4)} <= set(done)
    assert len(done) == len(set(done)) == sum(n % 4 for n in range(20))


def test_an_error_in_a_thread_reaches_the_consumer():
    def work(batch, row):
        if batch == [5]:
            raise MemoryError('no room')

    before = threading.active_count()
    with pytest.raises(MemoryError, match='no room'):
        list(counted(work=work)[1])
    assert threading.active_count() == before


def test_leaving_the_iterator_ends_its_threads(source):
    before = threading.active_count()
    batches = make_image_loader(source, 2, True, threads=3).batches(0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before
    for _ in make_image_loader(source, 2, True, threads=3).batches(0):
        break
    assert threading.active_count() == before
