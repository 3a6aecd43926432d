"""Forms of networks that no original has, although their parameters may have its names."""

import pytest

from model import get_model
from model.convert import load_state_dict, to_state_dict

from .cases import randomize

DIA = 'cifar_dia_resnet11bn_v1'


@pytest.mark.parametrize(
    ('source', 'name', 'options', 'said'),
    [
        ('dianet', DIA, {'cell_output': 'tanh'}, "cell_output='tanh'"),
        ('dianet', DIA, {'bottleneck': False}, 'bottleneck=False'),
        ('dianet', DIA, {'norm': 'none', 'shortcuts': False}, "norm='none', shortcuts=False"),
        ('open-atac', 'cifar_resnet8_v2', {'shortcuts': False}, 'shortcuts=False'),
        ('dcanet', 'dca_se_resnet18_v1b', {'merge': 'sum'}, "merge='sum'"),
        ('dcanet', 'dca_se_resnet18_v1b', {'through_stages': False}, 'layer2.0.attention is not connected'),
        ('dcanet', 'dca_cbam_resnet18_v1b', {'connected': 'channel'}, 'layer1.1.attention.spatial is not connected'),
        ('torchvision', 'resnet18_v1b', {'norm': 'none'}, "norm='none'"),
    ],
)
def test_a_form_that_the_original_has_not_is_refused(source, name, options, said):
    net = randomize(get_model(name, classes=10, **options))
    with pytest.raises(ValueError, match=said):
        to_state_dict(net, source)
    state = to_state_dict(net)
    with pytest.raises(ValueError, match=said):
        load_state_dict(net, state, source)
    assert load_state_dict(net, state, 'torch') == []


def test_stacked_cells_are_the_originals():
    net = randomize(get_model(DIA, classes=10, layers=2))
    assert {'layer1.lstm.w_ih.1.weight', 'layer3.lstm.w_hh.1.bias'} < set(to_state_dict(net, 'dianet'))
