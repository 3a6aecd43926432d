"""Same weights in, same logits, loss and gradients out as the original network: YimianDai/open-atac."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import count, get_model, load_params
from model.convert import load_state_dict

from .golden import fill

FILES = {path.name[: -len('.json.gz')]: path for path in fill.files('open_atac')}
NAMES = {'ResNet20V2ATAC': 'cifar_resnet{}_v2', 'ResNet50_v1bATAC': 'resnet50_v1b'}


def our_arguments(golden):
    """Translate the original's constructor arguments into ours."""
    config = golden['config']
    arguments = {
        'classes': config['classes'],
        'act_type': config['act_type'],
        'act_reduction': config['r'],
        'act_relu': config.get('useReLU', True),
        'act_global': config.get('useGlobal', False),
        'act_layers': config['act_layers'],
    }
    if golden['model'] == 'ResNet20V2ATAC':
        arguments.update(channels=config['channels'], act_order=config['act_order'])
    else:
        for name in ('dilated', 'last_gamma', 'deep_stem', 'avg_down'):
            arguments[name] = config[name]
        if config.get('use_global_stats'):
            arguments.update(use_global_stats=True, act_batch_stats=True)  # the original's units never get the option
    return arguments


def network(golden, **changes):
    name = NAMES[golden['model']].format(6 * golden['config']['layers'][0] + 2)
    return get_model(name, **{**our_arguments(golden), **changes})


def gradient_norms(net, data, labels, dtype):
    data, labels = mx.nd.array(data, dtype=dtype), mx.nd.array(labels)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    with autograd.record():
        logits = net(data)
        mean = loss(logits, labels).mean()
    mean.backward()
    norms = {
        name: float(np.linalg.norm(p.grad().asnumpy().astype('float64')))
        for name, p in net._collect_params_with_prefix().items()
        if p.grad_req != 'null'
    }
    return logits.asnumpy(), float(mean.asscalar()), norms


def close(ours, theirs, tolerance):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def check_gradients(norms, expected, tolerance=5e-3):
    floor = 1e-3 * np.median(list(expected.values()))
    wrong = {
        name: (norms[name], value)
        for name, value in expected.items()
        if abs(norms[name] - value) > tolerance * abs(value) + floor
    }
    assert not wrong


# Published, and with the parts that the others have.
AGAIN = ('resnet50_v1batac_chaatac_l2', 'resnet50_v1batac_chaatac_l2_c1000', 'resnet50_v1batac_chaatac_l2_dilated')


@pytest.mark.parametrize('case', [pytest.param(name, marks=[pytest.mark.heavy] * (name in AGAIN)) for name in FILES])
def test_logits_loss_and_gradients(case):
    golden = fill.read(FILES[case])
    data = fill.golden_input(golden)
    net = network(golden)
    load_state_dict(net, fill.state(golden), source='open-atac')
    assert close(net(mx.nd.array(data)).asnumpy(), golden['eval']['logits'], 1e-4)
    # Gradients are compared in float64. In float32, a ReLU's input that is 0 up to rounding, which a processor
    # may put on either side, moves many of them by a per cent.
    net.cast('float64')
    load_state_dict(net, fill.state(golden), source='open-atac')
    assert close(net(mx.nd.array(data, dtype='float64')).asnumpy(), golden['eval']['logits'], 1e-4)
    logits, loss, norms = gradient_norms(net, data, golden['labels'], 'float64')
    assert close(logits, golden['train']['logits'], 1e-3)
    assert loss == pytest.approx(golden['train']['loss'], rel=1e-3)
    expected = golden['train'].get('grad_l2_exact', golden['train']['grad_l2'])
    check_gradients(norms, expected, 1e-5 + 2 * golden['float64_gap']['grad_l2'])


def test_selu_with_mxnets_gradient_is_the_originals():
    golden = fill.read(FILES['resnet20v2atac_b1_selu'])
    net = network(golden, act_mxnet_gradient=True)
    net.cast('float64')
    load_state_dict(net, fill.state(golden), source='open-atac')
    *_, norms = gradient_norms(net, fill.golden_input(golden), golden['labels'], 'float64')
    check_gradients(norms, golden['train']['grad_l2'])


@pytest.mark.parametrize('case', FILES)
def test_params_and_macs(case):
    golden = fill.read(FILES[case])
    assert count(network(golden), golden['macs_input_shape']) == (golden['params'], golden['macs'])


def test_a_file_saved_by_the_original_loads():
    golden = fill.read(FILES['resnet20v2atac_b1_chaatac'])
    net = get_model('cifar_atac_resnet8_v2')
    load_params(net, fill.FOLDER / 'open_atac' / 'resnet20v2atac_b1_chaatac.params')
    logits = net(mx.nd.array(fill.golden_input(golden))).asnumpy()
    assert close(logits, golden['eval']['logits'], 1e-4)
