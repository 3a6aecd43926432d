"""Same weights in, same logits, loss and gradients out as the original networks: 13952522076/DCANet."""

import re

import mxnet as mx
import numpy as np
import pytest

from model import count, get_model
from model.convert import dcanet, load_state_dict, to_state_dict

from .golden import fill
from .test_golden_open_atac import check_gradients, close, gradient_norms

FILES = {path.name[: -len('.json.gz')]: path for path in fill.files('dcanet')}
# Where the published code has other options than the published networks.
SHIPPED = {
    'cbam_mnasnet1_0': {'reduction': 8},
    'dca_cbam_mnasnet1_0': {'reduction': 16},
    'dca_cbam_mnasnet1_0r8': {'reduction': 8},
    'dca_se_mnasnet1_0': {'reduction': 16},
    'dca_se_resnet50_bottleneck_adapter': {'adapter': 'bottleneck'},
    'se_mnasnet1_0r8': {'reduction': (8, 16)},
    'sk_resnet50': {'sk_branches': 'grouped'},
}


def network(case):
    """Return our network for a constructor of the original, such as ``dca_getheta_mnasnet1_0r8``."""
    name = re.sub(r'^old_|r8$|_bottleneck_adapter$', '', case)
    name = name.replace('getheta', 'ge').replace('sk2', 'sk')
    name += '_v1b' if 'resnet' in name else ''
    return get_model(name, classes=10, final_drop=0, **SHIPPED.get(case, {}))


# Those with bottlenecks of their own; the other ResNet-50s have the same units as smaller networks.
BOTTLENECKS = ('old_resnet50', 'sk_resnet50', 'dca_gc_resnet50', 'dca_se_resnet50_bottleneck_adapter')
CASES = [
    pytest.param(name, marks=[pytest.mark.heavy] * ('resnet50' in name and name not in BOTTLENECKS)) for name in FILES
]


@pytest.mark.parametrize('case', CASES)
def test_logits_loss_and_gradients(case):
    golden = fill.read(FILES[case])
    net = network(case)
    # In float64, like the file: small batches of small maps make batch norms ill-conditioned.
    net.cast(golden['dtype'])
    load_state_dict(net, fill.state(golden), source='dcanet')
    data = fill.golden_input(golden)

    logits = net(mx.nd.array(data, dtype=golden['dtype'])).asnumpy()
    assert close(logits, golden['eval']['logits'], 1e-5)

    logits, loss, norms = gradient_norms(net, data, golden['labels'], golden['dtype'])
    assert close(logits, golden['train']['logits'], 1e-5)
    assert loss == pytest.approx(golden['train']['loss'], rel=1e-5)
    expected = golden['train']['grad_l2']
    ours = {theirs: norms[name] for theirs, name in dcanet.names(net).items() if name in norms}
    assert set(ours) == set(expected) - set(golden['unused'])
    check_gradients(ours, {name: expected[name] for name in ours}, tolerance=1e-3)


@pytest.mark.parametrize('case', FILES)
def test_params_and_macs(case):
    golden = fill.read(FILES[case])
    params = golden.get('params_used', golden['params'])
    assert count(network(case), golden['macs_input_shape']) == (params, golden['macs'])


@pytest.mark.parametrize('case', FILES)
def test_names_and_shapes_of_the_original(case):
    golden = fill.read(FILES[case])
    net = network(case)
    parameters = net._collect_params_with_prefix()
    shapes = {name: tuple(parameters[ours].shape) for name, ours in dcanet.names(net).items()}
    assert {**shapes, **dcanet.shapes(net), **dcanet.unused(net)} == {n: tuple(s) for n, s in golden['state']}
    assert set(dcanet.unused(net)) == set(golden['unused'])


def test_back_to_the_originals_state():
    case = 'dca_se_mobilenet_v2'
    golden = fill.read(FILES[case])
    net = network(case)
    there = fill.state(golden)
    load_state_dict(net, {f'module.{name}': array for name, array in there.items()}, source='dcanet')
    back = to_state_dict(net, 'dcanet')
    assert set(back) == set(there)
    for name in set(there) - set(golden['unused']):
        np.testing.assert_array_equal(back[name], there[name])


def test_connected_sk_in_mobilenet_has_names_of_its_own():
    # No golden file has it; the names follow the repository.
    names = dcanet.names(get_model('dca_sk_mobilenet_v2'))
    for name in (
        'features1.0.0.weight',
        'features2.0.layersk.conv3.weight',
        'features2.0.layer3.1.running_var',
        'features2.1.layer1.0.weight',
        'features2.1.layersk.att_fc1.4.bias',
        'features2.16.layersk.att_conv2.0.bias',
        'features3.0.1.weight',
        'classifier.1.bias',
    ):
        assert name in names
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize(
    'name', ['atac_resnet50_v1b', 'dia_resnet50_v1b', 'dca_sge_resnet50_v1b', 'sk_mnasnet1_0', 'cifar_resnet20_v2']
)
def test_what_the_original_does_not_have_has_no_names(name):
    with pytest.raises(ValueError, match='DCANet has no'):
        dcanet.names(get_model(name))
