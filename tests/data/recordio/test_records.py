"""RecordIO agrees with MXNet's own reader and writer, and every way in which a file can be wrong is reported."""

import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import recordio

from data.recordio.framing import MAGIC, DamagedRecord, content_of, pack, parse
from data.recordio.index import index_text, read_index, read_list
from data.recordio.records import RecordFile, walk
from environment import UserError
from tests.data.conftest import write_rec

WORD = struct.pack('<I', MAGIC)
# Content that may hold the magic number, at multiples of 4 bytes and elsewhere.
CONTENT = st.lists(st.sampled_from([WORD, b'', b'a', b'bc', bytes(4), b'12345678']), max_size=12).map(b''.join)
LABELS = st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=4)


@given(CONTENT, LABELS, st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=150)
def test_records_come_back_from_both_readers(tmp_path_factory, image, labels, number):
    data = pack(np.array(labels), number, image)
    assert len(data) % 4 == 0
    record = parse(data)
    assert (record.labels.tolist(), record.number, bytes(record.image), record.checked) == (labels, number, image, True)
    path = tmp_path_factory.getbasetemp() / 'one.rec'
    path.write_bytes(data * 2)
    reader = recordio.MXRecordIO(str(path), 'r')
    for _ in range(2):
        header, content = recordio.unpack(reader.read())
        assert (np.reshape(header.label, -1).tolist(), header.id, content) == (labels, number, image)
    assert reader.read() is None
    reader.close()
    assert [(offset, fault) for offset, _, fault in walk(path)] == [(0, None), (len(data), None)]


@given(st.lists(st.tuples(CONTENT, st.integers(0, 99)), min_size=1, max_size=5))
@settings(deadline=None, max_examples=50)
def test_files_of_mxnet_are_read(tmp_path_factory, images):
    path = tmp_path_factory.getbasetemp() / 'theirs.rec'
    writer = recordio.MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
    for i, (image, label) in enumerate(images):
        # A single label in the header, or one that follows it.
        header = recordio.IRHeader(0, label if i % 2 else np.array([label]), i, 0)
        writer.write_idx(10 * i, recordio.pack(header, image))
    writer.close()
    file = RecordFile(path)
    assert not file.checked
    assert file.labels.tolist() == [label for _, label in images]
    assert file.keys.tolist() == [10 * i for i in range(len(images))]
    assert [bytes(file.read(i).image) for i in range(len(file))] == [image for image, _ in images]


@given(CONTENT, st.data())
@settings(deadline=None, max_examples=300)
def test_every_flipped_bit_of_a_record_is_found(image, data):
    whole = pack(np.array([7]), 12, image)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        record = parse(bytes(damaged))
    except DamagedRecord:
        return
    # Only the tag that announces a checksum can be lost; a file in which other records have one is then refused.
    assert not record.checked
    assert bit // 8 in range(28, 32)


def test_frames_that_cannot_be():
    part = lambda kind, content: struct.pack('<II', MAGIC, kind << 29 | len(content)) + content  # noqa: E731
    assert bytes(content_of(part(1, b'abcd') + part(2, b'') + part(3, b'efgh'))) == b'abcd' + WORD + WORD + b'efgh'
    for wrong, reason in (
        (b'', 'ends inside a frame'),
        (part(1, b'abcd'), 'ends inside a frame'),
        (part(2, b'abcd'), 'kind 2'),
        (part(4, b'abcd'), 'kind 4'),
        (part(1, b'abcd') + part(0, b'abcd'), 'kind 0'),
        (part(0, b'abcd')[:-1], 'beyond its end'),
        (part(0, b'abcd') + part(0, b''), 'before the next record'),
        (part(0, b'abc') + b'x', 'fill it up'),
        (b'x' + part(0, b'abcd')[1:], 'magic'),
    ):
        with pytest.raises(DamagedRecord, match=reason):
            content_of(wrong)
    with pytest.raises(DamagedRecord, match='too few for a header'):
        parse(part(0, b'abcd'))
    with pytest.raises(DamagedRecord, match='announces 4294967295 labels'):
        parse(part(0, b'\xff' * 24))


def test_any_thread_may_read(rec, jpegs):
    file, wrong = RecordFile(rec), []

    def read(seed):
        for i in np.random.RandomState(seed).randint(0, len(jpegs), 300):
            if bytes(file.read(i).image) != jpegs[i]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.checked
    assert wrong == []


def refused(path, index=None):
    with pytest.raises(UserError) as told:
        RecordFile(path, index)
    assert path.name in str(told.value)
    return str(told.value)


def test_files_that_are_refused(rec, jpegs):
    whole, index = rec.read_bytes(), rec.with_suffix('.idx').read_bytes()
    offsets = read_index(rec.with_suffix('.idx'), rec)[1].tolist()
    with pytest.raises(UserError, match=r'absent\.rec'):
        RecordFile(rec.with_name('absent.rec'))
    rec.write_bytes(b'')
    assert 'is empty' in refused(rec)
    rec.write_bytes(whole[: offsets[20]])
    assert 'it is truncated, or the index is stale' in refused(rec)
    rec.write_bytes(whole[:-4])
    assert f'the file ends inside record 22 of {rec}: it is truncated' in refused(rec)
    rec.write_bytes(whole + whole[: offsets[1]])
    assert 'goes on after record 22' in refused(rec)
    rec.write_bytes(whole[: offsets[3]] + whole[offsets[4] :])
    assert 'stale' in refused(rec)
    rec.write_bytes(whole[:1] + b'x' + whole[2:])
    assert f'says that record 0 of {rec} begins at byte 0, where none begins (1 of 23' in refused(rec)
    rec.write_bytes(whole[: offsets[1]] + whole[offsets[2] : offsets[2] + 12] + whole[offsets[1] + 12 :])
    assert 'record 1 of' in refused(rec)

    rec.write_bytes(whole)
    idx = rec.with_suffix('.idx')
    for content, reason in (
        (b'', 'is empty'),
        (b'\n', 'is empty'),
        (index + b'23\n', 'line 24 of the index'),
        (index.replace(b'3\t', b'x\t', 1), 'line 4 of the index'),
        (index.replace(b'3\t', b'-3\t', 1), 'line 4 of the index'),
        (b'0\t99999999999999999999999\n', 'line 1 of the index'),
        (index.replace(b'\n1\t', b'\n2\t', 1), 'names the record 2 twice'),
        (index.replace(b'0\t0\n', b''), 'lacks the first record'),
        (b''.join(index.splitlines(True)[:-1]), 'goes on after record 21'),
        (b''.join(index.splitlines(True)[:5] + index.splitlines(True)[6:]), 'lets the next begin'),
        (index.replace(b'1\t', b'77\t', 1), 'calls a record 77 whose own number is 1'),
    ):
        idx.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            RecordFile(rec)
    idx.unlink()
    assert 'needs its index' in refused(rec)
    other = rec.with_name('other.txt')
    other.write_bytes(index)
    assert len(RecordFile(rec, other)) == 23


@pytest.mark.parametrize('label', [-1, 0.5, float('nan'), float('inf'), 2**24])
def test_labels_that_are_none(tmp_path, jpegs, label):
    write_rec(tmp_path / 'a.rec', jpegs[:3], [0, label, 1])
    assert 'record 1 of' in refused(tmp_path / 'a.rec')


def test_several_labels(tmp_path):
    data = pack(np.array([1, 2]), 0, b'image')
    (tmp_path / 'a.rec').write_bytes(data)
    (tmp_path / 'a.idx').write_bytes(index_text([0], [0]))
    assert 'has 2 labels, and records with several labels are not supported' in refused(tmp_path / 'a.rec')


def test_a_file_that_changes_while_it_is_read(rec):
    file = RecordFile(rec)
    with open(rec, 'r+b') as other:
        other.truncate(3000)
    with pytest.raises(DamagedRecord, match='shorter'):
        file.read(22)
    with open(rec, 'r+b') as other:
        other.write(bytes(100))
    with pytest.raises(DamagedRecord, match='magic'):
        file.read(0)


def test_damage_is_passed_over_without_an_index(rec):
    whole = rec.read_bytes()
    offsets = read_index(rec.with_suffix('.idx'), rec)[1].tolist()
    damaged = bytearray(whole)
    damaged[offsets[5] + 6] ^= 255  # a length
    damaged[offsets[9]] ^= 1  # a magic number
    rec.write_bytes(bytes(damaged[:-8]))
    told = {offset: fault for offset, _, fault in walk(rec)}
    assert set(offsets) <= set(told) | {offsets[9]}
    intact = [offset for offset, fault in told.items() if fault is None]
    assert set(offsets) - set(intact) == {offsets[5], offsets[9], offsets[22]}


NO_LINE = 'is not "number, label, path"'
MALFORMED = [
    *(
        (line, NO_LINE)
        for line in (b'3\ta.jpg', b'3', b'3 1 a.jpg', b'\t\t.', b'3\t1\t', b'3\t1\t ', b'x\t1\tb', b'3\tx\tb')
    ),
    *((line, NO_LINE) for line in (b'-3\t1\tb', b'1_0\t1\tb', b'3.0\t1\tb', b'3\t1_0\tb', b'3\t0x1\tb', b'3\t\tb')),
    *((number + b'\t1\tb', NO_LINE) for number in (b'9' * 19, b'9' * 5000, '\u0663'.encode())),
    *((line, NO_LINE) for line in (b'3\t1\ta\0.jpg', b'3\t1\0\ta', b'\x003\t1\ta', '3\t1\ta'.encode('utf-16'))),
    (b'3\t0\t1\ta', 'has 2 labels, and records with several labels are not supported'),
    (b'3\t-1\ta', 'has the label -1; allowed are whole numbers from 0 to 16777215'),
    (b'3\t0.5\ta', 'has the label 0.5; allowed'),
    (b'3\t1e30\ta', r'has the label 1e\+30; allowed'),
    (b'3\t16777216\ta', 'has the label 16777216; allowed'),
    (b'3\tnan\ta', 'has the label nan; allowed'),
    (b'3\t' + b'9' * 5000 + b'\ta', 'has the label inf; allowed'),
]


def test_lists(tmp_path):
    path = tmp_path / 'a.lst'
    path.write_bytes(b'\xef\xbb\xbf3\t1.000000\ta/b.jpg\r\n\n 5 \t2e0\tc d\xff.jpg')
    assert read_list(path) == [(3, 1.0, 'a/b.jpg'), (5, 2.0, 'c d\udcff.jpg')]
    for content, reason in (
        (b'0\t1\ta\n0\t1\tb\n', 'a.lst has the number 0 twice'),
        *((b'0\t1\ta\n\n' + line + b'\n1\t1\tb', f'line 3 of .*a.lst {why}') for line, why in MALFORMED),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            read_list(path)
