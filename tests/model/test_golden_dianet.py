"""Same weights in, same logits, loss and gradients out as the original networks: gbup-group/DIANet."""

import mxnet as mx
import numpy as np
import pytest

from model import count, get_model
from model.convert import load_state_dict, to_state_dict
from model.convert.dianet import names

from .golden import fill
from .test_golden_open_atac import check_gradients, close, gradient_norms

FILES = {path.name[: -len('.json.gz')]: path for path in fill.files('dianet')}
NAMES = {
    'dia_resnet': 'cifar_dia_resnet{depth}bn_v1',
    'dia_preresnet': 'cifar_dia_preresnet{depth}',
    'dia_wrn': 'cifar_dia_wrn{depth}_{widen_factor}',
    'dia_resnext': 'cifar_dia_resnext{depth}_{cardinality}x32d',  # 32 wide for any cardinality: see its D
}


def network(golden, **options):
    config = golden['config']
    return get_model(NAMES[golden['model']].format(**config), classes=config['num_classes'], **options)


def loaded(golden, dtype):
    net = network(golden)
    net.cast(dtype)
    load_state_dict(net, fill.state(golden), source='dianet')
    return net


@pytest.mark.parametrize('case', FILES)
def test_logits_loss_and_gradients(case):
    golden = fill.read(FILES[case])
    # The originals ran in float64: small batches of small maps make batch norms ill-conditioned.
    net = loaded(golden, 'float64')
    data = fill.golden_input(golden)
    logits = net(mx.nd.array(data, dtype='float64')).asnumpy()
    assert close(logits, golden['eval']['logits'], 1e-5)

    logits, loss, norms = gradient_norms(net, data, golden['labels'], 'float64')
    assert close(logits, golden['train']['logits'], 1e-5)
    assert loss == pytest.approx(golden['train']['loss'], rel=1e-5)
    expected = {names(net)[name]: value for name, value in golden['train']['grad_l2'].items()}
    assert set(expected) == set(norms) & set(names(net).values())
    check_gradients(norms, expected, tolerance=1e-4)


@pytest.mark.parametrize('case', ['dia_resnet29', 'dia_preresnet29', 'dia_wrn16_2'])
def test_logits_in_float32_hybridized(case):
    golden = fill.read(FILES[case])
    net = loaded(golden, 'float32')
    net.hybridize(static_alloc=True, static_shape=True)
    logits = net(mx.nd.array(fill.golden_input(golden))).asnumpy()
    assert close(logits, golden['eval']['logits'], 1e-4)


@pytest.mark.parametrize('case', FILES)
def test_params_macs_names_and_shapes(case):
    golden = fill.read(FILES[case])
    net = network(golden)
    assert count(net, golden['macs_input_shape']) == (golden['params'], golden['macs'])
    shapes = {name: parameter.shape for name, parameter in net._collect_params_with_prefix().items()}
    assert {name: list(shapes[own]) for name, own in names(net).items()} == dict(golden['state'])


def test_there_and_back():
    golden = fill.read(FILES['dia_resnet29'])
    state = fill.state(golden)
    net = network(golden)
    load_state_dict(net, {'state_dict': {f'module.{name}': array for name, array in state.items()}}, source='dianet')
    back = to_state_dict(net, target='dianet')
    assert set(back) == set(state)
    assert all((back[name] == array).all() for name, array in state.items())


@pytest.mark.parametrize('name', ['cifar_atac_dia_resnet11bn_v1', 'cifar_se_preresnet11', 'resnet18_v1b'])
def test_networks_that_the_original_does_not_have(name):
    with pytest.raises(ValueError, match='DIANet has no'):
        names(get_model(name))


def test_every_stage_starts_anew():
    """The state at a stage's first block is zero for every image, whatever the stage before computed."""
    golden = fill.read(FILES['dia_resnet29'])
    net = loaded(golden, 'float32')
    data = mx.nd.array(fill.golden_input(golden))
    both, alone = net(data).asnumpy(), net(data[1:]).asnumpy()
    np.testing.assert_allclose(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert (net(data).asnumpy() == both).all()
    features = mx.nd.random.normal(shape=(1, 64, 8, 8))
    out, *_ = net.layer2(features)
    fed, *_ = net.layer2(features, mx.nd.ones((1, 64)), mx.nd.ones((1, 64)))
    assert (out.asnumpy() == fed.asnumpy()).all()
