"""scripts/make_recordio.py after an interrupt, on a full disk, and started again."""

import shutil

import pytest

from data.recordio import packing
from data.recordio.listing import list_images
from data.recordio.packing import pack_images
from data.recordio.records import RecordFile
from tests.data.conftest import write_rec
from tests.training import small_disk

from .conftest import CLASSES, records


def test_an_interrupted_start_goes_on_where_it_ended(tree, tmp_path, monkeypatch):
    """Whatever a killed process left, the next start ends with the same bytes, and packs little again."""
    monkeypatch.setattr(packing, 'CHUNK', 4)
    folder = tmp_path / 'images'
    shutil.copytree(tree / 'train', folder)
    (folder / 'ant' / '1.JPEG').write_bytes(b'')
    listing = list_images(folder)['train']
    whole = pack_images(listing, tmp_path / 'whole.rec', leave_out=True)
    expected = (tmp_path / 'whole.rec').read_bytes()

    read, stop = listing.store.read, 10
    monkeypatch.setattr(listing.store, 'read', lambda i: read(i) if i < stop else interrupted())

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_images(listing, tmp_path / 'again.rec', leave_out=True)
    part, journal = ((tmp_path / f'again.rec.part{suffix}').read_bytes() for suffix in ('', '.json'))
    assert expected.startswith(part)
    assert part
    met = []
    monkeypatch.setattr(listing.store, 'read', lambda i: met.append(i) or read(i))
    for content in (part, part[:-1], part[:-700], part[:10], b'', part + b'garbage', part[:900] + b'x' + part[901:]):
        (tmp_path / 'again.rec.part').write_bytes(content)
        (tmp_path / 'again.rec.part.json').write_bytes(journal)
        del met[:]
        again = pack_images(listing, tmp_path / 'again.rec', leave_out=True)
        assert (tmp_path / 'again.rec').read_bytes() == expected
        assert (again.sha256, again.unreadable) == (whole.sha256, whole.unreadable)
        if content == part:
            assert set(met) == {1, *range(8, 15)}
    # If images or settings differ, nothing is kept.
    (tmp_path / 'again.rec.part').write_bytes(part)
    (tmp_path / 'again.rec.part.json').write_bytes(journal)
    small = pack_images(listing, tmp_path / 'again.rec', resize=20, leave_out=True)
    assert small.bytes < whole.bytes


@pytest.mark.skipif(not small_disk.available(), reason='needs a name space of its own for a small disk')
def test_a_full_disk_is_one_sentence_and_the_next_start_goes_on(tree):
    script = f"""
from environment import UserError
from data.recordio.listing import list_images
from data.recordio.packing import pack_images
listing = list_images(Path({str(tree)!r}) / 'train')['train']
whole = pack_images(listing, disk / 'whole.rec')
for share in range(20):
    fill(disk, 4096 * (1 + share % 3) + share * whole.bytes // 20)
    try:
        assert pack_images(listing, disk / 'a.rec').sha256 == whole.sha256, 'other bytes'
        print('packed')
    except UserError as error:
        assert 'cannot write' in str(error) and 'disk is full' in str(error), str(error)
        print('told')
    fill(disk, 2 << 20)
    assert pack_images(listing, disk / 'a.rec').sha256 == whole.sha256, 'other bytes'
    for left in disk.glob('a.*'):
        left.unlink()
"""
    done = small_disk.on_small_disk(4096, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count('told') >= 10


def test_pieces_are_joined(tree, tmp_path, in_process):
    assert in_process('make_recordio.py', tree / 'train', tmp_path / 'a')[0] == 0
    whole = tmp_path / 'a' / 'train.rec'
    images = [image for _, image in records(whole)]
    write_rec(tmp_path / 'set_0.rec', images[:7], [0] * 7)
    write_rec(tmp_path / 'set_1.rec', images[7:], [1] * 8)
    code, out, err = in_process('make_recordio.py', tmp_path / 'set_0.rec', tmp_path / 'set_1.rec', tmp_path / 'b')
    assert code == 0, err
    assert records(tmp_path / 'b' / 'set.rec') == [(float(i > 6), image) for i, image in enumerate(images)]
    assert RecordFile(tmp_path / 'b' / 'set.rec').keys.tolist() == list(range(15))  # both count from 0
    code, _, err = in_process('make_recordio.py', tmp_path / 'set_0.rec', tree, tmp_path / 'c')
    assert (code, err) == (
        2,
        f'error: {tree} is no .rec file, and only those are joined; give one source for each start\n',
    )


def test_a_finished_file_is_compared_with_its_digest(tree, tmp_path, in_process):
    folder = tmp_path / 'rec'
    assert in_process('make_recordio.py', tree / 'train', folder)[0] == 0
    for suffix, said in (
        ('.rec', 'train.rec is damaged: it is not the file whose digest stands in'),
        ('.idx', 'train.idx is missing or damaged; python scripts/make_recordio.py --index'),
        ('.lst', 'train.lst is missing or damaged; remove'),
    ):
        path = folder / f'train{suffix}'
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        code, out, err = in_process('make_recordio.py', tree / 'train', folder)
        assert code == 1
        assert said in err
        assert 'is finished already' not in out
        path.write_bytes(content)
    (folder / 'classes.txt').unlink()
    code, out, _ = in_process('make_recordio.py', tree / 'train', folder)
    assert (code, 'is finished already' in out) == (0, True)
    assert (folder / 'classes.txt').read_text().split() == list(CLASSES)


def test_a_file_that_has_its_name_has_its_digest_too(tree, tmp_path, in_process, monkeypatch):
    """The process was killed, or the disk full, right after the file got its name."""

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing._Journal, 'remove', killed)
        assert in_process('make_recordio.py', tree / 'train', tmp_path / 'rec')[0] == 130
    assert (tmp_path / 'rec' / 'train.rec').exists()
    code, out, err = in_process('make_recordio.py', tree / 'train', tmp_path / 'rec')
    assert (code, err) == (0, '')
    assert 'is finished already' in out
    assert not list((tmp_path / 'rec').glob('*.part*'))


@pytest.mark.skipif(not small_disk.available(), reason='needs a name space of its own for a small disk')
def test_a_full_disk_at_any_moment_costs_nothing_that_was_done(tree):
    """Class names, pieces, index, list, digests: whichever is the first without room."""
    script = f"""
import contextlib, io
sys.path.insert(0, 'scripts')
import make_recordio
from environment import UserError

def start(folder):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        make_recordio.main([{str(tree)!r}, str(folder), '-j', '1'])
    return out.getvalue()

def contents(folder):
    return {{path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != '.json'}}

start(disk / 'whole')
whole = contents(disk / 'whole')
pages = sum(-(-len(content) // 4096) + 1 for content in whole.values())
for free in range(pages + 6):
    fill(disk, 4096 * free)
    try:
        start(disk / 'a')
        print('packed')
    except UserError as error:
        assert 'disk is full' in str(error), str(error)
        print('told')
    fill(disk, 2 << 20)
    out = start(disk / 'a')
    assert contents(disk / 'a') == whole, (contents(disk / 'a').keys(), free)
    assert not list((disk / 'a').glob('*.part*')), free
    for left in (disk / 'a').iterdir():
        left.unlink()
"""
    done = small_disk.on_small_disk(4096, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count('told') >= 10
    assert done.stdout.split()[-1] == 'packed'
