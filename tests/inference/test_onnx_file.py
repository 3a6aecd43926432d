"""ONNX files of every network: checked, and run by ONNX Runtime with the same outputs for any batch."""

import mxnet as mx
import numpy as np
import pytest

from environment import UserError
from model import get_model
from tests.inference.networks import check_answers, images, make
from tests.model.cases import CASES, COVERING, Case

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from inference.onnx_file import OPSET, OnnxNetwork, export_onnx  # noqa: E402

# One for each unit, connection and backbone; `-m heavy` has larger ones of the same parts.
NAMES = {'resnet18_v1b', 'mnasnet0_5', 'cifar_resnet8_v2', 'cifar_residual_attention92_pooled', 'cifar_wrn10_1'}
SOME = [case for case in CASES if '_resnet20bn_v1' in case.name or case.name in NAMES]
SOME.append(Case('cbam_mobilenet_v2', {}))  # maxima over numbers of channels that are not a power of two


@pytest.mark.parametrize('case', [*SOME, *COVERING], ids=str)
def test_same_answers(case, tmp_path):
    net = make(case.name, case.input_shape, **case.options)
    data = images(case.input_shape)
    export_onnx(net, tmp_path / 'net.onnx', case.input_shape[2])
    run = OnnxNetwork(tmp_path / 'net.onnx')
    expected = net(data)
    check_answers(run(data), net, data, expected, 1e-4)
    check_answers(run(data[:1]), net, data[:1], expected[:1], 1e-4)


def test_what_the_file_says(tmp_path):
    file = tmp_path / 'net.onnx'
    export_onnx(make('cifar_resnet8_v2', (2, 3, 32, 32)), file, 32, {'model': 'ä'})
    model = onnx.load(str(file))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', OPSET)]
    (entry,) = model.graph.input  # parameters are not inputs
    sides = [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim]
    assert (entry.name, sides[0], sides[1:]) == ('data', 'N', [3, 32, 32])
    assert OnnxNetwork(file).info() == {'model': 'ä'}
    assert len(list(tmp_path.iterdir())) == 1


def test_mistakes(tmp_path):
    file = tmp_path / 'net.onnx'
    file.write_bytes(b'no network')
    with pytest.raises(UserError, match=r'net\.onnx cannot be read as an ONNX file'):
        OnnxNetwork(file)
    with pytest.raises(ValueError, match='has no value yet'):
        export_onnx(get_model('cifar_resnet8_v2'), file, 32)
    assert file.read_bytes() == b'no network'


def test_logits_are_arrays(tmp_path):
    export_onnx(make('cifar_resnet8_v2', (2, 3, 32, 32)), tmp_path / 'net.onnx', 32)
    run = OnnxNetwork(tmp_path / 'net.onnx')
    assert isinstance(run(images((1, 3, 32, 32))), mx.nd.NDArray)
    assert run.run(np.zeros((5, 3, 32, 32), np.float32)).shape == (5, 10)
