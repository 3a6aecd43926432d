"""Public weights: the table, the row that a network takes, and a file's way from a server to our parameters."""

import csv
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from common import download
from common.download import Checksum
from data.preprocessing import Preprocessing
from environment import UserError
from inference.network import load_network
from model import get_model, list_models, read_manifest, save_params
from model.convert import to_state_dict
from model.convert.files import write_state
from model.listing import _weights
from model.options import check_options
from model.parameters import weights as module
from model.parameters.file_format import write_params_file
from model.parameters.weights import choose, network_of, public_weights, sources
from tests.servers import server

ROOT = Path(__file__).resolve().parents[3]
ROWS = public_weights()
# The smallest network that has public weights, with torchvision's settings.
SMALL = ('mnasnet0_5', {'scaled_stem': True})


def empty_caches():
    public_weights.cache_clear()
    _weights.cache_clear()


def drawn(name, seed=0, **options):
    net = get_model(name, **options)
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(0.05))
    size = 32 if name.startswith('cifar') else 64
    net(mx.nd.zeros((1, 3, size, size)))
    return net


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def assert_same(net, other, but=()):
    ours, theirs = values(net), values(other)
    assert set(ours) == set(theirs)
    for name in set(ours) - set(but):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


# The table


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_a_row_says_all_that_is_needed(row):
    name, options = row.network, row.options
    assert options['classes'] == module.CLASSES[row.dataset]
    check_options(name, options)
    assert row.url or row.hub
    for address in row.addresses:
        assert address.url.startswith('https://')
        assert '/' not in address.file
    if row.url:
        assert row.checksum
        checksum = Checksum(*row.checksum.split(':'))
        assert checksum.kind in ('sha256', 'sha1', 'git')
        assert int(checksum.value, 16) >= 0
        if checksum.kind == 'sha256':
            assert f'-{checksum.value}.' in row.url
    assert row.accuracy is None or 50 < row.accuracy < 100
    known = Preprocessing.from_dict(row.preprocessing)
    assert known.to_dict() == row.preprocessing
    assert known.size == 32 if row.dataset.startswith('cifar') else known.size >= 224


def test_no_two_rows_have_one_name_and_no_two_files_one():
    assert len({row.name for row in ROWS}) == len(ROWS)
    files = {}
    for row in ROWS:
        for address in row.addresses:
            assert files.setdefault(address.file, address.url) == address.url
    assert sources() == ['torchvision', 'timm', 'pytorchcv', 'gluoncv', 'open-atac']


@pytest.mark.parametrize(
    ('name', 'options', 'wanted', 'expected'),
    [
        ('resnet50_v1b', {}, 'torchvision', 'torchvision:resnet50.IMAGENET1K_V2'),
        ('resnet50_v1b', {}, True, 'timm:resnet50.a1_in1k'),
        ('resnet50_v1b', {}, 'timm:fb_swsl_ig1b_ft_in1k', 'timm:resnet50.fb_swsl_ig1b_ft_in1k'),
        ('resnet50_v1b', {}, 'timm:resnet50.tv_in1k', 'timm:resnet50.tv_in1k'),
        ('resnet50_v1b', {}, 'timm:resnet50d', 'timm:resnet50d.ra4_e3600_r224_in1k'),
        ('resnet50_v1b', {'deep_stem': True}, 'gluoncv', 'gluoncv:resnet50_v1c.2a4e0708'),
        ('resnet50_v1b', {'classes': 7, 'norm_momentum': 0.99}, 'gluoncv', 'gluoncv:resnet50_v1b.0ecdba34'),
        ('resnet50_v1b', {'stem_width': 32}, 'gluoncv', 'gluoncv:resnet50_v1b.0ecdba34'),  # its default
        ('resnet18_v1b', {}, 'timm', 'timm:resnet18.a1_in1k'),  # the others forbid commercial use
        ('se_resnet50_v1b', {}, True, 'timm:seresnet50.ra2_in1k'),  # its divisor changes nothing here
        ('mnasnet0_5', {}, True, 'torchvision:mnasnet0_5.IMAGENET1K_V1'),
        ('atac_resnet50_v1b', {}, 'open-atac', 'open-atac:atac_resnet50_v1b.155'),
    ],
)
def test_which_weights_a_network_takes(name, options, wanted, expected):
    assert choose(get_model, name, options, wanted).name == expected


@pytest.mark.parametrize(
    ('name', 'arguments', 'words'),
    [
        ('dca_se_resnet50_v1b', {'pretrained': True}, 'no public weights for dca_se_resnet50_v1b; .* se_resnet50_v1b'),
        ('resnet50_v1b', {'pretrained': 'timm:a1_in2k'}, "'timm:a1_in2k'; of timm there are tags.* a1_in1k"),
        ('resnet50_v1b', {'pretrained': 'tim'}, "pretrained is 'tim'; .*cifar10.*'torchvision', 'timm'"),
        ('resnet50_v1b', {'pretrained': 5}, 'pretrained is 5; allowed: True, a data set'),
        ('resnet50_v1b', {'pretrained': 'timm', 'act_type': 'swish'}, r'of timm for resnet50_v1b \(act_type='),
        ('se_resnet18_v1b', {'pretrained': 'torchvision'}, 'of torchvision for se_resnet18_v1b'),
    ],
)
def test_where_there_are_none_it_says_what_there_is(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        get_model(name, **arguments)


def test_what_is_listed():
    listed = {str(name): name for name in list_models(pretrained=True)}
    assert {'resnet50_v1b', 'cifar_dca_se_resnet20_v2', 'cifar_wrn16_10', 'atac_resnet50_v1b'} <= set(listed)
    assert 'dca_se_resnet50_v1b' not in listed
    best, *_ = listed['wide_resnet50_2'].weights
    assert (best.source, best.tag, best.accuracy, best.licence) == ('timm', 'racm_in1k', 82.26, 'apache-2.0')
    assert best.preprocessing['interpolation'] == 'bicubic'
    assert list(list_models('mnasnet0_5', pretrained=True)) == ['mnasnet0_5']
    assert list_models('dca_se_resnet50_v1b')[0].weights == ()


def test_a_name_of_theirs_is_of_one_network():
    assert network_of('timm:seresnet50') == 'se_resnet50_v1b'
    assert network_of('torchvision:mnasnet0_5.IMAGENET1K_V1') == 'mnasnet0_5'
    for several in ('timm', 'timm:ra2_in1k', 'cifar10'):
        with pytest.raises(ValueError, match='does not name a single network'):
            network_of(several)


# The way of a file


@pytest.fixture
def site(monkeypatch, tmp_path):
    for proxy in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.delenv('ATTENTION_WEIGHTS', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(download, 'PAUSE', 0)
    with server() as (served, url):
        yield served, url
    empty_caches()


CACHE = Path('cache', 'attention-networks', 'weights')


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Return ``table(source, model, tag, url=..., ...)``, which puts a row into a table for the test."""
    rows = []

    def put(source, model, tag, url, checksum='', hub='', dataset='imagenet', accuracy='70.5'):
        size = ['32', ''] if dataset.startswith('cifar') else ['64', '80']
        mean, std = '0.5 0.4 0.3', '0.2 0.2 0.2'
        rows.append([source, model, tag, url, hub, checksum, dataset, accuracy, 'mit', *size, 'bicubic', mean, std])
        with open(tmp_path / 'table.csv', 'w', encoding='utf-8', newline='') as file:
            header = 'source model tag url hub checksum dataset accuracy licence size resize interpolation mean std'
            csv.writer(file).writerows([header.split(), *rows])
        empty_caches()

    monkeypatch.setattr(module, 'TABLE', tmp_path / 'table.csv')
    yield put
    monkeypatch.undo()
    empty_caches()


def sha256(content):
    return hashlib.sha256(content).hexdigest()[:8]


@pytest.fixture
def small(site, table, tmp_path):
    """Serve a network of random weights in torchvision's form; return the network, the server and the URL."""
    served, url = site
    net = drawn(SMALL[0], **SMALL[1])
    path = tmp_path / 'made.pth'
    write_state(path, to_state_dict(net, 'torchvision'))
    content = path.read_bytes()
    path.unlink()
    name = f'mnasnet-{sha256(content)}.pth'
    served.files[name] = content
    table('torchvision', 'mnasnet0_5', 'RANDOM', f'{url}/{name}', f'sha256:{sha256(content)}')
    return net, served, name


def test_from_a_server_to_the_network(small, tmp_path, capfd):
    original, served, name = small
    served.cuts = [3_000_000, None]
    net = get_model('mnasnet0_5', pretrained='torchvision')
    assert_same(net, original)
    assert f'{name}: ' in capfd.readouterr().err
    assert net.preprocessing['mean'] == [0.5, 0.4, 0.3]
    assert (net.pretrained['source'], net.pretrained['tag'], net.pretrained['licence']) == (
        'torchvision',
        'RANDOM',
        'mit',
    )
    files = {path.name for path in (tmp_path / CACHE).iterdir()}
    converted = 'torchvision-mnasnet0_5.RANDOM'
    assert files == {name, f'{converted}.params', f'{converted}.json'}
    served.files.clear()
    assert_same(get_model('mnasnet0_5', pretrained=True), original)
    assert len(served.asked) == 2

    # The download of what it needs is resumed.
    save_params(net, tmp_path / 'own.params', {'model': 'mnasnet0_5', 'model_kwargs': SMALL[1]})
    manifest = read_manifest(tmp_path / 'own.params')
    assert manifest['preprocessing'] == net.preprocessing
    assert manifest['pretrained'] == net.pretrained
    network = load_network(tmp_path / 'own.params')
    assert (network.preprocessing.size, network.preprocessing.resize) == (64, 80)
    assert network.preprocessing.interpolation == 'bicubic'


def test_other_classes_start_a_new_classifier(small):
    original, _, _ = small
    net = get_model('mnasnet0_5', pretrained='torchvision', classes=7)
    assert net(mx.nd.zeros((1, 3, 64, 64))).shape == (1, 7)
    own = values(net)
    for name in set(own) - set(net.classifier_parameters()):
        np.testing.assert_array_equal(own[name], values(original)[name])
    assert own['fc.weight'].std() > 0
    assert not own['fc.bias'].any()


def test_two_processes_at_once(small, tmp_path):
    _, served, _ = small
    code = (
        'import sys; from pathlib import Path; from model import get_model; from model.parameters import weights\n'
        'weights.TABLE = Path(sys.argv[1])\n'
        "print(get_model('mnasnet0_5', pretrained='torchvision').fc.weight.data().mean().asscalar())"
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'table.csv')]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(served.asked) == 1


def test_another_file_than_the_table_says(small):
    _, served, name = small
    served.files[name] = served.files[name][:-1] + b'x'
    with pytest.raises(UserError, match=r'a different file.* has the SHA256 .* instead of .*ATTENTION_WEIGHTS'):
        get_model('mnasnet0_5', pretrained='torchvision')


def test_parameters_of_another_network(site, table, tmp_path):
    served, url = site
    write_state(tmp_path / 'x.pth', to_state_dict(drawn('mnasnet1_0'), 'torchvision'))
    served.files['x.pth'] = (tmp_path / 'x.pth').read_bytes()
    table('torchvision', 'mnasnet0_5', 'OTHER', f'{url}/x.pth')
    with pytest.raises(UserError, match=r'x\.pth: not the parameters of this network: .* of another shape'):
        get_model('mnasnet0_5', pretrained='torchvision')


def test_a_folder_serves_machines_without_a_network(small, tmp_path, monkeypatch):
    original, served, name = small
    folder = tmp_path / 'offline'
    folder.mkdir()
    monkeypatch.setenv('ATTENTION_WEIGHTS', str(folder))
    with pytest.raises(UserError, match=rf'offline has no {name}; put it there, from http.*ATTENTION_WEIGHTS=FOLDER'):
        get_model('mnasnet0_5', pretrained='torchvision')
    (folder / name).write_bytes(served.files[name])
    assert_same(get_model('mnasnet0_5', pretrained='torchvision'), original)
    assert not served.asked
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_damaged_file_in_the_folder(small, tmp_path, monkeypatch):
    _, served, name = small
    (tmp_path / name).write_bytes(served.files[name][:1000])
    monkeypatch.setenv('ATTENTION_WEIGHTS', str(tmp_path))
    with pytest.raises(UserError, match=f'{name} has the SHA256'):
        get_model('mnasnet0_5', pretrained='torchvision')


def test_a_mirror_has_the_files_by_name(small, table, monkeypatch):
    original, served, name = small
    table('torchvision', 'mnasnet0_5', 'GONE', 'http://127.0.0.1:1/gone.pth', accuracy='99')
    with pytest.raises(UserError, match=r'cannot download http://127.0.0.1:1/gone.pth \(Connection refused\)'):
        get_model('mnasnet0_5', pretrained=True)
    served.files['mirror/gone.pth'] = served.files.pop(name)
    base = next(row.url for row in public_weights()).rpartition('/')[0]
    monkeypatch.setenv('ATTENTION_WEIGHTS', f'{base}/mirror/')
    assert_same(get_model('mnasnet0_5', pretrained=True), original)


def test_the_hub_has_what_a_dead_address_had(small, table, monkeypatch, tmp_path):
    original, served, name = small
    net = drawn('mnasnet1_0', seed=3)
    write_state(tmp_path / 'made.safetensors', to_state_dict(net, 'torchvision'))
    served.files['some/mnasnet/model.safetensors'] = (tmp_path / 'made.safetensors').read_bytes()
    base = next(row.url for row in public_weights()).rpartition('/')[0]
    monkeypatch.setattr(module, 'HUB', base + '/{}/model.safetensors')
    table('torchvision', 'mnasnet1_0', 'HUB', f'{base}/dead.pth', 'sha256:00000000', hub='some/mnasnet')
    assert_same(get_model('mnasnet1_0', pretrained='torchvision'), net)
    assert (tmp_path / CACHE / 'mnasnet1_0.HUB.safetensors').exists()


@pytest.mark.parametrize('packed', [True, False], ids=['archive', 'unpacked'])
def test_weights_in_archives(site, table, tmp_path, packed, monkeypatch):
    """The checksum of GluonCV's files is that of the archive's content."""
    served, url = site
    net = drawn('cifar_resnet20_v2', seed=4)
    with open(tmp_path / 'cifar_resnet20_v2-1.params', 'wb') as file:
        write_params_file(file, to_state_dict(net, 'gluoncv'))
    content = (tmp_path / 'cifar_resnet20_v2-1.params').read_bytes()
    checksum = f'sha1:{hashlib.sha1(content).hexdigest()}'
    table('gluoncv', 'cifar_resnet20_v2', '1', f'{url}/cifar_resnet20_v2-1.zip', checksum, dataset='cifar10')
    if packed:
        with zipfile.ZipFile(tmp_path / 'made.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / 'cifar_resnet20_v2-1.params', 'cifar_resnet20_v2-1.params')
        served.files['cifar_resnet20_v2-1.zip'] = (tmp_path / 'made.zip').read_bytes()
    else:
        monkeypatch.setenv('ATTENTION_WEIGHTS', str(tmp_path))
    assert_same(get_model('cifar_resnet20_v2', pretrained='gluoncv'), net)


def test_archives_that_hold_something_else(site, table, tmp_path):
    served, url = site
    table('gluoncv', 'cifar_resnet20_v2', '1', f'{url}/w.zip', f'sha1:{"0" * 40}', dataset='cifar10')
    for members, words in (
        ({'w.params': b'x'}, r'w\.params in it has the SHA1 .* instead of 0'),
        ({'w.txt': b'x'}, 'it holds 0 files of weights'),
    ):
        with zipfile.ZipFile(tmp_path / 'made.zip', 'w') as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        served.files['w.zip'] = (tmp_path / 'made.zip').read_bytes()
        with pytest.raises(UserError, match=words):
            get_model('cifar_resnet20_v2', pretrained='gluoncv')
        (tmp_path / CACHE / 'w.zip').unlink()


def test_the_paper_s_own_file(site, table, tmp_path):
    """open-atac's network for ImageNet, in the form in which it saves parameters, identified by its Git blob."""
    served, url = site
    net = drawn('atac_resnet50_v1b', seed=5)
    net.save_parameters(str(tmp_path / 'atac.params'))
    content = (tmp_path / 'atac.params').read_bytes()
    served.files['atac.params'] = content
    blob = hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()
    table('open-atac', 'atac_resnet50_v1b', '155', f'{url}/atac.params', f'git:{blob}')
    assert_same(get_model('atac_resnet50_v1b', pretrained='open-atac'), net)
    manifest = json.loads((tmp_path / CACHE / 'open-atac-atac_resnet50_v1b.155.json').read_text())
    assert manifest['pretrained']['file'] == 'atac.params'
