"""An exported detector finds the same boxes, with MXNet alone."""

import json
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from detection import export
from detection.export_onnx import apart
from detection.network import LoadedDetector
from detection.preprocessing import DetectionPreprocessing
from environment import UserError
from inference import portable
from tests.damage import damaged
from tests.detection.cases import KINDS, SMALL, outspoken, small

KNOWN = DetectionPreprocessing(64, 96)
READER = """
import sys, warnings
warnings.simplefilter('ignore')
sys.path.insert(0, sys.argv[2])
import environment  # prepares this Python and NumPy for the import of MXNet
import mxnet as mx, numpy as np
net = mx.gluon.SymbolBlock.imports('detector-symbol.json', ['data', 'sizes'], 'detector-0000.params')
for name in sys.argv[1].split(','):
    with np.load(name + '.npz') as given:
        outputs = net(mx.nd.array(given['data']), mx.nd.array(given['sizes']))
    np.savez(name + '-found.npz', *(array.asnumpy() for array in outputs))
assert not {'model', 'detection', 'inference'} & set(sys.modules)
"""


def network(kind, backbone='resnet18_v1b'):
    options = {'classes': 2, **SMALL[kind]}
    return LoadedDetector(outspoken(small(kind, backbone)), f'{kind}_{backbone}', options, KNOWN, ('a', 'b'), {})


def pictures(count=2):
    random = np.random.RandomState(0)
    return [random.randint(0, 256, (80, 100 + 20 * i, 3)).astype(np.uint8) for i in range(count)]


@pytest.mark.parametrize(('kind', 'backbone'), [(KINDS[0], 'dca_se_resnet50_v1b'), (KINDS[1], 'dia_resnet18_v1b')])
def test_the_same_boxes_for_any_batch_and_size_without_anything_of_ours(kind, backbone, tmp_path, pytestconfig):
    loaded = network(kind, backbone)
    proof = export.export_detector(loaded, tmp_path / 'out', pictures())
    assert proof['boxes'] > 10
    assert proof['images'] == 2
    assert proof['difference'] <= export.TOLERANCE
    info = json.loads((tmp_path / 'out' / 'export.json').read_text())
    assert info['model'] == f'{kind}_{backbone}'
    assert info['proof'] == proof
    assert DetectionPreprocessing.from_dict(info['preprocessing']) == KNOWN

    random = np.random.RandomState(1)
    batches = {'one': (1, 64, 96), 'three': (3, 96, 64)}
    for name, (count, height, width) in batches.items():
        data = random.normal(size=(count, 3, height, width)).astype(np.float32)
        sizes = np.stack([np.full(count, height - 5), np.full(count, width)], axis=1).astype(np.float32)
        np.savez(tmp_path / 'out' / f'{name}.npz', data=data, sizes=sizes)
    command = [sys.executable, '-c', READER, ','.join(batches), str(pytestconfig.rootpath)]
    done = subprocess.run(command, cwd=tmp_path / 'out', capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in batches:
        with np.load(tmp_path / 'out' / f'{name}.npz') as given, np.load(
            tmp_path / 'out' / f'{name}-found.npz'
        ) as found:
            expected = loaded.net(mx.nd.array(given['data']), mx.nd.array(given['sizes']))
            for i, array in enumerate(expected):
                assert found[f'arr_{i}'] == pytest.approx(array.asnumpy(), abs=1e-3)


def test_a_damaged_export_is_told(tmp_path):
    loaded, folder = network('retinanet'), tmp_path / 'out'
    export.export_detector(loaded, folder, pictures(1))
    data = mx.nd.array(np.random.RandomState(1).normal(size=(1, 3, 64, 64)))
    inputs = [data, mx.nd.array([[64, 64]])]
    run, info = portable.load(str(folder))
    assert set(info['sha256']) == {path.name for path in folder.iterdir()} - {portable.INFO}
    expected = [array.asnumpy() for array in run(*inputs)]
    told = 0
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for seed in range(8):
            path.write_bytes(damaged(content, seed))
            try:
                run, _ = portable.load(str(folder))
            except portable.DamagedExport as error:
                assert '\n' not in str(error)  # noqa: PT017
                told += 1
            else:
                assert all(np.array_equal(one.asnumpy(), two) for one, two in zip(run(*inputs), expected))
        path.write_bytes(content)
    assert told > 25


def test_a_network_that_finds_other_boxes_is_refused(tmp_path, monkeypatch):
    loaded = network('retinanet')
    honest = export._arrays

    def wrong(det, symbol):
        arrays = honest(det, symbol)
        name = 'arg:' + det.head.box_output.bias.name
        return {**arrays, name: arrays[name] + 0.1}

    monkeypatch.setattr(export, '_arrays', wrong)
    with pytest.raises(UserError, match='differs by .* pixels'):
        export.export_detector(loaded, tmp_path / 'out', pictures(1))


@pytest.mark.parametrize(('kind', 'backbone'), [(KINDS[0], 'cbam_resnet18_v1b'), (KINDS[1], 'resnet18_v1b')])
def test_one_onnx_file_finds_the_same_boxes_in_any_batch(kind, backbone, tmp_path):
    onnx = pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    loaded = network(kind, backbone)
    proof = export.export_detector(loaded, tmp_path, pictures(3), ('mxnet', 'onnx'), (96, 96))
    assert proof['onnx']['boxes'] > 10
    assert proof['onnx']['missed'] <= 0.02 * proof['onnx']['boxes']
    assert proof['onnx']['difference'] < export.ON_CANVAS
    info = json.loads((tmp_path / 'export.json').read_text())
    assert info['files']['onnx']['canvas'] == [96, 96]
    assert info['proof'] == proof
    model = onnx.load(str(tmp_path / 'detector.onnx'))
    assert 'NonMaxSuppression' in {node.op_type for node in model.graph.node}
    session = runtime.InferenceSession(str(tmp_path / 'detector.onnx'))
    random = np.random.RandomState(2)
    for count in (1, 3):
        data = random.normal(size=(count, 3, 96, 96)).astype(np.float32)
        sizes = np.full((count, 2), 90, np.float32)
        expected = [array.asnumpy() for array in loaded.net(mx.nd.array(data), mx.nd.array(sizes))]
        found = session.run(None, {'data': data, 'sizes': sizes})
        assert [array.shape for array in found] == [array.shape for array in expected]
        difference, missed, boxes = apart(expected, found, export.ON_CANVAS)
        assert boxes > 10
        assert missed <= 0.02 * boxes
        assert difference < export.ON_CANVAS


def test_an_image_larger_than_the_canvas_is_told(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    with pytest.raises(UserError, match=r'larger than the canvas of 64 x 64; give a larger --canvas'):
        export.export_detector(network('retinanet'), tmp_path, pictures(1), ('mxnet', 'onnx'), (64, 64))


def test_boxes_are_compared_without_their_order():
    boxes = np.array([[[0, 0, 9, 9], [20, 20, 30, 30], [-1, -1, -1, -1]]], np.float32)
    scores, labels = np.array([[0.5, 0.49999, -1]]), np.array([[1, 1, -1]])
    one = (boxes, scores, labels)
    assert apart(one, one, 0.1) == (0, 0, 2)
    turned = (boxes[:, [1, 0, 2]] + 0.05, scores, labels)
    difference, missed, _ = apart(one, turned, 0.1)
    assert (round(difference, 2), missed) == (0.05, 0)
    assert apart(one, (boxes, scores, np.array([[1, 0, -1]])), 0.1).missed == 1
    assert apart(one, (boxes + 1, scores, labels), 0.1).missed == 2
    twice = (boxes[:, [0, 0, 2]], scores, labels)
    assert apart(one, twice, 0.1).missed == 1
