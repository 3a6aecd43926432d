"""Networks written as PyTorch modules: their parameters, their form and, if torch is there, all that they compute.

`TORCH_PYTHON` names another Python that has torch.
"""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import pytest
from mxnet import gluon

from inference.torch_source import Unwritten, torch_source
from model import get_model
from model.convert import to_state_dict
from tests.model.cases import CASES, COVERING, Case

from .names_only import parameters_of
from .written import network, write

SIDE = Path(__file__).with_name('torch_side.py')
#: Options that the battery has in other networks, or not at all.
MORE = (
    Case('se_resnet18_v1b', {'norm': 'group'}),
    Case('cifar_sk_resnet11bn_v1', {'norm': 'group'}),
    Case('cifar_sk_resnet11bn_v1', {'sample_variance': True}),
    Case('cifar_atac_resnet8_v2', {'act_sample_variance': True, 'act_global': True}),
    Case('cifar_resnet8_v2', {'act_type': 'selu', 'act_mxnet_gradient': True}),
    Case('cifar_resnet8_v2', {'update_input_norm': False, 'use_global_stats': True}),
    Case('cifar_dca_sge_resnet20bn_v1', {'sge_groups': 8}),
    Case('cbam_mobilenet_v2', {'norm_momentum': 0.5}),
)
FIGURES = ('float32', 'evaluated', 'trained', 'gradients', 'steps')


def torch_python():
    if os.environ.get('TORCH_PYTHON'):
        return os.environ['TORCH_PYTHON']
    if importlib.util.find_spec('torch') is None:
        pytest.skip('torch is not installed')
    return sys.executable


def fresh(case):
    net = get_model(case.name, **case.options)
    net.initialize()
    return net


# Networks with options consist of the same parts.
PLAIN = [pytest.param(case, marks=pytest.mark.heavy) if case.options else case for case in CASES]


@pytest.mark.parametrize('case', [*PLAIN, *MORE, *COVERING], ids=str)
def test_its_parameters_are_those_of_reverse(case, monkeypatch):
    net = fresh(case)
    source = torch_source(net, case.name, 32)
    found = parameters_of(source, monkeypatch)
    assert {name: each.shape for name, each in found.items()} == {
        name: array.shape for name, array in to_state_dict(net).items()
    }
    assert max(map(len, source.splitlines())) <= 120
    names = [node.name for node in ast.parse(source).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    assert len(names) == len(set(names))


def test_blocks_of_one_form_are_one_class():
    source = torch_source(fresh(next(case for case in CASES if case.name == 'resnet50_v1b')), 'resnet50_v1b', 32)
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert classes == ['BatchNorm', 'BottleneckWithDownsample', 'Bottleneck', 'ResNetV1b']
    assert '*(Bottleneck(1024, 256) for _ in range(5)),' in source
    assert '    def forward(self, x):\n        out = self.conv3(self.relu2(self.bn2(self.conv2(self.relu1(' in source


def test_a_shared_block_is_one(monkeypatch):
    net = get_model('cifar_dia_resnet29bn_v1')
    net.initialize()
    source = torch_source(net, 'cifar_dia_resnet29bn_v1')
    assert "share(self.layer1[2].attention, 'cell', self.layer1[0].attention.cell)" in source
    assert not [name for name in parameters_of(source, monkeypatch) if name.startswith('layer1.2.attention')]


class Halved(gluon.HybridBlock):
    """A unit from outside the project."""

    def __init__(self, channels):
        super().__init__()
        self.scale = self.params.get('scale', shape=(1, channels, 1, 1), init='ones')

    def hybrid_forward(self, F, x, scale):
        return F.broadcast_mul(F.tanh(x) / 2, scale)


class Odd(gluon.HybridBlock):
    def __init__(self, channels):
        super().__init__()

    def hybrid_forward(self, F, x):
        return F.gammaln(x)


def test_units_of_ones_own(monkeypatch):
    net = get_model('cifar_resnet8_v2', attention=Halved)
    net.initialize()
    source = torch_source(net, 'mine')
    assert 'return torch.tanh(x) / 2 * self.scale' in source
    assert '"""A unit from outside the project."""' in source
    assert parameters_of(source, monkeypatch)['features.2.0.attention.scale'].shape == (1, 16, 1, 1)
    net = get_model('cifar_resnet8_v2', attention=Odd)
    net.initialize()
    with pytest.raises(Unwritten, match='Odd computes gammaln'):
        torch_source(net, 'mine')


def test_the_network_stays_as_it_was():
    net = network('cifar_dca_se_resnet20bn_v1')
    data = mx.nd.ones((1, 3, 32, 32))
    before = net(data).asnumpy()
    torch_source(net, 'x')
    assert (net(data).asnumpy() == before).all()


@pytest.mark.slow
def test_logits_gradients_and_steps_are_ours(tmp_path):
    python = torch_python()
    folders = []
    cases = [*CASES, *MORE]
    for number, case in enumerate(cases):
        folders.append(str(tmp_path / str(number)))
        options = {**case.options, 'final_drop': 0.0}
        # MXNet keeps the weights of a resizing in float32, which is exact for sides of 9, 17 and 33.
        shape = (4, 3, 66, 66) if 'residual_attention' in case.name else (4, *case.input_shape[1:])
        write(Path(folders[-1]), network(case.name, **options), case.name, shape)
    done = subprocess.run([python, str(SIDE), *folders], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for number, figures in json.loads(done.stdout).items():
        case = cases[int(number)]
        limits = {name: 1e-4 if name == 'steps' else 1e-5 for name in FIGURES}
        if 'share_' in case.name:
            # MXNet updates running statistics in the backward pass, and so those of a shared norm in its order.
            del limits['steps']
        assert all(figures[name] < limit for name, limit in limits.items()), (str(case), figures)
