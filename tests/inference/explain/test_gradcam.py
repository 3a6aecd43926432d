"""Grad-CAM: against maps computed by hand, against another way of differentiating, and on every network."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from inference.explain.gradcam import GradCAM, enlarged
from inference.graph import trace
from inference.optimization.proof import by_rounding
from model import get_model
from model.layers.carry import Stage, split
from tests.inference.explain.conftest import images, make
from tests.model.cases import CASES, COVERING


def small_network():
    """Return a network of convolution, ReLU, global mean and dense, for which CAM was invented."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(5, 3, padding=1, in_channels=3, activation='relu'), nn.GlobalAvgPool2D(), nn.Dense(4, in_units=5))
    net.initialize()
    random = np.random.RandomState(0)
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.array(random.standard_normal(parameter.shape)))
    return net


@pytest.mark.parametrize('hybridize', [False, True])
def test_by_hand(hybridize):
    net = small_network()
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
        net(mx.nd.array(images(2, 7)))
    data = images(3, 7)
    heat = GradCAM(net)(data, [2, 0, 3])
    maps = net[0](mx.nd.array(data)).asnumpy()
    weights = net[2].weight.data().asnumpy()[[2, 0, 3]]  # (3, 5)
    expected = np.maximum((weights[:, :, None, None] * maps).sum(1), 0) / maps[0, 0].size
    assert list(heat.maps) == ['last map']
    assert heat.maps['last map'].max() > 0
    np.testing.assert_allclose(heat.maps['last map'], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(heat.logits, net(mx.nd.array(data)).asnumpy(), rtol=1e-5, atol=1e-6)


def test_without_a_class_the_largest_logit_is_explained():
    net, data = small_network(), images(20, 5)
    cam = GradCAM(net)
    heat = cam(data)
    assert len(set(heat.classes)) > 1
    assert heat.classes.tolist() == net(mx.nd.array(data)).argmax(axis=1).asnumpy().tolist()
    np.testing.assert_array_equal(heat.maps['last map'], cam(data, heat.classes).maps['last map'])
    with pytest.raises(ValueError, match='from 0 to 3'):
        cam(data, [4] * 20)


@pytest.mark.parametrize(
    'name', ['cifar_atac_dca_se_resnet14_v2', 'cifar_dia_resnet20bn_v1', 'cifar_dca_cbam_resnet20bn_v1']
)
def test_inner_stages_against_a_network_cut_in_two(name):
    net = make(name)
    data = mx.nd.array(images())
    stages = [block for block in trunk(net) if isinstance(block, Stage)]
    heat = GradCAM(net, ['1', '2'])(data.asnumpy(), [3, 1])
    for number, stage in enumerate(stages[:2], 1):
        with autograd.record(train_mode=False):
            x, carry = data, ()
            for layer in trunk(net):
                if isinstance(layer, Stage):
                    x, carry = split(layer(x, *carry))
                else:
                    x = layer(x)
                if layer is stage:
                    features = x
                    features.attach_grad()  # detached from what came before
            mx.nd.pick(x, mx.nd.array([3, 1])).backward(train_mode=False)
        weights = features.grad.asnumpy().mean(axis=(2, 3), keepdims=True)
        expected = np.maximum((weights * features.asnumpy()).sum(axis=1), 0)
        assert expected.max() > 0
        np.testing.assert_allclose(heat.maps[f'stage {number}'], expected, rtol=2e-3, atol=1e-4 * expected.max())


def trunk(net):
    """Return the layers of a CIFAR network in order."""
    if 'features' in net._children:
        return [*net.features, net.output]
    assert not net._pre_activation
    return [net.conv1, net.bn1, net.relu, net.layer1, net.layer2, net.layer3, net.avgpool, net.flat, net.fc]


@pytest.mark.parametrize('case', [*(case for case in CASES if not case.options), *COVERING], ids=str)
def test_every_network(case):
    side = min(64, case.input_shape[2])
    net = make(case.name, side, **case.options)
    before = trace(net).symbol().tojson()
    data = images(1, side)
    expected = net(mx.nd.array(data)).asnumpy()
    cam = GradCAM(net)
    assert 3 <= len(cam.stages) <= 7
    heat = cam(data)
    allowed = max(1e-4, by_rounding(net, mx.nd.array(data), mx.nd.array(expected)).max())
    np.testing.assert_allclose(heat.logits, expected, rtol=1e-3, atol=allowed * np.abs(expected).max())
    for maps in heat.maps.values():
        assert maps.shape[0] == 1
        assert np.isfinite(maps).all()
        assert maps.min() >= 0
    # The network is as it was: same graph, same bits.
    assert trace(net).symbol().tojson() == before
    np.testing.assert_array_equal(net(mx.nd.array(data)).asnumpy(), expected)


def test_hybridized_equals_imperative_and_keeps_its_graph():
    data = images()
    maps = []
    for hybridize in (False, True):
        net = make('cifar_atac_se_resnet14_v2')
        if hybridize:
            net.hybridize(static_alloc=True, static_shape=True)
        expected = net(mx.nd.array(data)).asnumpy()
        graph = net._cached_op if hybridize else None
        gradient = net.output.weight.grad()
        heat = GradCAM(net)(data, [1, 2])
        maps.append(heat.maps)
        np.testing.assert_array_equal(net(mx.nd.array(data)).asnumpy(), expected)
        assert not gradient.asnumpy().any()
        if hybridize:
            assert net._cached_op is graph
    for stage in maps[0]:
        np.testing.assert_array_equal(maps[0][stage], maps[1][stage])


def test_mxnets_word_on_average_pools_stays_inside(capfd):
    """Poolings in DCA's connections, which gradients run in training mode. No other test pools maps of these sizes."""
    net = get_model('cifar_dca_cbam_resnet11bn_v1', classes=3)
    net.initialize()
    images = np.random.RandomState(0).standard_normal((1, 3, 26, 22)).astype(np.float32)
    GradCAM(net)(images)
    assert capfd.readouterr().err == ''


def test_stages_by_path_and_networks_of_others():
    net = make('cifar_resnet14_v2')
    data = images()
    numbered, by_path = (
        GradCAM(net, ['2'])(data, [0, 1]),
        GradCAM(net, ['features.3', 'features.3.0.conv2'])(data, [0, 1]),
    )
    np.testing.assert_array_equal(numbered.maps['stage 2'], by_path.maps['features.3'])
    assert by_path.maps['features.3.0.conv2'].shape == (2, 16, 16)
    from gluoncv.model_zoo import get_model

    theirs = get_model('cifar_resnet20_v1', classes=10)
    theirs.initialize()
    theirs(mx.nd.array(data))
    heat = GradCAM(theirs)(data)
    assert [maps.shape for maps in heat.maps.values()] == [(2, 32, 32), (2, 16, 16), (2, 8, 8)]


def test_wrong_stages():
    net = make('cifar_resnet14_v2')
    with pytest.raises(
        ValueError, match=r"no stage or block 'features.9x'; allowed are the stages 1 to 3 or .*features.8"
    ):
        GradCAM(net, ['features.9x'])
    with pytest.raises(ValueError, match="no stage or block '4'"):
        GradCAM(net, ['4'])
    with pytest.raises(ValueError, match='output returns an array of shape'):
        GradCAM(net, ['output'])(images())
    flat = nn.HybridSequential()
    flat.add(nn.Dense(3, in_units=4))
    with pytest.raises(ValueError, match='neither recognisable stages nor a global pool'):
        GradCAM(flat)
    with pytest.raises(ValueError, match='has no value yet'):
        GradCAM(gluon.model_zoo.vision.resnet18_v1())


def test_enlarged():
    heat = np.array([[0, 1], [2, 3]], np.float32)
    np.testing.assert_array_equal(enlarged(heat, (2, 2)), heat)
    large = enlarged(heat, (4, 6))
    assert large.shape == (4, 6)
    assert (large[0, 0], large[-1, -1]) == (0, 3)
    assert (np.diff(large, axis=0) >= 0).all()
