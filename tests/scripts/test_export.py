"""scripts/export.py: what it writes answers like the network, wherever it is moved, without our packages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from data.preprocessing import Preprocessing
from environment import UserError
from environment.cpu import lacks
from inference import portable
from inference.export import KINDS, load_exported, possible_kinds
from inference.network import load_network
from inference.optimization.proof import difference
from tests.data.conftest import write_images
from tests.inference.test_foreign import layers, saved
from tests.scripts.conftest import ROOT, run

LOADER = """
import sys, warnings
warnings.simplefilter('ignore')
import environment_of_tests  # prepares this Python and NumPy for the import of MXNet
import mxnet as mx, numpy as np
from load import load
images = mx.nd.array(np.load('images.npy'))
for kind in ('mxnet', 'optimized'):
    net, info = load(kind=kind)
    np.save(kind, net(images).asnumpy())
assert info['model'] == 'cifar_atac_resnet8_v2', info
ours = {'model', 'inference', 'training'} & set(sys.modules)
assert not ours, ours
"""


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / 'images', 6, size=50)
    return tmp_path / 'images'


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'int8'])
def test_a_moved_folder_needs_mxnet_and_numpy_alone(precision, digits_params, images, tmp_path):
    if lacks(precision):
        pytest.skip(f'this processor has no {precision}')
    figures = tmp_path / 'proof.json'
    given = ['--precision', precision, '--batch-size', 4, '--images', images, '--json', figures]
    done = run('export.py', '--params', digits_params, '-o', tmp_path / 'first', *given)
    assert done.returncode == 0, done.stderr
    proof = json.loads(figures.read_text())
    assert list(proof) == possible_kinds()
    assert max(proof[kind]['difference'] for kind in proof if kind != 'optimized') < 1e-4
    assert all(f'{kind} ' in done.stdout for kind in proof)
    moved = tmp_path / 'elsewhere' / 'second'
    moved.parent.mkdir()
    shutil.move(str(tmp_path / 'first'), str(moved))
    network = load_network(digits_params)
    data = np.concatenate([network.preprocessing.image(file) for file in sorted(images.iterdir())])
    np.save(moved / 'images.npy', data)
    (moved / 'environment_of_tests.py').write_text(f'import sys\nsys.path.append({str(ROOT)!r})\nimport environment\n')
    loaded = subprocess.run(
        [sys.executable, '-c', LOADER], cwd=moved, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    expected = network.net(mx.nd.array(data))
    for kind in ('mxnet', 'optimized'):
        allowed = 1e-4 if kind == 'mxnet' or precision == 'float32' else 0.2
        assert difference(mx.nd.array(np.load(moved / f'{kind}.npy')), expected) < allowed
    sizes = {file.name: file.stat().st_size for file in moved.iterdir()}
    if precision == 'int8':
        assert sizes['optimized-0000.params'] < 0.4 * sizes['network-0000.params']


def test_predictions_of_what_was_exported(digits_params, images, tmp_path, in_process):
    folder = tmp_path / 'exported'
    assert in_process('export.py', '--params', digits_params, '-o', folder, '--images', images)[0] == 0
    files = sorted(images.iterdir())
    answers = {}
    for name, given in {
        'params': ['--params', digits_params],
        'optimized': ['--params', digits_params, '--precision', 'float32'],
        'folder': ['--exported', folder],
        'plain': ['--exported', folder, '--kind', 'mxnet'],
        'onnx': ['--exported', folder / 'network.onnx'],
        'onnx of the folder': ['--exported', folder, '--kind', 'onnx'],
    }.items():
        if name.startswith('onnx') and 'onnx' not in possible_kinds():
            continue
        code, _, err = in_process('predict.py', images, *given, '--json', tmp_path / 'p.json')
        assert code == 0, err
        rows = json.loads((tmp_path / 'p.json').read_text())
        assert [row['image'] for row in rows] == [str(file) for file in files]
        answers[name] = [[(entry['class'], round(entry['probability'], 3)) for entry in row['classes']] for row in rows]
    assert all(answer == answers['params'] for answer in answers.values()), answers


@pytest.mark.parametrize(
    ('entries', 'fault'),
    [
        (None, 'it is not JSON'),
        ([], 'it is not a table'),
        ({'files': []}, r'files is \[\]'),
        ({'files': {'mxnet': 5}}, 'files.mxnet is 5'),
        ({'files': {'mxnet': {'symbol': 'network-symbol.json', 'params': 'none.params'}}}, 'none.params|no such file'),
        ({'files': {'mxnet': {'symbol': '../x.json'}}}, "symbol is '../x.json'; allowed: the name of a file beside it"),
        ({'files': {'optimized': {'params': '/x.params'}}}, "params is '/x.params'; allowed: the name of a file"),
        ({'files': {'onnx': {'file': 'a/x.onnx'}}}, "file is 'a/x.onnx'; allowed: the name of a file"),
        ({'model': None}, 'model is None'),
        ({'class_names': 5}, 'class_names is 5'),
        ({'model_kwargs': []}, r'model_kwargs is \[\]'),
    ],
)
def test_an_export_json_of_another_form_is_told(entries, fault, tmp_path):
    symbol = mx.sym.var('data') * mx.sym.var('weight')
    (tmp_path / 'network-symbol.json').write_text(symbol.tojson())
    mx.nd.save(str(tmp_path / 'network-0000.params'), {'weight': mx.nd.ones(1)})
    files = {'mxnet': {'symbol': 'network-symbol.json', 'params': 'network-0000.params'}}
    preprocessing = {'size': 32, 'mean': [0.3] * 3, 'std': [0.35] * 3}
    info = {'model': 'x', 'model_kwargs': {}, 'class_names': None, 'preprocessing': preprocessing, 'files': files}
    path = tmp_path / 'export.json'
    path.write_text(json.dumps(info))
    assert load_exported(tmp_path).name == 'x'
    path.write_text('{' if entries is None else json.dumps({**info, **entries} if entries else entries))
    with pytest.raises(UserError, match=f'(is not a network that scripts/export.py wrote|is damaged).*({fault})'):
        load_exported(tmp_path)


@pytest.mark.parametrize('names', [('../s.json', 'p'), ('s.json', '/p'), ('', 'p'), ('..', 'p'), ('s.json', 'a/p')])
def test_nor_does_the_folders_own_loader_open_what_is_outside(names, tmp_path):
    files = {'mxnet': dict(zip(('symbol', 'params'), names))}
    (tmp_path / 'export.json').write_text(json.dumps({'files': files}))
    (tmp_path / 's.json').write_text(mx.sym.var('data').tojson())
    with pytest.raises(ValueError, match='leads out of the folder'):
        portable.load(str(tmp_path))


def test_images_are_spread_over_what_is_given(digits_params, tmp_path, in_process, monkeypatch):
    for name in ('ant', 'bee'):
        write_images(tmp_path / 'images' / name, 6, size=32)
    seen = []

    class Stop(Exception):
        pass

    def watch(self, image):
        seen.append(image)
        if len(seen) == 4:
            raise Stop
        return read(self, image)

    read = Preprocessing.read
    monkeypatch.setattr(Preprocessing, 'read', watch)
    given = ['--images', tmp_path / 'images', '--limit', 4]
    with pytest.raises(Stop):
        in_process('export.py', '--params', digits_params, '-o', tmp_path / 'x', *given)
    assert [Path(path).parent.name for path in seen] == ['ant', 'ant', 'bee', 'bee']


@pytest.fixture
def no_onnx(monkeypatch):
    """Pretend that the extra is not installed."""
    monkeypatch.setitem(sys.modules, 'onnx', None)


def test_without_onnx_everything_else_is_exported(digits_params, images, tmp_path, in_process, no_onnx):
    folder = tmp_path / 'exported'
    code, out, err = in_process('export.py', '--params', digits_params, '-o', folder, '--images', images)
    assert code == 0, err
    assert err.startswith('onnx is left out, which is an extra; for it run: ')
    assert ' --onnx\n' in err
    assert set(json.loads((folder / 'export.json').read_text())['files']) == {'mxnet', 'optimized'}
    assert '\nonnx ' not in out


def test_onnx_that_cannot_be_written_is_told_before_anything_is(digits_params, tmp_path, in_process, no_onnx):
    given = ['--params', digits_params, '-o', tmp_path / 'exported', '--kinds', ','.join(KINDS)]
    code, _, err = in_process('export.py', *given)
    assert (code, err.count('\n')) == (1, 1)
    assert 'has no package onnx; run: ' in err
    assert not (tmp_path / 'exported').exists()


def test_mistakes(digits_params, bare_params, tmp_path, in_process):
    for given, status, sentence in [
        (['--kinds', 'onnx,caffe'], 2, "--kinds has 'caffe'; allowed: mxnet, optimized, onnx"),
        (['--precision', 'int8'], 2, '--precision int8 needs --images'),
        (['--images', tmp_path], 1, 'contains no image'),
        (['--precision', 'float16', '--kinds', 'optimized'], 1, 'needs a GPU'),
        (
            ['--precision', 'bfloat16', '--kinds', 'mxnet'],
            2,
            '--precision is for the optimized network',
        ),
        (['--batch-size', 4, '--kinds', 'mxnet'], 2, '--batch-size is for the optimized network'),
        (['--limit', 4], 2, '--limit is for --images, which is not given'),
    ]:
        code, _, err = in_process('export.py', '--params', digits_params, '-o', tmp_path / 'x', *given)
        assert (code, sentence in err, err.count('\n')) == (status, True, 1), err
    for given, status, sentence in [
        (['--exported', tmp_path / 'absent.onnx'], 1, 'absent.onnx'),
        (['--exported', tmp_path], 1, 'is not a network that scripts/export.py wrote'),
        (['--exported', tmp_path, '--size', '64'], 2, '--size is for --params'),
        (['--exported', tmp_path, '--interpolation', 'plain'], 2, '--interpolation is for --params'),
        (['--exported', tmp_path, '--mode', 'static'], 2, '--mode is for --params'),
        (['--exported', tmp_path, '--precision', 'int8'], 2, '--precision int8 is for --params'),
        (
            ['--exported', tmp_path, '--params', digits_params],
            2,
            'either --params FILE, --pretrained SOURCE or --exported PATH',
        ),
        ([], 2, 'either --params FILE, --pretrained SOURCE or --exported PATH'),
        (['--params', digits_params, '--kind', 'onnx'], 2, '--kind onnx is for --exported'),
        (['--params', digits_params, '--precision', 'int8'], 2, 'belong together'),
    ]:
        code, _, err = in_process('predict.py', 'x.jpg', *given)
        assert (code, sentence in err, err.count('\n')) == (status, True, 1), err


@pytest.fixture
def theirs(tmp_path):
    """Write a symbol with a loss and its parameters as ``Module.save_checkpoint`` does."""
    symbol, params = saved(tmp_path, mx.sym.SoftmaxOutput(layers(), name='softmax'))
    return ['--symbol', symbol, '--params', params]


def test_a_network_of_somebody_elses(theirs, tmp_path, in_process):
    out = tmp_path / 'out'
    code, told, err = in_process('export.py', *theirs, '--input-shape', '1,3,12,10', '-o', out, '--kinds', 'mxnet')
    assert code == 0, err
    assert told.splitlines()[0] == f'net in {out}, for inputs of 3 x 12 x 10'
    assert told.splitlines()[1] == 'removed: SoftmaxOutput softmax with softmax_label'
    info = json.loads((out / 'export.json').read_text())
    assert info['stripped'] == ['SoftmaxOutput softmax with softmax_label']
    assert info['proof']['mxnet']['difference'] < 1e-6
    code, _, err = in_process('predict.py', 'x.jpg', '--exported', out)
    assert (code, 'give an exported classifier' in err) == (1, True)


def test_mistakes_with_networks_of_somebody_elses(theirs, digits_params, tmp_path, in_process):
    for given, status, sentence in [
        (theirs[:2], 2, '--symbol needs --params, the file with its parameters'),
        ([*theirs, '--gluoncv', 'resnet18_v1'], 2, '--symbol and --gluoncv name two networks'),
        ([*theirs, '--input-shape', '1,3,x'], 2, "--input-shape: '1,3,x' is not a shape"),
        ([*theirs, '--model', 'resnet18_v1b'], 2, "--model is for the project's networks"),
        ([*theirs, '--classes', 4], 2, '--classes is for networks that are built'),
        ([*theirs, '--kinds', 'torch'], 2, "--kinds has 'torch'; allowed: mxnet, optimized, onnx, openvino"),
        (theirs, 1, 'does not state the shape of its input data; give it: --input-shape'),
        (['--sagemaker', tmp_path / 'none.tar.gz'], 1, 'none.tar.gz'),
        (['--sagemaker', 'x', '--params', digits_params], 2, '--sagemaker cannot be combined with --params'),
        (['--params', digits_params, '--input-shape', '1,3,8,8'], 2, '--input-shape is for networks given by'),
        ([], 2, '--params is missing'),
    ]:
        code, _, err = in_process('export.py', '-o', tmp_path / 'x', *given)
        assert (code, sentence in err, err.count('\n')) == (status, True, 1), (given, err)
    assert not (tmp_path / 'x').exists()
