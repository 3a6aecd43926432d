"""Over a thousand damaged files: each is refused before training, or its bad records are reported; none hangs or kills.

Files have checksums, as ours do, or are of MXNet's own kind. In those a flipped bit that leaves a label a label or a
JPEG decodable cannot be known; all other kinds of damage are tried on both.
"""

import faulthandler
import re
import struct

import numpy as np
import pytest
from mxnet import recordio

from data.recordio.framing import MAGIC, pack
from data.recordio.index import index_text, read_index
from environment import UserError
from tests.data.classification.conftest import of_records
from tests.data.conftest import make_jpeg, write_rec

COUNT = 6  # images in a file
FILES = 120  # of each kind
HANG = 300  # seconds


@pytest.fixture(scope='module')
def images():
    return [make_jpeg(i, 12, 12) for i in range(COUNT)]


@pytest.fixture(scope='module', autouse=True)
def no_hang():
    faulthandler.dump_traceback_later(HANG, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def opened(path):
    return of_records(path, threads=2, max_bad=COUNT, classes=3)


def seen(path):
    """Return what a run sees: all batches of one epoch and one validation, and the warnings."""
    data = opened(path)
    batches = [*data.train.batches(0), *data.val.batches(0)]
    content = [(x.tobytes(), labels.tolist(), n) for _, x, labels, n in batches]
    return content, {*data.train.bad.sentences, *data.val.bad.sentences}


@pytest.fixture(scope='module', params=['ours', 'MXNet'])
def whole(request, tmp_path_factory, images):
    """Return (path, bytes of the records, offsets, what a run sees of the intact file, whether there are checksums)."""
    path = tmp_path_factory.mktemp('damage') / 'train.rec'
    write_rec(path, images)
    if request.param == 'MXNet':
        writer = recordio.MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
        for i, image in enumerate(images):
            writer.write_idx(i, recordio.pack(recordio.IRHeader(0, i % 3, i, 0), image))
        writer.close()
    offsets = read_index(path.with_suffix('.idx'), path)[1].tolist()
    content, told = seen(path)
    assert told == set()
    return path, path.read_bytes(), offsets, content, request.param == 'ours'


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def outcome(whole, data, index=None):
    """Return 'refused', 'told' or 'same'; any other outcome fails the test."""
    path, _, offsets, content, _ = whole
    path.write_bytes(data)
    path.with_suffix('.idx').write_bytes(index_text(range(COUNT), offsets) if index is None else index)
    refusal = ''
    try:
        now, told = seen(path)
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert str(path) in refusal or str(path.with_suffix('.idx')) in refusal
        assert '\n' not in refusal
        return 'refused'
    if told:
        assert all(re.match(rf'record [0-5] of {path} ', sentence) for sentence in told)
        return 'told'
    assert now == content, 'a damaged file gives other batches, and nothing is said'
    return 'same'


def test_flipped_bits(whole):
    path, data, offsets, _, checked = whole
    random = np.random.RandomState(0)
    bits = random.randint(0, 8 * len(data), 3 * FILES)
    if not checked:  # frames and the number of labels
        heads = [8 * offset + bit for offset in offsets for bit in range(8 * 12)]
        bits = random.choice(heads, FILES, replace=False)
    results = [outcome(whole, flipped(data, int(bit))) for bit in bits]
    if checked:
        assert 'same' not in results
        assert {'refused', 'told'} <= set(results)


def test_flipped_labels_that_stay_labels(whole):
    """A wrong label within the range of classes is only noticed by a checksum."""
    path, data, offsets, _, checked = whole
    if not checked:
        pytest.skip('such a file does not tell')
    for i, offset in enumerate(offsets):
        other = struct.pack('<f', (i + 1) % 3)
        assert outcome(whole, data[: offset + 12] + other + data[offset + 16 :]) == 'told'


def test_truncated_files(whole):
    _, data, _, _, _ = whole
    for end in np.random.RandomState(1).randint(0, len(data), FILES):
        assert outcome(whole, data[:end]) == 'refused'


def test_wrong_magic_and_lengths(whole):
    _, data, offsets, _, _ = whole
    random = np.random.RandomState(2)
    for _ in range(FILES):
        offset = offsets[random.randint(COUNT)]
        at, value = [(offset, random.randint(2**32)), (offset + 4, random.randint(2**32)), (offset + 4, 0),
                     (offset + 4, 2**29 - 1), (offset, 0), (offset + 4, len(data))][random.randint(6)]  # fmt: skip
        assert outcome(whole, data[:at] + struct.pack('<I', value) + data[at + 4 :]) == 'refused'


def test_stale_and_empty_indices(whole):
    _, data, offsets, _, _ = whole
    random = np.random.RandomState(3)
    for i in range(FILES):
        wrong = list(offsets)
        keys = list(range(COUNT))
        kind = i % 6
        if kind == 0:
            wrong[random.randint(COUNT)] += 4 * random.randint(1, 200) * (1 if random.rand() < 0.5 else -1)
        elif kind == 1:  # from a file with one record more or fewer
            cut = random.randint(COUNT)
            del wrong[cut], keys[cut]
        elif kind == 2:
            wrong.append(len(data) + 4 * random.randint(100))
            keys.append(COUNT)
        elif kind == 3:
            wrong = [offset + 4 * random.randint(1, 50) for offset in wrong]
        elif kind == 4:
            keys[random.randint(1, COUNT)] = 0
        text = index_text(keys, wrong)
        if kind == 5:
            text = [b'', b'\n\n', text[: random.randint(1, 8)], text[:-1] + b'x', bytes(50), b'\xff' * 9][
                random.randint(6)
            ]
        assert outcome(whole, data, text) == 'refused'


def test_flipped_bits_of_the_index(whole):
    _, data, offsets, _, checked = whole
    text = index_text(range(COUNT), offsets)
    for bit in range(0, 8 * len(text), 3):
        result = outcome(whole, data, flipped(text, bit))
        # Where a record does not store its own number, a key is only a name. A tab may become another kind of space.
        assert result == 'refused' or (result == 'same' and (not checked or text[bit // 8 : bit // 8 + 1] in b'\t\n'))


@pytest.mark.parametrize('checked', [True, False])
def test_damaged_jpegs_with_sound_frames(tmp_path, images, checked):
    """Images as somebody careless packs them: cut off, torn, overwritten, of another format or of none."""
    random, path = np.random.RandomState(4), tmp_path / 'train.rec'
    write_rec(path, images)
    content = seen(path)[0]
    for _ in range(FILES):
        k, damaged = random.randint(COUNT), list(images)
        image = images[k]
        cut = random.randint(len(image))
        damaged[k] = [
            image[:cut],
            image[cut:],
            random.bytes(cut),
            b'',
            image[:2] + random.bytes(cut) + image[-2:],
            b'\x89PNG\r\n\x1a\n' + image[:cut],
            image[: cut // 8] + random.bytes(len(image) - cut // 8 - 2) + image[-2:],
        ][random.randint(7)]
        records = [pack(np.array([i % 3]), i, image) for i, image in enumerate(damaged)]
        if not checked:
            records = [record[:24] + bytes(8) + record[32:] for record in records]
        path.write_bytes(b''.join(records))
        path.with_suffix('.idx').write_bytes(index_text(range(COUNT), np.cumsum([0, *map(len, records)])[:-1]))
        now, told = seen(path)
        # Random bytes between intact tables may decode to an image, though a bad one.
        assert len(told) == 1 or now != content
        assert all(f'record {k} of {path}' in sentence for sentence in told)


def test_labels_out_of_range(tmp_path, images):
    path = tmp_path / 'train.rec'
    for label in [3, 4, 1000, 2**23, -1, -0.5, 0.5, 1.25, float('nan'), float('inf'), -float('inf'), 1e38]:
        for k in range(COUNT):
            labels = [0.0] * COUNT
            labels[k] = label
            write_rec(path, images, labels)
            with pytest.raises(UserError, match=rf'record {k} of {path} has the label'):
                opened(path)


def test_random_files(tmp_path):
    random, path = np.random.RandomState(5), tmp_path / 'train.rec'
    for i in range(FILES):
        data = random.bytes(random.randint(1, 400))
        if i % 2:
            data = struct.pack('<I', MAGIC) + data
        path.write_bytes(data)
        path.with_suffix('.idx').write_bytes([b'0\t0\n', random.bytes(random.randint(40))][i // 2 % 2])
        with pytest.raises(UserError, match='train'):
            opened(path)
