"""One attention unit shared by the blocks of a stage: what it computes, and that there is only one."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from inference.explain.gates import GateReader
from inference.graph import trace
from inference.optimization.fold import fold
from model import count, get_model, list_models, load_params, register_attention, register_backbone, save_params
from model.attention import ATTENTIONS
from model.convert import to_state_dict
from tests.model.test_battery import wake

SHAPE = (1, 3, 32, 32)
SHARING = [
    unit if unit in ('se', 'sk', 'cbam', 'sge') else pytest.param(unit, marks=pytest.mark.heavy)
    for unit, row in ATTENTIONS.items()
    if row.shares
]


def images(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape))


def twins(name, dtype='float64'):
    """Return the network with shared units, and one without, in which each unit is a copy of its stage's."""
    unit = name.split('_')[1]
    shared, alone = get_model(name.replace(f'_{unit}_', f'_share_{unit}_')), get_model(name)
    for net in (shared, alone):
        mx.random.seed(2)
        net.initialize(mx.init.MSRAPrelu())
        net.cast(dtype)
    wake(shared)
    theirs, ours = alone._collect_params_with_prefix(), shared._collect_params_with_prefix()
    assert theirs.keys() == ours.keys()
    for key, parameter in theirs.items():
        parameter.set_data(ours[key].data())
    return shared, alone


@pytest.mark.parametrize('unit', SHARING)
def test_it_computes_what_copies_compute_and_learns_from_all_blocks(unit):
    """Outputs equal those of copies, and the gradient is the sum of theirs."""
    shared, alone = twins(f'cifar_{unit}_resnet20bn_v1')
    x, labels, losses = images(4, 3, 16, 16).astype('float64'), mx.nd.arange(4), []
    for net in (shared, alone):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), labels)
        loss.backward()
        losses.append(loss.asnumpy())
    np.testing.assert_allclose(*losses, rtol=1e-9)
    ours, theirs = shared._collect_params_with_prefix(), alone._collect_params_with_prefix()
    places = {}
    for key, parameter in ours.items():
        places.setdefault(id(parameter), []).append(key)
    repeated = [keys for keys in places.values() if len(keys) > 1]
    assert repeated
    assert all(len(keys) == 2 for keys in repeated)
    for keys in places.values():
        if ours[keys[0]].grad_req != 'null':
            total = sum(theirs[key].grad().asnumpy() for key in keys)
            np.testing.assert_allclose(ours[keys[0]].grad().asnumpy(), total, rtol=1e-6, atol=1e-9, err_msg=keys[0])


def test_it_is_counted_saved_and_converted_once(tmp_path):
    alone, net = get_model('cifar_se_resnet29bn_v1'), get_model('cifar_share_se_resnet29bn_v1')
    plain = get_model('cifar_resnet29bn_v1')
    units, shared = (count(one, SHAPE).params - count(plain, SHAPE).params for one in (alone, net))
    assert units == 3 * shared  # three blocks per stage
    assert count(alone, SHAPE).macs == count(net, SHAPE).macs
    net.initialize()
    save_params(net, tmp_path / 'net.params', {})
    saved = mx.nd.load(str(tmp_path / 'net.params'))
    assert sum('attention.reduce.weight' in name for name in saved) == 3
    assert sum('attention.reduce.weight' in name for name in to_state_dict(net)) == 3
    again = get_model('cifar_share_se_resnet29bn_v1')
    load_params(again, tmp_path / 'net.params')
    x = images(2, 3, 32, 32)
    assert (net(x).asnumpy() == again(x).asnumpy()).all()
    net.hybridize()
    net(x)
    net.export(str(tmp_path / 'net'))
    nodes = [node['name'] for node in json.loads((tmp_path / 'net-symbol.json').read_text())['nodes']]
    first = net.layer1[0].attention.reduce.weight.name
    assert nodes.count(first) == 1


@pytest.mark.parametrize('name', ['cifar_share_aff_resnet14_v1', 'cifar_share_cbam_resnet14_v1'])
def test_folded_into_its_layers_its_norms_leave_it_one(name):
    net = get_model(name)
    net.initialize()
    x = images(1, 3, 32, 32)
    net(x)
    for key, parameter in net._collect_params_with_prefix().items():
        if key.endswith('gamma'):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
    graph = trace(net)
    fold(graph)
    graph.symbol()
    weights = [array.tobytes() for key, array in graph.params.items() if key.endswith('weight') or '_weight_' in key]
    assert len(weights) == len(set(weights))


def test_its_gates_are_read_at_every_place():
    net = get_model('cifar_share_cbam_resnet20bn_v1')
    mx.random.seed(4)
    net.initialize(mx.init.Normal(0.3))
    x = images(2, 3, 32, 32)
    gates = GateReader(net)(x.asnumpy())
    assert [(gate.place, gate.name) for gate in gates] == [
        (f'{stage}.{block}.{part}', 'gate')
        for stage in (1, 2, 3)
        for block in (0, 1)
        for part in ('channel', 'spatial')
    ]
    stem = net.relu(net.bn1(net.conv1(x)))
    inner = net.layer1[0].branch(mx.nd, stem, ())[0]
    unit = net.layer1[0].attention.channel
    np.testing.assert_allclose(gates[0].values, unit.transform(mx.nd, *unit.extract(mx.nd, inner)[1]).asnumpy(), 1e-4)
    assert np.abs(gates[0].values - gates[2].values).max() > 1e-3


def test_every_listed_name_is_of_a_network_and_the_others_are_refused_by_name():
    names = list_models('share_*_mobilenet_v2')
    assert names == [
        f'share_{unit}_mobilenet_v2' for unit in ('se', 'eca', 'gc', 'cbam', 'sge', 'triplet', 'aff', 'iaff')
    ]
    for name in (*names, 'share_ca_mnasnet0_5'):
        get_model(name)
    for name, words in (
        ('share_resnet18_v1b', ["'share_'", 'needs one of se, sk']),
        ('share_ge_resnet18_v1b', ["'ge' has nothing to share", 'share_se_resnet18_v1b']),
        ('share_bam_resnet18_v1b', ["'bam' has nothing to share"]),
        ('share_sk_mobilenet_v2', ["'mobilenet_v2'", "'sk' at several widths", 'share_se_mobilenet_v2']),
        ('share_ca_mobilenet_v2', ["'ca' at several widths"]),
        ('se_share_resnet18_v1b', ['share_se_resnet18_v1b']),
    ):
        assert name not in list_models()
        with pytest.raises(ValueError) as caught:
            get_model(name)
        assert [word for word in words if word not in str(caught.value)] == []
    with pytest.raises(ValueError, match='stage 2, whose blocks have units of 96 and of 144 channels'):
        get_model('share_se_mobilenet_v2', inside=True)
    with pytest.raises(ValueError, match='one number'):
        get_model('share_se_resnet18_v1b', reduction=(4, 8))


class Scaled(gluon.HybridBlock):
    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.scale = self.params.get('scale', shape=(1, channels, 1, 1), init='ones')

    def hybrid_forward(self, F, x, scale):
        return F.broadcast_mul(x, scale)


def test_a_unit_of_ones_own_is_shared_too(monkeypatch):
    monkeypatch.setitem(ATTENTIONS, 'scaled', ATTENTIONS['se'])  # monkeypatch removes it again
    monkeypatch.delitem(ATTENTIONS, 'scaled')
    register_attention('scaled', Scaled, connects=False)
    net = get_model('cifar_share_scaled_resnet20bn_v1')
    assert net.layer1[0].attention is net.layer1[1].attention is not net.layer2[0].attention
    with pytest.raises(ValueError, match="'share' has a meaning"):
        register_backbone('share_1', Scaled)
