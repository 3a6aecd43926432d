"""Learning rates of the parts of a network."""

import pytest

from model import get_model
from tests.training.flat import settings_of
from training.optim.rates import set_rates
from training.task import Network
from training.tasks.cifar import CifarTask


def shares(name, decay, head_share=None, **options):
    net = get_model(name, **options)
    set_rates(net, net.stages, net.classifier_parameters(), decay, head_share)
    return {name: parameter.lr_mult for name, parameter in net._collect_params_with_prefix().items()}


def test_each_block_is_slower_than_the_one_behind_it():
    found = shares('resnet18_v1b', 0.5)
    expected = {'conv1.': 9, 'bn1.': 9, 'layer1.0.': 8, 'layer1.1.': 7, 'layer2.0.': 6, 'layer4.1.': 1, 'fc.': 0}
    for prefix, power in expected.items():
        assert {share for name, share in found.items() if name.startswith(prefix)} == {0.5**power}


def test_what_stands_behind_the_stages_is_as_fast_as_the_classifier_and_what_is_frozen_stays():
    found = shares('cifar_atac_resnet8_v2', 0.5)
    assert found['features.0.gamma'] == 0  # belongs to the input norm
    assert found['features.1.weight'] == 0.5**4
    assert [found[f'features.{stage}.0.conv1.weight'] for stage in (2, 3, 4)] == [0.5**3, 0.5**2, 0.5]
    assert found['features.5.gamma'] == found['output.weight'] == 1


def test_a_shared_unit_is_in_the_layer_of_its_first_block():
    found = shares('cifar_dia_preresnet20', 0.5)  # two blocks per stage, which share a cell
    cells = {name: share for name, share in found.items() if name.startswith('layer1') and '.cell.' in name}
    assert len(cells) > 8
    assert set(cells.values()) == {0.5**6}


@pytest.mark.parametrize('name', ['mobilenet_v2', 'mnasnet1_0', 'cifar_residual_attention56', 'se_resnext50_32x4d'])
def test_every_backbone_has_layers(name):
    found = list(shares(name, 0.9, 3.0).values())
    assert len(set(found)) > 6
    assert found[-1] == 3.0
    rising = [share for share in found if share]
    assert rising[0] == min(rising)
    assert rising[:-2] == sorted(rising[:-2])


def test_the_flags_reach_the_trainer():
    task = CifarTask(settings_of(lr=0.1, layer_decay=0.5, head_lr=0.4))
    net = get_model('cifar_resnet8_v2')
    net.initialize()
    task.precision = type('Plain', (), {'multi_precision': False})
    task.devices = [None]
    task.network = Network('cifar_resnet8_v2', {})
    optimizer = task.trainer(net).optimizer
    optimizer.set_learning_rate(0.1)
    rates = {
        parameter.name: rate
        for parameter, rate in zip(optimizer.param_dict.values(), optimizer._get_lrs(optimizer.param_dict))
    }
    assert rates[net.output.weight.name] == pytest.approx(0.4)
    assert min(rates.values()) == pytest.approx(0.1 * 0.5**4)
