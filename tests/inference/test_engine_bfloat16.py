"""Maps in bfloat16 that are not read by convolutions alone: depthwise ones, windows, scaling, masks and norms."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from environment.cpu import lacks
from inference.engine.narrow import Narrowing
from inference.engine.network import why_not
from inference.optimization.proof import difference
from tests.inference.networks import images, make, planned
from tests.inference.test_engine_narrow import bfloat16, convolved

pytestmark = pytest.mark.skipif(
    why_not('bfloat16') is not None or bool(lacks('bfloat16')), reason=f'no bfloat16: {why_not("bfloat16")}'
)

# channels, kernel, stride, padding, dilation, height, width
DEPTHWISE = [
    (16, 3, 1, 1, 1, 1, 1),
    (5, 3, 1, 1, 1, 3, 3),
    (40, 3, 1, 1, 1, 6, 41),
    (33, 3, 2, 1, 1, 9, 70),
    (48, 5, 1, 2, 1, 7, 5),
    (32, 5, 2, 2, 1, 8, 9),
    (20, (3, 1), 1, (1, 0), 1, 4, 6),
    (17, 3, 1, 2, 2, 7, 7),
    (16, 3, 1, 0, 1, 3, 3),
    (512, 3, 1, 1, 1, 4, 5),
]


class Depthwise(gluon.HybridBlock):
    def __init__(self, layer):
        super().__init__()
        channels, kernel, stride, padding, dilation = layer[:5]
        self.conv = gluon.nn.Conv2D(channels, kernel, stride, padding, dilation, channels, in_channels=channels)

    def hybrid_forward(self, F, x):
        x = F.LeakyReLU(x, act_type='leaky', slope=1.0)  # turns an input that is an array into a map
        return self.conv(x)


@pytest.mark.parametrize('layer', DEPTHWISE, ids=str)
def test_a_depthwise_layer_is_what_its_rounded_inputs_give(layer):
    channels, kernel, stride, padding, dilation, height, width = layer
    mx.random.seed(0)
    net, shape = Depthwise(layer), (2, channels, height, width)
    net.initialize(mx.init.Uniform(1.0))
    net.conv.bias.set_data(mx.nd.random.uniform(-1, 1, net.conv.bias.shape))
    data = images(shape).asnumpy()
    fast = planned(net, shape, 1, Narrowing('bfloat16'))
    assert 'narrow depthwise' in [kind for kind, _, _ in fast.profile(data, 1)]
    form = (channels, channels, kernel, stride, padding, dilation, channels)
    weight = net.conv.weight.data().asnumpy().astype(np.float64)
    expected = convolved(bfloat16(data).astype(np.float64), weight, form)
    expected += net.conv.bias.data().asnumpy().reshape(1, -1, 1, 1)
    found = fast.run(data).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


class Masked(gluon.HybridBlock):
    """Pre-activation blocks, maxima, scaling, a mask, and what is added and pooled on the way."""

    def __init__(self, channels):
        super().__init__()
        self.first = gluon.nn.Conv2D(channels, 3, padding=1, in_channels=3)
        self.layers = [gluon.nn.Conv2D(channels, k, padding=k // 2, in_channels=channels) for k in (3, 1, 3, 1)]
        self.norms = [gluon.nn.BatchNorm(in_channels=channels) for _ in range(4)]
        self.depthwise = gluon.nn.Conv2D(channels, 3, padding=1, groups=channels, in_channels=channels)
        for block in [*self.layers, *self.norms]:
            self.register_child(block)

    def hybrid_forward(self, F, x):
        one, two, three, four = self.layers
        norm = [lambda x, norm=norm: F.relu(norm(x)) for norm in self.norms]
        x = self.first(x)
        x = x + one(norm[0](x))
        mask = F.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')
        mask = mask + two(norm[1](mask))
        mask = F.contrib.BilinearResize2D(mask, x, mode='like')
        x = (1 + four(norm[2](mask)).sigmoid()) * x
        x = x + self.depthwise(three(norm[3](x)).clip(0, 6)).sigmoid() * x
        return x.mean(axis=(2, 3))


class Along(gluon.HybridBlock):
    """A map, of a depthwise layer if ``wide``, that is activated for one layer and added to its result.

    If ``wide``, a maximum over channels reads the depthwise layer's map too, in float32.
    """

    def __init__(self, wide):
        super().__init__()
        self.wide = wide
        self.first = gluon.nn.Conv2D(16, 3, padding=1, in_channels=3)
        self.depthwise = gluon.nn.Conv2D(16, 3, padding=1, groups=16, in_channels=16)
        self.layer = gluon.nn.Conv2D(16, 3, padding=1, in_channels=16)

    def hybrid_forward(self, F, x):
        x = self.first(x)
        y = self.depthwise(x) if self.wide else x
        y = y + self.layer(F.relu(y))
        if self.wide:
            y = F.broadcast_mul(y, x.max(axis=1, keepdims=True).sigmoid())
        return y.mean(axis=(2, 3))


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize(('channels', 'height', 'width'), [(16, 8, 8), (37, 9, 21), (512, 5, 6)])
def test_no_map_between_layers_is_in_float32(channels, height, width, threads):
    mx.random.seed(4)
    net, shape = Masked(channels), (2, 3, height, width)
    net.initialize(mx.init.Xavier())
    data = images(shape)
    net(data)
    fast = planned(net, shape, threads, Narrowing('bfloat16'), by_image=threads == 1)
    wide = ('pool', 'resize', 'depthwise', 'convolution', 'stem')
    assert not [one.kind for one in fast.plan.operators if one.kind in wide]
    maps = [one for one in fast.plan.operators if getattr(one, 'stores', False) and one.kind != 'dense']
    assert not maps, [one.kind for one in maps]
    assert difference(fast(data), net(data)) <= 0.03


@pytest.mark.parametrize('name', ['mobilenet_v2', 'cifar_atac_resnet8_v2', 'cifar_residual_attention56'])
def test_networks_of_such_maps_are_near_their_float32_form(name):
    shape = (2, 3, 33, 47) if name == 'mobilenet_v2' else (2, 3, 32, 32)
    net = make(name, shape)
    data = images(shape)
    fast = planned(net, shape, 1, Narrowing('bfloat16'))
    assert difference(fast(data), net(data)) <= 0.05


@pytest.mark.parametrize('kind', ['stem', 'depthwise'])
def test_a_layer_in_float32_stores_its_map_before_the_next_activation(kind):
    """It cannot leave that out, even if all that reads it reads bfloat16."""
    mx.random.seed(4)
    net, shape = Along(kind == 'depthwise'), (2, 3, 9, 8)
    net.initialize(mx.init.Xavier())
    data = images(shape)
    fast = planned(net, shape, 1, Narrowing('bfloat16', first_layer=kind != 'stem'))
    assert kind in [one.kind for one in fast.plan.operators]
    assert difference(fast(data), net(data)) <= 0.03


def test_not_a_number_and_infinities_come_through_a_mask():
    net, shape = make('cifar_atac_resnet8_v2', (1, 3, 32, 32)), (1, 3, 32, 32)
    fast = planned(net, shape, 1, Narrowing('bfloat16'))
    image = images(shape).asnumpy()
    image[0, 1, 5, 5] = np.nan
    assert np.isnan(fast.run(image)).all()
    assert np.isfinite(fast.run(1e6 * images(shape).asnumpy())).all()
