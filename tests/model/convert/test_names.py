"""The names in the tables: those of the originals, and PyTorch's for everything else."""

import mxnet as mx
import pytest
from mxnet.gluon import nn

from model import get_model
from model.convert import residual_attention as table
from model.convert import to_state_dict
from model.convert.tables import expand, torch_names
from tests.model.golden import fill
from tests.model.test_golden_residual_attention import NAMES

from .cases import arrays, randomize, residual_attention, small

FILES = {path.name[: -len('.json.gz')]: path for path in fill.files('residual_attention')}


@pytest.mark.parametrize('case', FILES)
def test_residual_attentions_names_and_shapes_are_the_originals(case):
    golden = fill.read(FILES[case])
    net = get_model(NAMES[golden['model']], classes=10)
    parameters = net._collect_params_with_prefix()
    shapes = {name: tuple(parameters[own].shape) for name, own in table.names(net).items()}
    assert set(table.names(net).values()) == set(parameters)
    assert set(table.unused(net)) == set(golden['unused'])
    assert {**shapes, **table.unused(net)} == {name: tuple(shape) for name, shape in golden['state']}


def test_the_originals_state_has_zeros_for_what_it_never_uses():
    state = to_state_dict(randomize(residual_attention()), 'residual-attention')
    unused = table.unused(residual_attention())
    assert unused
    for name, array in state.items():
        assert (array == 0).all() == (name in unused)


def test_pytorchs_names_for_a_network_of_our_own():
    net = randomize(get_model('atac_resnet18_v1b', classes=3))
    state, ours = to_state_dict(net), arrays(net)
    # As torchvision names them.
    assert {'conv1.weight', 'bn1.weight', 'bn1.bias', 'bn1.running_mean', 'layer2.0.downsample.1.bias'} < set(state)
    assert len(state) == len(ours)
    assert not [name for name in state if name.endswith(('gamma', 'beta'))]
    assert (state['layer1.0.bn2.weight'] == ours['layer1.0.bn2.gamma']).all()
    assert (state['layer4.1.relu1.module.1.bias'] == ours['layer4.1.relu1.module.1.beta']).all()


def test_a_shared_parameter_comes_once():
    net = randomize(small('dianet'))
    state = to_state_dict(net)
    units = [name for name in state if 'attention' in name]
    assert units
    assert all(name.startswith(('layer1.0.', 'layer2.0.', 'layer3.0.')) for name in units)
    assert len(state) == len({id(p) for p in net._collect_params_with_prefix().values()})


class Scaled(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        self.beta = self.params.get('beta', shape=(1,))
        self.norm = nn.LayerNorm(in_channels=2)
        self.prelu = nn.PReLU(in_channels=2)


def test_our_own_norms_and_prelu_have_pytorchs_leaves():
    """The group norm, the image norm and the PReLU are blocks of ours."""
    net = get_model('cifar_resnet8_v2', act_type='prelu', norm='group')
    names, kinds = torch_names(net), set()
    for name, own in names.items():
        if own.endswith(('gamma', 'beta', 'alpha')):
            kinds.add(own.rpartition('.')[2])
            assert name.endswith('bias' if own.endswith('beta') else 'weight')
    assert kinds == {'gamma', 'beta', 'alpha'}
    # Its first layer normalises images.
    assert names['features.0.weight'] == 'features.0.gamma'
    assert names['features.0.bias'] == 'features.0.beta'


def test_only_norms_and_prelu_are_renamed():
    assert torch_names(Scaled()) == {
        'beta': 'beta',
        'norm.weight': 'norm.gamma',
        'norm.bias': 'norm.beta',
        'prelu.weight': 'prelu.alpha',
    }


def test_prefixes_expand_to_the_longest_that_fits():
    assert expand(Scaled(), [('a.b', 'norm')]) == {'a.b.weight': 'norm.gamma', 'a.b.bias': 'norm.beta'}
    net = nn.HybridSequential()
    net.add(Scaled())
    names = expand(net, [('x', '0'), ('y', '0.norm')])
    assert names == {
        'x.beta': '0.beta',
        'y.weight': '0.norm.gamma',
        'y.bias': '0.norm.beta',
        'x.prelu.weight': '0.prelu.alpha',
    }
