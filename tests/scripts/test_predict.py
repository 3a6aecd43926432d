"""scripts/predict.py: the network's own probabilities, in order; unreadable files do not stop it."""

import csv
import json
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from data.preprocessing import Preprocessing
from inference.network import load_network
from inference.sources import image_files
from tests.data.conftest import write_images
from tests.scripts.conftest import NAME, ROOT, make_network, run
from tests.training.small_disk import file_size_limit


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / 'images', 5, size=50)
    return sorted((tmp_path / 'images').iterdir())


def probabilities(path, preprocessing):
    logits = make_network(10)(mx.nd.array(preprocessing.image(path))).asnumpy()[0].astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum()


DIGITS = Preprocessing(32, (0.3,) * 3, (0.35,) * 3)


def test_a_full_disk_leaves_the_table_that_was_there(digits_params, tmp_path, in_process):
    write_images(tmp_path / 'images', 20, size=32)
    table, figures = tmp_path / 'a.csv', tmp_path / 'a.json'
    table.write_text('old')
    flags = ['--params', digits_params, tmp_path / 'images', '--csv', table, '--json', figures, '--quiet']
    with file_size_limit(2000):  # part of which is this test's own output
        code, _, err = in_process('predict.py', *flags)
    assert code == 1
    assert 'the file would be larger than allowed' in err
    assert err.count('\n') == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.csv', 'images']
    assert table.read_text() == 'old'


def test_predictions(digits_params, images, tmp_path):
    file, table = tmp_path / 'p.json', tmp_path / 'p.csv'
    done = run('predict.py', *images, '--params', digits_params, '--batch-size', 2, '--json', file, '--csv', table)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())
    assert [row['image'] for row in rows] == [str(image) for image in images]
    lines = list(csv.DictReader(table.read_text().splitlines()))
    for i, (row, image) in enumerate(zip(rows, images)):
        expected = probabilities(image, DIGITS)
        order = np.argsort(-expected)[:5]
        assert [entry['class'] for entry in row['classes']] == [str(j) for j in order]
        assert [entry['probability'] for entry in row['classes']] == pytest.approx(expected[order].tolist(), rel=1e-4)
        assert [line['class'] for line in lines[5 * i : 5 * i + 5]] == [str(j) for j in order]
        assert [line['rank'] for line in lines[5 * i : 5 * i + 5]] == list('12345')
        assert f'{100 * expected[order[0]]:.2f} %' in done.stdout


def test_unreadable_images_do_not_stop_the_others(digits_params, images, tmp_path, in_process):
    text = tmp_path / 'readme.txt'
    text.write_text('no image')
    file, table = tmp_path / 'p.json', tmp_path / 'p.csv'
    given = [images[0], text, 'absent.jpg', 'absent*.jpg', images[1]]
    code, out, err = in_process(
        'predict.py', *given, '--params', digits_params, '--top', 1, '--json', file, '--csv', table
    )
    assert code == 1
    assert [line.split(' ')[1] for line in err.splitlines()] == [str(text), 'absent.jpg', 'absent*.jpg']
    assert all(line.startswith('error: ') for line in err.splitlines())
    assert out.count(' %  ') == 2
    rows = json.loads(file.read_text())
    assert ['error' in row for row in rows] == [False, True, True, True, False]
    assert len(rows[4]['classes']) == 1
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [line['error'] == '' for line in lines] == [True, False, False, False, True]


def test_folders_globs_and_standard_input(digits_params, images, tmp_path):
    folder = images[0].parent
    (folder / 'notes.txt').write_text('no image')
    (folder / 'below').mkdir()
    deep = folder / 'below' / 'deep.png'
    Image.new('RGB', (32, 32)).save(deep)
    (folder / '.thumbnails').mkdir()
    for hidden in (folder / '.thumbnails' / 'a.png', folder / '.b.png'):
        hidden.write_bytes(deep.read_bytes())
    (folder / 'again').symlink_to(folder)
    listed = tmp_path / 'list.txt'
    listed.write_text(f'{images[3]}\n\n{folder / "below"}\n')
    assert list(image_files([str(folder)])) == [*map(str, images), str(deep)]
    assert list(image_files([str(folder / '*.png'), str(deep)])) == [*map(str, images), str(deep)]
    with listed.open() as stdin:
        done = subprocess.run(
            [sys.executable, str(ROOT / 'scripts/predict.py'), '-', '--params', str(digits_params), '--top', '1'],
            stdin=stdin,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if '%' not in line] == [str(images[3]), str(deep)]


def test_an_empty_folder_and_silence(digits_params, images, tmp_path, in_process):
    (tmp_path / 'empty').mkdir()
    code, _, err = in_process('predict.py', tmp_path / 'empty', '--params', digits_params)
    assert (code, 'contains no image' in err) == (1, True)
    assert in_process('predict.py', images[0], '--params', digits_params, '--quiet')[:2] == (0, '')


def test_only_unreadable_images(digits_params, in_process):
    assert in_process('predict.py', 'absent.jpg', '--params', digits_params)[0] == 1


def test_grey_transparent_and_turned_images(digits_params, tmp_path):
    Image.new('LA', (40, 60), (10, 128)).save(tmp_path / 'a.png')
    Image.new('P', (32, 32)).save(tmp_path / 'b.gif')
    network = load_network(digits_params)
    for prediction in network.predict([tmp_path / 'a.png', tmp_path / 'b.gif'], top=10):
        assert prediction.error is None
        assert sum(probability for _, probability in prediction.classes) == pytest.approx(1)


def test_without_class_names_classes_are_numbers(bare_params, images):
    network = load_network(bare_params, NAME, classes=3)
    assert network.class_names is None
    (prediction,) = network.predict(images[:1])
    assert sorted(name for name, _ in prediction.classes) == ['0', '1', '2']


def test_wrong_arguments(digits_params, in_process, images):
    code, _, err = in_process('predict.py', images[0], '--params', digits_params, '--top', '0')
    assert code == 2
    assert '--top' in err
    with pytest.raises(ValueError, match='top and batch_size'):
        next(load_network(digits_params).predict(images, top=0))


@pytest.mark.parametrize('flag', ['--json', '--csv'])
def test_an_unwritable_file_is_told_before_the_first_image(digits_params, images, tmp_path, in_process, flag):
    code, out, err = in_process('predict.py', images[0], '--params', digits_params, flag, tmp_path / 'absent' / 'x')
    assert (code, out) == (1, '')
    assert err.startswith(f'error: cannot write {tmp_path}/absent/x: there is no such file or folder')
