"""Parameters, manifests and exports from before networks had one class for all tasks can still be read.

`earlier.tar.xz` holds them, and what came out then: a small classifier with a manifest, in float16 too, with one of
before manifests had digests, and with none; exported with digests and without; a detector, and its export.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from inference import Predictor
from inference.network import load_network
from model import load_params

ARCHIVE = Path(__file__).with_name('earlier.tar.xz')
BEST = 'run/0.9000-pets-cifar_resnet8_v2-3-best.params'
OPTIONS = {'classes': 3, 'act_type': 'swish', 'act_layers': 1}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp('earlier')
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(place, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    yield place
    shutil.rmtree(place)  # it takes seventy megabytes


@pytest.fixture(scope='module')
def expected(folder):
    return json.loads((folder / 'expected.json').read_text())


@pytest.mark.parametrize(
    ('source', 'accuracy'),
    [
        ('run', 1e-4),
        (BEST, 1e-4),
        ('run/pets-cifar_resnet8_v2-4.params', 0.05),
        ('exported', 1e-3),
        ('exported_early', 1e-3),
    ],
)
def test_a_classifier(folder, expected, source, accuracy):
    ask = Predictor(folder / source)
    assert ask.class_names == ('cat', 'dog', 'newt')
    assert (ask.preprocessing.size, ask.preprocessing.resize) == (32, 40)
    answer = ask(folder / 'image.png')
    assert dict(answer.classes) == pytest.approx(expected['probabilities'], rel=accuracy)


@pytest.mark.parametrize('name', ['bare.params', 'collected.params', 'early/net.params'])
def test_parameters_without_much_of_a_manifest(folder, expected, name):
    if name.startswith('early'):
        (answer,) = load_network(folder / name).predict([folder / 'image.png'])
        assert dict(answer.classes) == pytest.approx(expected['early'], rel=1e-4)
    network = load_network(folder / name, 'cifar_resnet8_v2', OPTIONS, class_names=['cat', 'dog', 'newt'])
    load_params(network.net, folder / name)
    network = network.changed(**load_network(folder / BEST).preprocessing.to_dict())
    (answer,) = network.predict([folder / 'image.png'])
    assert dict(answer.classes) == pytest.approx(expected['probabilities'], rel=1e-4)


@pytest.mark.parametrize('source', ['detector', 'exported_detector'])
def test_a_detector(folder, expected, source):
    ask = Predictor(folder / source)
    assert (ask.task, ask.class_names, ask.network.categories) == ('detection', ('cell', 'wall'), (3, 7))
    answer = ask(str(folder / 'image.png'), threshold=0)
    np.testing.assert_allclose(answer.boxes[:5], expected['boxes'], atol=0.05)
    assert answer.scores[:5] == pytest.approx(expected['scores'], rel=1e-3)
    assert answer.labels[:5].tolist() == expected['labels']
    assert answer.names[:5] == [ask.class_names[label] for label in expected['labels']]
