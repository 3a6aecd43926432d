"""`Predictor`: one object for classifiers, detectors and exports, and for images in any form."""

import io
import os

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import inference
from data.images import ImageError
from data.preprocessing import Preprocessing
from detection.network import LoadedDetector
from detection.preprocessing import DetectionPreprocessing
from environment import UserError
from inference import Predictor
from inference.network import LoadedNetwork, load_network
from model import save_params
from tests.detection.cases import SMALL, outspoken, small
from tests.scripts.conftest import NAME, make_network

PIXELS = {'size': 32, 'mean': [0.3] * 3, 'std': [0.35] * 3, 'resize': None}
NAMES = ['ant', 'bee', 'cow']


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return the folder of a run."""
    folder = tmp_path_factory.mktemp('runs') / 'insects'
    manifest = {'model': NAME, 'model_kwargs': {'classes': 3}, 'class_names': NAMES, 'preprocessing': PIXELS}
    folder.mkdir()
    save_params(make_network(3), folder / 'best.params', manifest)
    return folder


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp('images') / 'a.png'
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope='module')
def detector():
    options = {'classes': 2, **SMALL['retinanet']}
    net = outspoken(small('retinanet'))
    return LoadedDetector(net, 'retinanet_resnet18_v1b', options, DetectionPreprocessing(64, 96), ('a', 'b'), {})


def test_an_image_in_every_form_has_one_answer(run, picture):
    ask = Predictor(run)
    logits = make_network(3)(mx.nd.array(Preprocessing(**PIXELS).image(str(picture)))).asnumpy()[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    answer = ask(picture)
    assert answer.label == NAMES[int(expected.argmax())]
    assert answer.probability == pytest.approx(expected.max(), rel=1e-5)
    assert answer.top(2) == answer.classes[:2]
    listed = ', '.join(f'{name} {100 * probability:.1f} %' for name, probability in answer.classes)
    assert repr(answer) == f'Prediction({picture}: {listed})'
    with Image.open(picture) as image:
        pixels = np.asarray(image)
        forms = [str(picture), picture.read_bytes(), Image.fromarray(pixels), pixels, image]
        for each in (*map(ask, forms), *ask(forms), *ask(np.stack([pixels] * 2))):
            assert dict(each.classes) == pytest.approx(dict(answer.classes))
    assert [each.image for each in ask([pixels, str(picture), pixels])] == ['image 1', str(picture), 'image 3']
    folder = os.fspath(picture.parent)
    for several in (folder, f'{folder}/*.png', iter([picture])):
        (each,) = ask(several)
        assert dict(each.classes) == pytest.approx(dict(answer.classes))
    assert ask([]) == []


def test_what_it_says_of_itself(run, detector):
    ask = Predictor(run)
    assert (ask.name, ask.task, ask.class_names) == (NAME, 'classification', tuple(NAMES))
    assert ask.preprocessing == Preprocessing.from_dict(PIXELS)
    assert repr(ask) == f'Predictor({NAME}, classification: 3 classes, ant, bee, cow)'
    shown = {name for name in dir(ask) if not name.startswith('_')}
    assert shown == set('batch_size class_names ctx name network predict preprocessing task'.split())
    assert {'Predictor', 'optimize'} <= set(dir(inference))
    assert repr(Predictor(detector)) == 'Predictor(retinanet_resnet18_v1b, detection: 2 classes, a, b)'


def test_a_detector_answers_with_boxes(detector, picture):
    ask = Predictor(detector, batch_size=2)
    answer = ask(str(picture), threshold=0)
    assert len(answer) == len(answer.boxes) == len(answer.names) > 0
    assert set(answer.names) <= {'a', 'b'}
    assert answer.picture().shape == (40, 50, 3)
    assert repr(answer).startswith(f'Detection({picture}: {100 * answer.scores[0]:.2f} % {answer.names[0]} ')
    with Image.open(picture) as image:
        pixels = np.asarray(image)
    for form in (picture.read_bytes(), pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(ask(form, threshold=0).boxes, answer.boxes)
    assert [len(each) for each in ask([pixels, pixels], threshold=0)] == [len(answer)] * 2
    with pytest.raises(UserError, match='precision float32 is for classifiers'):
        Predictor(detector, precision='float32')


def test_exported_and_optimized_networks_answer_alike(run, picture, tmp_path):
    expected = Predictor(run)(picture)
    network = load_network(run)
    network.export(tmp_path / 'exported', [picture], kinds=['mxnet'])
    for ask in (Predictor(tmp_path / 'exported'), Predictor(run, precision='float32', engine='mxnet')):
        answer = ask(picture)
        assert dict(answer.classes) == pytest.approx(dict(expected.classes), rel=1e-3)
        assert ask.class_names == tuple(NAMES)
    with pytest.raises(UserError, match='is an exported network and not a run'):
        load_network(tmp_path / 'exported')


def test_an_unreadable_image(run, picture):
    ask = Predictor(run)
    with pytest.raises(ImageError, match=r'absent\.png cannot be read as an image'):
        ask('absent.png')
    with pytest.raises(ImageError, match='no image format is recognised'):
        ask(b'nothing')
    content = picture.read_bytes()
    with pytest.raises(ImageError, match='the image cannot be read as an image'):
        ask(Image.open(io.BytesIO(content[: len(content) // 2])))
    bad, good = ask(['absent.png', picture])
    assert 'absent.png cannot be read' in bad.error
    assert good.label in NAMES
    with pytest.raises(UserError, match='absent.png cannot be read'):
        _ = bad.label
    with pytest.raises(ValueError, match=r'must be uint8 of shape \(H, W, 3\)'):
        ask(np.zeros((3, 4, 5), np.float32))
    for wrong in (5, None):
        with pytest.raises(TypeError, match='is not an image; give a path'):
            ask(wrong)


@pytest.mark.parametrize(
    ('source', 'options', 'sentence'),
    [
        (
            'absent.params',
            {},
            r'absent\.params: there is no such file; give the path of a \.params file',
        ),
        (
            'no_network',
            {},
            'no_network is neither a file or folder nor the name of a network: there are no parameters of.*no public '
            'weights',
        ),
        ('empty', {}, 'empty is a folder without best parameters .it has no .params file.'),
        ('run', {'kind': 'mxnet'}, 'is not an exported folder, but kind mxnet is given'),
        ('run', {'engine': 'mxnet'}, 'engine and calibration are for an optimized network; give precision too'),
    ],
)
def test_mistakes_are_one_sentence(run, tmp_path, monkeypatch, source, options, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=sentence) as caught:
        Predictor(run if source == 'run' else f'./{source}' if source == 'empty' else source, **options)
    assert '\n' not in str(caught.value)


def test_a_name_stands_for_parameters_that_come_with_the_project():
    ask = Predictor('cifar_atac_resnet20_v2')
    assert (ask.name, len(ask.class_names)) == ('cifar_atac_resnet20_v2', 10)


def test_images_go_through_the_network_together(run, picture):
    """A batch is as large as it may be, no image waits for more than that, and the order is kept."""
    network = load_network(run)
    sizes = []

    def net(data):
        sizes.append(len(data))
        return network.net(data)

    counted = LoadedNetwork(net, NAME, {}, network.preprocessing, tuple(NAMES), {})
    answers = Predictor(counted, batch_size=2).predict([picture] * 5)
    next(answers)
    assert sizes == [2]
    assert len(list(answers)) == 4
    assert sizes == [2, 2, 1]
    assert len(list(Predictor(counted).predict(io.BytesIO(picture.read_bytes()).getvalue() for _ in range(3)))) == 3
