"""What oneDNN fuses into its operators, and why `optimize_for` cannot be used for it."""

import json

import mxnet as mx
import numpy as np
import pytest

from inference.graph import trace
from inference.optimization.channel_products import channels_by_batch_norm
from inference.optimization.fold import fold
from inference.optimization.onednn import fused, has_onednn
from inference.optimization.program import Program
from tests.inference.networks import make

pytestmark = pytest.mark.skipif(not has_onednn(), reason='this MXNet has no oneDNN')
SHAPE = (1, 4, 5, 5)


def operators(symbol):
    return [row['op'] for row in json.loads(symbol.tojson())['nodes'] if row['op'] != 'null']


def block(gate):
    """Return the smallest residual block: one gated convolution, plus another convolution of the same map."""
    data = mx.sym.var('data')
    main = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True, name='main')
    if gate:
        main = mx.sym.broadcast_mul(main, mx.sym.Pooling(main, global_pool=True, kernel=(1, 1), pool_type='avg'))
    return main + mx.sym.Convolution(data, kernel=(1, 1), num_filter=4, no_bias=True, name='short')


def values(symbol):
    random = np.random.RandomState(0)
    shapes = zip(symbol.list_arguments(), symbol.infer_shape(data=SHAPE)[0])
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes}


def test_what_optimize_for_fails_at():
    plain, gated = block(gate=False), block(gate=True)
    for symbol in (plain, gated):
        arrays = {name: mx.nd.array(value) for name, value in values(symbol).items()}
        if symbol is plain:
            symbol.optimize_for('MKLDNN', arrays, {})
        else:
            with pytest.raises(mx.MXNetError, match='Shape inconsistent'):
                symbol.optimize_for('MKLDNN', arrays, {})
    # The gate cannot absorb the sum, so the other convolution does, and then its weight comes first.
    assert fused(plain).list_arguments() == plain.list_arguments() == ['data', 'main_weight', 'short_weight']
    assert gated.list_arguments() == ['data', 'main_weight', 'short_weight']
    assert fused(gated).list_arguments() == ['data', 'short_weight', 'main_weight']


def test_our_form_fuses_that_and_answers_the_same():
    symbol = block(gate=True)
    arrays = values(symbol)
    data = arrays.pop('data')
    expected = symbol.bind(mx.cpu(), {'data': mx.nd.array(data), **{k: mx.nd.array(v) for k, v in arrays.items()}})
    ours = fused(symbol)
    assert sorted(operators(ours)) == ['Pooling', '_sg_mkldnn_conv', '_sg_mkldnn_conv', 'broadcast_mul']
    answer = Program(ours, arrays)(mx.nd.array(data)).asnumpy()
    np.testing.assert_allclose(answer, expected.forward()[0].asnumpy(), rtol=1e-4, atol=1e-5)


# Every convolution and dense layer is fused, with its activation; only the units' own operators are left.
LEFT = {'Pooling', 'Flatten', 'Reshape', 'elemwise_add', 'Activation'}


@pytest.mark.parametrize(
    ('name', 'left'),
    [
        ('resnet18_v1b', set()),
        ('se_resnet18_v1b', set()),
        ('dca_se_resnet18_v1b', {'LayerNorm', 'stack', 'expand_dims', 'elemwise_mul', 'Reorder', 'slice_axis'}),
        ('atac_resnet18_v1b', {'elemwise_mul'}),
        ('sk_resnet50_v1b', {'softmax', 'SliceChannel', 'expand_dims', 'stack', 'Concat', 'elemwise_mul'}),
    ],
)
@pytest.mark.parametrize('single', [False, True])
def test_the_graph_of_every_unit_fuses(name, left, single):
    graph = trace(make(name, (2, 3, 64, 64)))
    fold(graph)
    gates = channels_by_batch_norm(graph) if single else 0
    found = operators(fused(graph.symbol()))
    assert not {'Convolution', 'FullyConnected'} & set(found)
    assert found.count('BatchNorm') == gates
    products = {'broadcast_mul', 'broadcast_add'} if not single else {'BatchNorm', 'ones_like', 'zeros_like'}
    assert (
        {'_sg_mkldnn_conv', '_sg_mkldnn_fully_connected'}
        <= set(found)
        <= {
            '_sg_mkldnn_conv',
            '_sg_mkldnn_fully_connected',
            *LEFT,
            *left,
            *products,
        }
    )
    if name.startswith(('se_', 'dca_se_')):
        assert (gates if single else found.count('broadcast_mul')) == 8
