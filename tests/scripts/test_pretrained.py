"""--pretrained in place of --params: weights by name, from a folder, with their preprocessing."""

import csv
import json
import re

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from data.preprocessing import Preprocessing
from inference import Predictor
from model import get_model
from model.convert import to_state_dict
from model.convert.files import write_state
from model.listing import _weights
from model.parameters import weights as module
from model.parameters.weights import public_weights
from tests.photos import write_photos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a small network's random weights, listed in a table."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('ATTENTION_WEIGHTS', '')
    net = get_model('cifar_resnet20_v1', classes=10, stem_relu=True)
    mx.random.seed(0)
    net.initialize(mx.init.Normal(0.1))
    net(mx.nd.zeros((1, 3, 32, 32)))
    place = tmp_path / 'weights'
    place.mkdir()
    write_state(place / 'resnet20.pth', to_state_dict(net, 'pytorchcv'))
    row = {
        **dict.fromkeys(('hub', 'checksum', 'accuracy', 'licence', 'resize'), ''),
        **{'source': 'pytorchcv', 'model': 'resnet20_cifar10', 'tag': 'R', 'url': 'http://127.0.0.1:1/resnet20.pth'},
        **{'dataset': 'cifar10', 'size': 24, 'interpolation': 'bicubic', 'mean': '0.5 0.4 0.3', 'std': '0.3 0.2 0.1'},
    }
    with open(tmp_path / 'table.csv', 'w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    for cache in (public_weights, _weights):
        cache.cache_clear()
    monkeypatch.setattr(module, 'TABLE', tmp_path / 'table.csv')
    yield place
    monkeypatch.undo()
    for cache in (public_weights, _weights):
        cache.cache_clear()


NAMED = ('--pretrained', 'pytorchcv:resnet20_cifar10')


def test_validated(folder, tmp_path, in_process):
    photos = tmp_path / 'photos'
    write_photos(photos, 20, 40)
    json_file = tmp_path / 'figures.json'
    code, out, err = in_process(
        'validate.py', *NAMED, '--weights-dir', folder, '--dataset', photos, '--split', 'all', '--json', json_file
    )
    assert code == 0, err
    figures = json.loads(json_file.read_text())
    assert figures['model'] == 'cifar_resnet20_v1'
    assert figures['count'] == 20
    assert 'does not name its 10 classes: the ' in out  # the folder's classes are assumed
    # The same as with the converted file.
    of_file = in_process('validate.py', '--params', figures['params'], '--dataset', photos, '--split', 'all')
    assert of_file[:2] == (0, out), of_file


def test_predicted_explained_and_exported(folder, tmp_path, in_process):
    image = tmp_path / 'photo.png'
    pixels = np.random.RandomState(0).randint(0, 256, (30, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(image)
    named = (*NAMED, '--weights-dir', folder)
    predicted = tmp_path / 'predicted.json'
    code, _, err = in_process('predict.py', *named, '--json', predicted, image)
    assert code == 0, err
    assert len(json.loads(predicted.read_text())[0]['classes']) == 5
    code, _, err = in_process('explain.py', *named, '--json', tmp_path / 'explained.json', image)
    assert code == 0, err
    code, _, err = in_process('export.py', *named, '-o', tmp_path / 'exported', '--kinds', 'mxnet')
    assert code == 0, err
    manifests = [json.loads(path.read_text()) for path in (tmp_path / 'exported').glob('*.json')]
    assert any(m.get('preprocessing', {}).get('interpolation') == 'bicubic' for m in manifests if isinstance(m, dict))


@pytest.mark.parametrize('source', ['pytorchcv:resnet20_cifar10', 'pytorchcv:resnet20_cifar10.R', 'cifar_resnet20_v1'])
def test_asked_by_name(folder, monkeypatch, source):
    """`Predictor` and serve.py take public weights by their own names, and the best ones of a network by ours."""
    monkeypatch.setenv('ATTENTION_WEIGHTS', str(folder))
    ask = Predictor(source)
    assert ask.name == 'cifar_resnet20_v1'
    assert ask.preprocessing == Preprocessing(24, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1), interpolation='bicubic')
    assert len(ask(np.zeros((30, 40, 3), np.uint8)).top(3)) == 3


@pytest.mark.parametrize(
    ('source', 'words'),
    [
        ('pytorchcv:resnet20_cifar11', 'is neither a file or folder nor the name of a network: .* resnet20_cifar10'),
        (
            'cifar_resnet21_v1',
            'is neither a file or folder nor the name of a network: there are no parameters of .*no public',
        ),
        ('photos', '--weights-dir is for public weights by name, and photos is there'),
    ],
)
def test_faults_of_the_server(folder, tmp_path, in_process, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    if source != 'photos':
        pytest.importorskip('uvicorn')
    code, _, err = in_process('serve.py', source, '--weights-dir', folder, '--port', 0)
    assert code in (1, 2)
    assert re.search(words, err.strip().splitlines()[-1]), err


@pytest.mark.parametrize('script', ['validate.py', 'predict.py', 'explain.py', 'export.py'])
@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), '(--params is missing|give either --params)'),
        (('--pretrained', 'pytorchcv:resnet20_cifar11'), "'pytorchcv:resnet20_cifar11'; .* resnet20_cifar10"),
        (('--pretrained', 'cifar10'), "'cifar10' does not name a single network; give --model NAME"),
        (
            ('--pretrained', 'pytorchcv', '--model', 'cifar_se_resnet20_v1'),
            'no public weights of pytorchcv for cifar_se',
        ),
        (NAMED, 'cannot download http://127.0.0.1:1/resnet20.pth .*ATTENTION_WEIGHTS=PLACE'),
        ((*NAMED, '--weights-dir', 'no-such-folder'), 'no-such-folder has no resnet20.pth; put it there'),
        (('--params', 'x.params', '--weights-dir', 'w'), '--weights-dir is for --pretrained'),
    ],
)
def test_faults_are_one_sentence(folder, tmp_path, in_process, monkeypatch, script, arguments, words):
    monkeypatch.chdir(tmp_path)
    own = {'validate.py': ('--dataset', 'digits'), 'export.py': ('-o', 'out')}.get(script, ('photo.png',))
    (tmp_path / 'photo.png').write_bytes(b'x')
    code, _, err = in_process(script, *arguments, *own)
    assert code in (1, 2)
    line = err.strip().splitlines()[-1]
    assert re.search(words, line), err
    assert 'Traceback' not in err
