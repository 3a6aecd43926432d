"""Every backbone has the same interface: features, stages, classifier, reset_classifier, feature_info."""

import mxnet as mx
import numpy as np
import pytest

from model import get_model, input_size, load_params, register_backbone, save_params
from model.backbone.table import BACKBONES
from model.layers.carry import split
from tests.inference.networks import QuickPrelu

SMALL = {
    'resnet_v1b': 'dca_se_resnet50_v1b',
    'basic_resnet_v1': 'resnet18_v1',
    'resnet_v1': 'resnet26_v1',
    'resnext': 'resnext26_2x16d',
    'wide_resnet': 'wide_resnet50_1',
    'semnasnet': 'semnasnet0_5',
    'cifar_resnet_v2': 'cifar_dca_se_resnet8_v2',
    'cifar_resnet_v1': 'cifar_dia_resnet8_v1',
    'cifar_resnet_bn_v1': 'cifar_dia_resnet11bn_v1',
    'cifar_preresnet': 'cifar_dca_ge_preresnet11',
    'cifar_wrn': 'cifar_wrn10_1',
    'cifar_resnext': 'cifar_resnext11_2x8d',
    'mobilenet_v2': 'dca_se_mobilenet_v2',
    'mnasnet': 'mnasnet0_5',
    'residual_attention': 'residual_attention56',
    'cifar_residual_attention_paper': 'cifar_residual_attention56_paper',
    'attentionnext': 'attentionnext56',
    'attentioninception': 'attentioninception56',
}
LARGE = (
    *('residual_attention92', 'residual_attention92_448', 'cifar_residual_attention92'),
    *('attentionnext', 'attentioninception'),
)
NAMES = [pytest.param(SMALL.get(key, key), marks=[pytest.mark.heavy] if key in LARGE else []) for key in BACKBONES]


def built(name, **options):
    net = get_model(name, **options)
    mx.random.seed(0)
    net.initialize(QuickPrelu())
    side = min(input_size(name), 64)
    return net, mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, side, side)))


@pytest.mark.parametrize('name', NAMES)
def test_the_parts_are_the_network(name):
    net, images = built(name)
    expected = net(images)
    vectors = net.features(images)
    assert vectors.shape == (2, net.classifier.weight.shape[1])
    assert (net.classifier(vectors).asnumpy() == expected.asnumpy()).all()
    net.hybridize()
    np.testing.assert_allclose(net.classifier(net.features(images)).asnumpy(), expected.asnumpy(), atol=1e-4)
    names = net._collect_params_with_prefix()
    assert set(net.classifier_parameters()) == {name for name in names if names[name] in _parameters(net.classifier)}
    if net.features is not net._children.get('features'):
        assert list(net.features._collect_params_with_prefix()) == [
            name for name in names if name not in net.classifier_parameters()
        ]


def initial(parameter):
    return parameter.init.dumps() if isinstance(parameter.init, mx.init.Initializer) else parameter.init


def _parameters(block):
    return list(block.params.values())


@pytest.mark.parametrize(
    ('name', 'options'),
    [*((SMALL.get(key, key), {}) for key in BACKBONES if key not in LARGE), ('resnet18_v1b', {'dilated': True})],
)
def test_what_feature_info_says_is_what_comes_out(name, options):
    net, images = built(name, **options)
    maps = []
    for stage in net.stages:
        stage.register_forward_hook(lambda _, inputs, out: maps.append(split(out)[0].shape))
    net(images)
    assert len(net.feature_info) == len(net.stages) == len(maps)
    for info, stage, shape in zip(net.feature_info, net.stages, maps):
        assert shape[1] == info.channels
        assert shape[2] == -(-images.shape[2] // info.stride)
        at = net
        for part in info.name.split('.'):
            at = at._children[part]
        assert at is stage


@pytest.mark.parametrize('name', NAMES)
def test_another_classifier(name, tmp_path):
    net, images = built(name)
    net.hybridize()
    net(images)
    names = {key: p.shape for key, p in net._collect_params_with_prefix().items()}
    before = net.features(images).asnumpy()
    net.reset_classifier(3)
    assert net(images).shape == (2, 3)
    assert (net.features(images).asnumpy() == before).all()
    other = get_model(name, classes=3)
    wanted = {key: p.shape for key, p in other._collect_params_with_prefix().items()}
    assert {key: p.shape for key, p in net._collect_params_with_prefix().items()} == wanted
    assert list(wanted) == list(names)
    for ours, theirs in zip(net.classifier.params.values(), other.classifier.params.values()):
        assert initial(ours) == initial(theirs)
    save_params(net, tmp_path / 'net.params')
    load_params(other, tmp_path / 'net.params')
    # A new network may be reset before it has values.
    new = get_model(name)
    new.reset_classifier(5)
    new.initialize()
    assert new(images).shape == (2, 5)


def test_a_classifier_of_no_classes():
    with pytest.raises(ValueError, match='classes is 0'):
        get_model('cifar_resnet8_v2').reset_classifier(0)


def test_a_backbone_without_that_outside_is_refused():
    register_backbone('bare', lambda **options: mx.gluon.nn.Dense(options['classes']), cifar=True)
    try:
        with pytest.raises(ValueError, match=r'cifar_bare: Dense has no features, stages, .*classifier.Classifier'):
            get_model('cifar_bare')
    finally:
        del BACKBONES['bare']
