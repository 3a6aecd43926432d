"""ONNX files that contain the preprocessing, in int8, and for OpenVINO, with operators that every reader knows."""

import mxnet as mx
import numpy as np
import pytest

from data.choices import INTERPOLATIONS
from data.preprocessing import Preprocessing
from environment import UserError
from inference.export import export, load_exported
from inference.network import LoadedNetwork
from tests.inference.optimization.test_optimize import images, make

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from inference.onnx_file import OnnxNetwork, onnx_content  # noqa: E402
from inference.onnx_images import geometry  # noqa: E402

# From 2020 and earlier, except for what resizing and NMS need.
PLAIN = set(
    'Add AveragePool BatchNormalization Clip Concat Conv ConstantOfShape Div Elu Erf Exp Expand Flatten Gemm '
    'GlobalAveragePool MatMul Max MaxPool Mul Pow ReduceMax ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid '
    'Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze Concat Cast'.split()
)
UNITS = ('cbam', 'ca', 'triplet', 'sge', 'gc', 'dca_cbam', 'dca_sge', 'dia', 'simam', 'sk', 'iaff')


@pytest.mark.parametrize('unit', UNITS)
def test_operators_are_plain(unit):
    net = make(f'cifar_{unit}_resnet11bn_v1', (2, 3, 32, 32))
    model = onnx.load_from_string(onnx_content(net, 32))
    assert {node.op_type for node in model.graph.node} <= PLAIN
    used = {name for node in model.graph.node for name in node.input}
    assert {array.name for array in model.graph.initializer} <= used


@pytest.fixture
def loaded():
    net = make('cifar_dca_cbam_resnet11bn_v1', (2, 3, 32, 32))
    return LoadedNetwork(net, 'x', {}, Preprocessing(32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)), None, {})


def pixels(count=12):
    return np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def test_pixels_in_logits_out(loaded, tmp_path):
    proof = export(loaded, tmp_path, loaded.preprocessing.batch(pixels()), ('onnx', 'onnx-pixels'))
    assert proof['onnx-pixels']['difference'] < 1e-5
    (entry,) = onnx.load(str(tmp_path / 'network-pixels.onnx')).graph.input
    sides = [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim]
    assert (entry.name, sides) == ('pixels', ['N', 32, 32, 3])
    with pytest.raises(UserError, match='takes pixels'):
        load_exported(tmp_path / 'network-pixels.onnx')


SIDES = [(40, 56), (56, 40), (33, 33), (9, 70), (70, 9), (36, 90), (72, 105), (31, 93), (1, 3), (64, 36), (300, 217)]


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
@pytest.mark.parametrize('resize', [None, 36])
def test_scaling_inside_is_our_own(tmp_path, interpolation, resize):
    """Within two levels on noise (one on photos). A scaled side may end in one half: that of (72, 105) is 52.5."""
    known = Preprocessing(32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), resize, interpolation)
    (tmp_path / 'geometry.onnx').write_bytes(geometry(known))
    run = OnnxNetwork(tmp_path / 'geometry.onnx').run
    random = np.random.RandomState(0)
    for sides in SIDES:
        # Cubic weights overshoot, and clipping between the two passes makes their order matter.
        images = random.randint(64, 192, (2, *sides, 3)).astype(np.uint8)
        found = run(images)
        assert found.dtype == np.uint8
        apart = np.abs(found.astype(int) - np.stack([known.fit(image) for image in images]))
        assert apart.max() <= 2, sides


def test_images_in_logits_out(loaded, tmp_path):
    pictures = [np.random.RandomState(i).randint(0, 256, (40 + i, 60, 3)).astype(np.uint8) for i in range(3)]
    for given in (pictures, ()):
        batch = loaded.preprocessing.batch(pixels(3))
        proof = export(loaded, tmp_path / 'out', batch, ('onnx', 'onnx-images'), pictures=given)['onnx-images']
        assert proof['difference'] < 1e-2
        assert proof['levels'] <= 2
    model = onnx.load(str(tmp_path / 'out' / 'network-images.onnx'))
    assert [each.version for each in model.opset_import] == [18]
    (entry,) = model.graph.input
    assert [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim] == ['N', 'H', 'W', 3]
    run = OnnxNetwork(tmp_path / 'out' / 'network-images.onnx')
    assert 'attention-networks' in run.session.get_modelmeta().custom_metadata_map
    several = run.run(np.stack([pictures[0]] * 2))
    expected = loaded.net(mx.nd.array(loaded.preprocessing.image(pictures[0]))).asnumpy()
    np.testing.assert_allclose(several, np.repeat(expected, 2, axis=0), atol=1e-2 * np.abs(expected).max())
    with pytest.raises(UserError, match='takes pixels, which it prepares itself'):
        load_exported(tmp_path / 'out' / 'network-images.onnx')


@pytest.mark.parametrize('name', ['cifar_dca_cbam_resnet11bn_v1', 'cifar_sk_resnet11bn_v1'])
def test_int8(name, tmp_path):
    net = make(name, (2, 3, 32, 32))
    loaded = LoadedNetwork(net, name, {}, Preprocessing(32, (0.5,) * 3, (0.25,) * 3), None, {})
    proof = export(loaded, tmp_path, loaded.preprocessing.batch(pixels()), ('onnx', 'onnx-int8'))
    assert proof['onnx-int8']['difference'] < 0.3
    model = onnx.load(str(tmp_path / 'network-int8.onnx'))
    kinds = [node.op_type for node in model.graph.node]
    assert 'QuantizeLinear' in kinds
    assert 'DequantizeLinear' in kinds
    sizes = [(tmp_path / file).stat().st_size for file in ('network-int8.onnx', 'network.onnx')]
    assert sizes[0] < 0.8 * sizes[1]


def test_openvino(loaded, tmp_path):
    pytest.importorskip('openvino')
    proof = export(loaded, tmp_path, images((3, 3, 32, 32)).asnumpy(), ('openvino',))
    assert proof['openvino']['difference'] < 1e-5
