"""scripts/make_recordio.py: records contain the original images, are reproducible, and damage is reported by name."""

import hashlib
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from common.text import printable
from data.recordio.records import RecordFile
from tests.data.conftest import make_jpeg, write_rec

from .conftest import CLASSES, packed, records


def test_a_folder_with_splits(tree, tmp_path, in_process):
    file = tmp_path / 'figures.json'
    code, out, err = in_process('make_recordio.py', tree, tmp_path / 'rec', '--json', file, '-j', 2)
    assert code == 0, err
    for split in ('train', 'val'):
        assert records(tmp_path / 'rec' / f'{split}.rec') == packed(tree, split)
    assert RecordFile(tmp_path / 'rec' / 'train.rec').checked
    lines = (tmp_path / 'rec' / 'train.lst').read_text().splitlines()
    assert lines[:2] == ['0\t0.000000\ttrain/ant/0.JPEG', '1\t0.000000\ttrain/ant/1.JPEG']
    assert (tmp_path / 'rec' / 'classes.txt').read_text().split() == list(CLASSES)
    figures = json.loads(file.read_text())['files']
    assert [figure['images'] for figure in figures] == [15, 3]
    sha256 = hashlib.sha256((tmp_path / 'rec' / 'train.rec').read_bytes()).hexdigest()
    assert figures[0]['sha256'] == sha256
    assert f'sha256 {sha256}' in out
    assert not list((tmp_path / 'rec').glob('*.part*'))

    code, out, _ = in_process('make_recordio.py', tree, tmp_path / 'rec')
    assert code == 0
    assert 'is finished already' in out
    (tmp_path / 'rec' / 'val.json').write_text('[]')
    for more in ((), ('--resize', 20)):
        code, _, err = in_process('make_recordio.py', tree, tmp_path / 'rec', *more)
        assert code == 1
        assert 'was not made by this command' in err


def test_tar_list_and_records_as_sources(tree, tmp_path, in_process):
    assert in_process('make_recordio.py', tree / 'train', tmp_path / 'a')[0] == 0
    expected = records(tmp_path / 'a' / 'train.rec')
    with tarfile.open(tmp_path / 'images.tar', 'w') as tar:
        tar.add(tree / 'train', arcname='images')
    # One tar file per class, as in ImageNet.
    with tarfile.open(tmp_path / 'nested.tar', 'w') as tar:
        for name in CLASSES:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode='w') as part:
                part.add(tree / 'train' / name, arcname='.')
            info = tarfile.TarInfo(f'{name}.tar')
            info.size = len(inner.getvalue())
            tar.addfile(info, io.BytesIO(inner.getvalue()))
    shutil.copy(tmp_path / 'a' / 'train.lst', tmp_path / 'mine.lst')
    for source, name in (
        ('images.tar', 'train'),
        ('nested.tar', 'train'),
        ('mine.lst', 'mine'),
        ('a/train.rec', 'train'),
    ):
        flags = ['--root', tree / 'train'] if name == 'mine' else []
        code, _, err = in_process('make_recordio.py', tmp_path / source, tmp_path / f'{source}.out', *flags)
        assert code == 0, err
        assert records(tmp_path / f'{source}.out' / f'{name}.rec') == expected
    code, _, err = in_process('make_recordio.py', tmp_path / 'a' / 'train.rec', tmp_path / 'b', '--shuffle', 5)
    shuffled = records(tmp_path / 'b' / 'train.rec')
    assert shuffled != expected
    assert sorted(shuffled) == sorted(expected)


def test_resizing(tree, tmp_path, in_process):
    for quality in (95, 30):
        flags = ['--resize', 30, '--quality', quality]
        assert in_process('make_recordio.py', tree / 'train', tmp_path / str(quality), *flags)[0] == 0
    fine, coarse = (records(tmp_path / q / 'train.rec') for q in ('95', '30'))
    for (label, image), (_, low), (expected, original) in zip(fine, coarse, packed(tree, 'train')):
        assert label == expected
        if original.startswith(b'\x89PNG'):
            assert image == low == original  # 30 pixels high already
            continue
        size = Image.open(io.BytesIO(image)).size
        assert size == (45, 30)
        assert len(low) < len(image)
        whole = Image.open(io.BytesIO(original)).resize(size, Image.BOX)
        np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(image))), np.asarray(whole), atol=25)


def test_unreadable_images_are_refused_and_listed(tree, tmp_path, in_process):
    folder, file = tmp_path / 'images', tmp_path / 'figures.json'
    shutil.copytree(tree / 'train', folder)
    (folder / 'bee' / '1.JPEG').write_bytes(b'no JPEG')
    (folder / 'cow' / '2.JPEG').write_bytes(make_jpeg(1)[:-30])
    code, _, err = in_process('make_recordio.py', folder, tmp_path / 'rec', '--json', file)
    assert code == 1
    assert 'bee/1.JPEG' in err
    assert 'cow/2.JPEG' in err
    assert '2 images of' in err.splitlines()[-1]
    assert len(json.loads(file.read_text())['files'][0]['unreadable']) == 2
    assert not (tmp_path / 'rec' / 'train.rec').exists()
    code, out, err = in_process('make_recordio.py', folder, tmp_path / 'rec', '--leave-out')
    assert code == 0, err
    assert '2 left out' in out
    assert 'unreadable: ' in err
    kept = [pair for i, pair in enumerate(packed(tree, 'train')) if i not in (6, 12)]
    assert records(tmp_path / 'rec' / 'train.rec') == kept
    assert RecordFile(tmp_path / 'rec' / 'train.rec').keys.tolist() == [i for i in range(15) if i not in (6, 12)]


def test_check_names_bad_records(tmp_path, in_process):
    path, file = tmp_path / 'a.rec', tmp_path / 'figures.json'
    images = [make_jpeg(i) for i in range(6)]
    torn = images[4][: len(images[4]) - 200] + images[4][-100:]  # a part of the pixels is missing
    offsets = write_rec(path, [*images[:4], torn, b'nothing'], [0, 1, 2, 7, 0, 1])
    code, out, err = in_process('make_recordio.py', '--check', path, '--json', file, '-j', 2)
    assert code == 1
    assert f'record 5 of {path} cannot be read as an image' in err
    assert f'doubtful: record 4 of {path} decodes with complaints (Corrupt JPEG data' in err
    assert '6 records, 4 different labels up to 7, with checksums: 1 bad, 1 doubtful' in out
    figures = json.loads(file.read_text())
    assert (figures['count'], len(figures['bad']), len(figures['doubtful'])) == (6, 1, 1)
    assert 'record 3' in in_process('make_recordio.py', '--check', path, '--classes', 3)[2]

    write_rec(path, images)
    code, out, err = in_process('make_recordio.py', '--check', path)
    assert (code, err) == (0, '')
    data = bytearray(path.read_bytes())
    data[offsets[1] + 100] ^= 4
    data[offsets[2] + 5] ^= 1
    path.write_bytes(bytes(data))
    code, _, err = in_process('make_recordio.py', '--check', path)
    assert code == 1
    assert f'record 1 of {path} is damaged: its checksum does not fit its content' in err
    assert f'record 2 of {path} is damaged' in err
    assert f'record 3 of {path}' not in err


def test_an_index_made_anew(tmp_path, in_process):
    path = tmp_path / 'a.rec'
    write_rec(path, [make_jpeg(i) for i in range(5)])
    index = path.with_suffix('.idx')
    content = index.read_bytes()
    index.unlink()
    code, out, err = in_process('make_recordio.py', '--index', path)
    assert code == 0, err
    assert index.read_bytes() == content
    path.write_bytes(path.read_bytes()[:-30])
    code, _, err = in_process('make_recordio.py', '--index', path)
    assert code == 1
    assert 'is damaged' in err
    assert '--leave-out packs the intact ones' in err
    assert index.read_bytes() == content
    # Follow the advice of the message.
    code, _, err = in_process('make_recordio.py', path, tmp_path / 'mended', '--leave-out')
    assert code == 0, err
    assert RecordFile(tmp_path / 'mended' / 'a.rec').keys.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ('arguments', 'status', 'sentence'),
    [
        ([], 2, 'give a source and an output folder'),
        (['SOURCE'], 2, 'give a source and an output folder'),
        (['SOURCE', 'OUT', '--check', 'a.rec'], 2, 'give a source and an output folder'),
        (['absent', 'OUT'], 2, 'absent does not exist'),
        (['SOURCE/train/ant/0.JPEG', 'OUT'], 2, 'is not a folder, .tar, .lst or .rec file'),
        (['SOURCE', 'OUT', '--resize', '0'], 2, '--resize'),
        (['SOURCE', 'OUT', '--quality', '101'], 2, '--quality'),
        (['SOURCE', 'OUT', '--classes', '3'], 2, '--classes is for --check'),
        (['--check', 'a.rec', '--resize', '3'], 2, '--resize is for packing'),
        (['--index', 'a.rec', '--leave-out'], 2, '--leave-out is for packing'),
        (['--check', 'absent.rec'], 1, 'absent.rec'),
        (['--index', 'absent.rec'], 1, 'absent.rec'),
        (['SOURCE', 'SOURCE/train/ant/0.JPEG/x'], 1, 'cannot create the folder'),
        (['SOURCE/train/ant', 'OUT'], 1, 'lies outside the class folders'),
    ],
)
def test_mistakes(tree, tmp_path, in_process, arguments, status, sentence):
    given = [a.replace('SOURCE', str(tree)).replace('OUT', str(tmp_path / 'out')) for a in arguments]
    code, _, err = in_process('make_recordio.py', *given)
    assert code == status
    assert sentence in err
    assert err.startswith('error: ')
    assert err.count('\n') == 1


@pytest.mark.parametrize('name', ['../b.png', '/b.png', 'a/../../b.png', '../\x1b[31m.png'])
def test_a_list_names_nothing_outside_its_root(tmp_path, in_process, name):
    (tmp_path / 'root').mkdir()
    (tmp_path / 'root' / 'a.lst').write_text(f'0\t0\t{name}\n')
    code, _, err = in_process('make_recordio.py', tmp_path / 'root' / 'a.lst', tmp_path / 'rec')
    told = f'names the image {printable(name)}, which is not below {tmp_path}/root; write'
    assert (code, told in err) == (1, True), err


def test_unwritable_figures_are_told_before_packing(tree, tmp_path, in_process):
    absent = tmp_path / 'absent' / 'x.json'
    code, out, err = in_process('make_recordio.py', tree / 'train', tmp_path / 'rec', '--json', absent)
    assert (code, out) == (1, '')
    assert err.startswith(f'error: cannot write {absent}')
    assert list((tmp_path / 'rec').iterdir()) == []
    assert in_process('make_recordio.py', '--check', tmp_path / 'a.rec', '--json', absent)[2].startswith(
        'error: cannot write'
    )


def test_labels_that_no_classification_has(tree, tmp_path, in_process):
    path = tmp_path / 'mine.lst'
    for label, said in (
        ('-1', '-1; allowed'),
        ('0.5', '0.5; allowed'),
        ('1e30', '1e+30; allowed'),
        ('0\t1', 'line 2 of'),
    ):
        path.write_text(f'0\t0\tant/0.JPEG\n1\t{label}\tant/1.JPEG\n')
        code, _, err = in_process('make_recordio.py', path, tmp_path / 'rec', '--root', tree / 'train')
        assert code == 1
        assert said in err
        assert 'line 2 of' in err
        assert not (tmp_path / 'rec').exists()
    # The same holds for records that are packed again.
    write_rec(tmp_path / 'old.rec', [make_jpeg(i) for i in range(3)], [0, -1, 1])
    code, _, err = in_process('make_recordio.py', tmp_path / 'old.rec', tmp_path / 'rec')
    assert code == 1
    assert f'record 1 of {tmp_path}/old.rec has the label -1; allowed' in err
    assert in_process('make_recordio.py', tmp_path / 'old.rec', tmp_path / 'rec', '--leave-out')[0] == 0
    assert RecordFile(tmp_path / 'rec' / 'old.rec').labels.tolist() == [0, 1]
    code, _, err = in_process('make_recordio.py', '--check', tmp_path / 'old.rec')
    assert code == 1
    assert f'bad: record 1 of {tmp_path}/old.rec has the label -1' in err
