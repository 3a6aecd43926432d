"""scripts/explain.py and tools/check_explanations.py: pictures, pages and figures of tiny networks."""

import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from inference.explain.connection import reliance
from inference.explain.gates import GateReader
from inference.network import load_network
from model import get_model, save_params
from tests.data.conftest import write_images
from tests.pages import Page, open_in_browser

SMALL = {'channels': (16, 64, 64, 64)}
NAMES = ('cifar_se_resnet20bn_v1', 'cifar_dca_cbam_resnet20bn_v1')


@pytest.fixture(scope='session')
def networks(tmp_path_factory):
    """Return parameters of two untrained networks with manifests."""
    paths = []
    for name in NAMES:
        mx.random.seed(1)
        net = get_model(name, classes=3, **SMALL)
        net.initialize(mx.init.MSRAPrelu())
        net(mx.nd.array(np.random.RandomState(0).randn(2, 3, 32, 32)))
        paths.append(tmp_path_factory.mktemp(name) / 'net.params')
        manifest = {
            'model': name,
            'model_kwargs': {'classes': 3, 'channels': list(SMALL['channels'])},
            'classes': 3,
            'class_names': ['cat', 'dog', 'bird & <bee>'],
            'preprocessing': {'size': 32, 'mean': [0.5] * 3, 'std': [0.3] * 3, 'resize': None},
        }
        save_params(net, paths[-1], manifest)
    return paths


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / 'images', 3, size=40)
    return sorted((tmp_path / 'images').iterdir())


def both(networks):
    return [argument for path in networks for argument in ('--params', path)]


def test_a_picture_for_each_image(networks, images, tmp_path, in_process):
    folder = tmp_path / 'out'
    text = tmp_path / 'readme.txt'
    text.write_text('no image')
    code, out, err = in_process('explain.py', *images[:2], text, *both(networks), '--output', folder)
    assert code == 1
    assert str(text) in err
    assert err.count('error: ') == 1
    assert sorted(path.name for path in folder.iterdir()) == ['000.png', '001.png']
    with Image.open(folder / '000.png') as picture:
        content = np.asarray(picture.convert('RGB'))
    assert len(np.unique(content.reshape(-1, 3), axis=0)) > 500
    for path, name in zip(networks, NAMES):
        (prediction,) = load_network(path).predict(images[:1])
        best, probability = prediction.classes[0]
        assert f'{images[0]}: {best}, {100 * probability:.1f} % ({name})' in out


def test_page_and_figures(networks, images, tmp_path, in_process):
    html, figures = tmp_path / 'page.html', tmp_path / 'figures.json'
    flags = ['--gates', '--connection', '--html', html, '--json', figures, '--class', 'bird & <bee>', '--top', 2]
    code, out, err = in_process('explain.py', *images, *both(networks), *flags)
    assert (code, err) == (0, '')
    assert not (tmp_path / 'explanations').exists()
    assert 'skipped: cifar_se_resnet20bn_v1: ' in out  # it has no connections
    page = Page(html)
    assert 'bird & <bee>' in page.text
    # 3 images by 2 networks: input, three stages. Gates: SE, channel, spatial by position. Connections: one.
    assert len(page.all('img')) == 3 * 2 * 4 + 3 + 1
    assert {attributes['name'] for attributes in page.all('meta') if 'name' in attributes} == {'viewport'}
    found = json.loads(figures.read_text())
    assert [(row['image'], row['network']) for row in found['images']] == [
        (str(image), name) for image in images for name in NAMES
    ]
    for row in found['images']:
        assert row['explained']['class'] == 'bird & <bee>'
        assert len(row['classes']) == 2
        assert [stage['size'] for stage in row['stages']] == [[32, 32], [16, 16], [8, 8]]
        assert all(0 <= stage['centre_share'] <= 1 for stage in row['stages'])
    network = load_network(networks[1])
    batch = network.preprocessing.batch(np.stack([network.preprocessing.fit(image) for image in images]))
    gates = [row for row in found['gates'] if row['network'] == NAMES[1]]
    for row, gate in zip(gates, GateReader(network.net)(batch)):
        assert (row['path'], row['place'], row['shape']) == (gate.path, gate.place, list(gate.values.shape[1:]))
        assert row['mean'] == pytest.approx(gate.values.mean(), rel=1e-4)
        assert row['channels'] == pytest.approx(gate.by_channel.mean(axis=0).tolist(), abs=1e-5)
    assert len(gates) == 12
    expected = [{'network': NAMES[1], 'path': r.path, 'place': r.place, 'part': r.part} for r in reliance(network.net)]
    assert [{key: row[key] for key in expected[0]} for row in found['connection']] == expected
    assert all(0 < row['signal'] < 1 for row in found['connection'] if row['part'] == 'channel')
    open_in_browser(html, tmp_path / 'browser', width=390)


def test_pictures_of_gates_and_connections(networks, images, tmp_path, in_process):
    folder = tmp_path / 'out'
    flags = ['--gates', '--connection', '--stage', '2', '--stage', 'layer1.0.attention', '--output', folder]
    code, _, err = in_process('explain.py', images[0], '--params', networks[1], *flags)
    assert (code, err) == (0, '')
    assert sorted(path.name for path in folder.iterdir()) == [
        '000.png',
        'connection.png',
        'gates-cifar_dca_cbam_resnet20bn_v1-CBAMChannel-gate.png',
        'gates-cifar_dca_cbam_resnet20bn_v1-CBAMSpatial-gate-by-position.png',
    ]


def test_images_of_the_same_name_and_the_usual_folder(networks, images, tmp_path, in_process, monkeypatch):
    other = tmp_path / 'other' / '000.png'
    other.parent.mkdir()
    other.write_bytes(images[1].read_bytes())
    monkeypatch.chdir(tmp_path)
    assert in_process('explain.py', images[0], other, '--params', networks[0])[0] == 0
    assert sorted(path.name for path in (tmp_path / 'explanations').iterdir()) == ['000-1.png', '000-2.png']


@pytest.mark.parametrize(
    ('flags', 'status', 'words'),
    [
        ([], 2, ['--params']),
        (['--class', 'dig'], 2, ['--class dig', 'dog']),
        (['--class', '3'], 2, ['--class 3']),
        (['--stage', '4'], 2, ['--stage', "'4'", 'stages 1 to 3']),
        (['--connection'], 1, ['--connection', 'dca_']),
        (['--model', 'a', '--model', 'b'], 2, ['--model is given 2 times, and --params and --pretrained 1 times']),
        (['--top', '0'], 2, ['--top']),
    ],
)
def test_wrong_usage(flags, status, words, networks, images, in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = ['--params', networks[0]] if flags else []
    code, out, err = in_process('explain.py', images[0], *params, *flags)
    assert code == status
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    for word in words:
        assert word in err


def test_a_network_without_gates(digits_params, bare_params, images, tmp_path, in_process):
    # ATAC has gates; the plain network has none.
    net = get_model('cifar_resnet8_v2', classes=10)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    plain = tmp_path / 'plain.params'
    net.save_parameters(str(plain))
    folder = tmp_path / 'out'
    flags = ['--model', 'cifar_resnet8_v2', '--gates', '--output', folder]
    code, _, err = in_process('explain.py', images[0], '--params', plain, *flags)
    assert (code, 'has no attention' in err) == (1, True)
    two = ['--params', digits_params, '--params', plain, '--model', 'cifar_atac_resnet8_v2', *flags]
    code, out, _ = in_process('explain.py', images[0], *two)
    assert code == 0
    assert 'skipped: cifar_resnet8_v2' in out
    assert (folder / 'gates-cifar_atac_resnet8_v2-ATAC-gate.png').exists()


def test_the_deletion_test(networks, images, tmp_path, in_process):
    figures = tmp_path / 'figures.json'
    code, out, _ = in_process('check_explanations.py', *images, *both(networks), '--json', figures)
    assert code == 0
    found = json.loads(figures.read_text())
    assert [row['network'] for row in found] == list(NAMES)
    for row in found:
        assert (row['images'], row['stage'], row['fill'], row['share']) == (3, 'stage 3', 'blur', 0.2)
        assert list(row['covers']) == ['hottest', 'coldest', 'scattered', 'shifted', 'other']
        for cover in row['covers'].values():
            assert f'lost {cover["lost"]:6.3f} +- {cover["standard_error"]:.3f}' in out
    other = tmp_path / 'other.json'
    flags = [
        '--fill',
        'mean',
        '--share',
        '0.5',
        '--stage',
        '1',
        '--stage',
        '2',
        '--seed',
        '1',
        '--limit',
        '2',
        '--json',
        other,
    ]
    assert in_process('check_explanations.py', *images, '--params', networks[0], *flags)[0] == 0
    rows = json.loads(other.read_text())
    assert [row['stage'] for row in rows] == ['stage 1', 'stage 2']
    assert all((row['images'], row['fill'], row['share']) == (2, 'mean', 0.5) for row in rows)
    for flags, words in ([['--share', '1'], '--share'], [['--stage', '9'], '--stage']):
        code, _, err = in_process('check_explanations.py', *images, '--params', networks[0], *flags)
        assert (code, words in err) == (2, True)
    code, _, err = in_process('check_explanations.py', images[0], '--params', networks[0])
    assert (code, 'give at least two' in err) == (1, True)


@pytest.mark.parametrize('flag', ['--json', '--html'])
def test_an_unwritable_file_is_told_before_the_first_map(networks, images, tmp_path, in_process, flag):
    given = (images[0], '--params', networks[0], '--output', tmp_path / 'out', flag)
    code, out, err = in_process('explain.py', *given, tmp_path / 'absent' / 'x')
    assert (code, out) == (1, '')
    assert err.startswith(f'error: cannot write {tmp_path}/absent/x: there is no such file or folder')
    assert in_process('explain.py', *given, tmp_path / 'out' / 'x')[0] == 0
