"""Names of classes and files that control a terminal, cannot be encoded, or are formulas to a spreadsheet."""

import csv
import json
import os
import shlex
import shutil

import pytest
from PIL import Image

import train_cifar
from tests.train_cifar.runs import BASE

CLASSES = ['\x1b[31mred', '=1+1', 'gnp\u202e', '$x_{', '\ud800', 'a\nb', '@c\x9b2J', '\udcff', '+d\r', '"e",\x00']
# As they appear in a table.
SHOWN = [
    r'\x1b[31mred',
    "'=1+1",
    r'gnp\u202e',
    '$x_{',
    r'\ud800',
    r'a\nb',
    r"'@c\x9b2J",
    '\udcff',
    r"'+d\r",
    r'"e",\x00',
]
FILES = [b'\x1b[2J.png', b'=cmd.png', b'a\nb.png', b'caf\xe9.png', b'$y.png', b'-x\x7f.png']
# Class folders: without \0, and with bytes that are not UTF-8.
FOLDERS = [b'\x1b[31mred', b'=1+1', b'a\nb', b'caf\xe9']
OBEYED = set('\x1b\x9b\x7f\r\0\x08\u202e')


@pytest.fixture
def params(digits_params, tmp_path):
    path = tmp_path / 'net.params'
    shutil.copyfile(digits_params, path)
    manifest = json.loads(digits_params.with_suffix('.json').read_text())
    path.with_suffix('.json').write_text(json.dumps({**manifest, 'class_names': CLASSES}))
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name in FILES:
        Image.new('RGB', (32, 32), 'red').save(os.path.join(os.fsencode(folder), name), 'PNG')
    (folder / 'broken\x1b[2J\nerror: .png').write_text('no image')
    return folder


@pytest.fixture
def tree(tmp_path):
    for name in FOLDERS:
        os.makedirs(os.path.join(os.fsencode(tmp_path), b'tree', name))
        for i in range(10):
            file = os.path.join(os.fsencode(tmp_path), b'tree', name, b'%d' % i + FILES[i % len(FILES)])
            Image.new('RGB', (32, 32), (25 * i, 0, 0)).save(file, 'PNG')
    return tmp_path / 'tree'


def is_plain(text):
    return not OBEYED & set(text)


def test_predict(params, images, tmp_path, in_process):
    table, figures = tmp_path / 'a.csv', tmp_path / 'a.json'
    code, out, err = in_process('predict.py', '--params', params, images, '--csv', table, '--json', figures)
    assert code == 1
    assert is_plain(out + err)
    assert out.count('\n') == 6 * len(FILES)
    assert [line[:7] for line in err.splitlines()] == ['error: ']
    with open(table, encoding='utf-8', errors='surrogateescape', newline='') as file:
        text = file.read()
    assert is_plain(text)
    rows = list(csv.reader(text.splitlines()))[1:]
    assert len(rows) == 5 * len(FILES) + 1
    assert not [cell for row in rows for cell in row if cell[:1] in ('=', '+', '-', '@')]
    assert {row[2] for row in rows} <= {'', *SHOWN}
    named = {each['class'] for row in json.loads(figures.read_text()) for each in row.get('classes', ())}
    assert named <= set(CLASSES)


def test_explain(params, images, tmp_path, in_process):
    page = tmp_path / 'page.html'
    flags = ['--output', tmp_path / 'pictures', '--html', page, '--json', tmp_path / 'a.json', '--top', 10]
    code, out, err = in_process('explain.py', '--params', params, images, *flags)
    assert code == 1
    assert is_plain(out + err)
    assert err.count('\n') == 1
    assert is_plain(page.read_text(encoding='utf-8', errors='surrogateescape'))
    assert len(list((tmp_path / 'pictures').iterdir())) == len(FILES)


def test_make_recordio(tree, tmp_path, in_process):
    (tree / 'a\nb' / 'z\x1b.png').write_text('no image')
    code, out, err = in_process('make_recordio.py', tree, tmp_path / 'rec', '--leave-out')
    assert code == 0, err
    assert is_plain(out + err)
    assert (tmp_path / 'rec' / 'classes.txt').read_bytes().count(b'\n') == len(FOLDERS)


def test_training(tree, tmp_path, capsys):
    flags = BASE.replace('--dataset digits', f'--original-defaults --dataset {shlex.quote(str(tree))}').replace(
        '--no-report', ''
    )
    assert train_cifar.main([*shlex.split(flags), '--save-dir', f'{tmp_path}/run']) == 0
    out, err = capsys.readouterr()
    assert is_plain(out + err)
    for name in ('train.log', 'report.html', 'settings.yaml', 'log.jsonl'):
        assert is_plain((tmp_path / 'run' / name).read_text(encoding='utf-8', errors='surrogateescape')), name


def test_mistakes_with_such_names(in_process):
    code, out, err = in_process('predict.py', '--params', 'no\x1b[2Jne\nerror.params', 'x')
    assert (code, out) == (1, '')
    assert is_plain(err)
    assert err.count('\n') == 1


def test_folders_whose_names_are_no_utf8(digits_params, tmp_path, in_process):
    folder = tmp_path / os.fsdecode(b'caf\xe9')
    flags = ['--params', digits_params, '--kinds', 'mxnet,optimized']
    assert in_process('export.py', *flags, '-o', folder / 'exported')[0] == 0
    Image.new('RGB', (32, 32), 'red').save(folder / 'a.png')
    for kind in ('mxnet', 'optimized'):
        code, out, err = in_process('predict.py', '--exported', folder / 'exported', '--kind', kind, folder / 'a.png')
        assert (code, err) == (0, ''), err
        assert out.startswith(str(tmp_path / 'caf\\udce9'))
    shutil.copyfile(digits_params, folder / 'net.params')
    shutil.copyfile(digits_params.with_suffix('.json'), folder / 'net.json')
    written = {name: folder / name for name in ('pictures', 'a.html', 'a.json')}
    flags = ['--output', written['pictures'], '--html', written['a.html'], '--json', written['a.json']]
    assert in_process('explain.py', '--params', folder / 'net.params', folder / 'a.png', *flags)[0] == 0
    assert all(path.exists() for path in written.values())
