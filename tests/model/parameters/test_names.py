"""Files whose names do not follow a network's structure, as Gluon and Module save them, from other builds and
programs; what is refused, and why.
"""

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model as gluoncv_model

from environment import UserError
from model import get_model, load_params
from model.parameters.file_format import read_params_file, write_params_file
from model.parameters.gluoncv_names import NETWORKS, gluoncv_network

WAYS = ('collected', 'stripped', 'exported', 'module')


def filled(net, side=32, seed=0):
    """Return a network in which every array has values of its own."""
    random = np.random.RandomState(seed)
    net.initialize()
    net.infer_shape(mx.nd.zeros((1, 3, side, side)))
    for parameter in net.collect_params().values():
        parameter.initialize(force_reinit=True)
        parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
    return net


def values(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def saved(net, way, folder, side=32):
    path, arrays = str(folder / way), {name: p.data() for name, p in net.collect_params().items()}
    if way == 'collected':
        net.collect_params().save(path)
    elif way == 'stripped':
        net.collect_params().save(path, strip_prefix=net.prefix)
    elif way == 'exported':
        net.hybridize()
        net(mx.nd.zeros((1, 3, side, side)))
        net.export(path)
        return f'{path}-0000.params'
    else:
        symbol = net(mx.sym.var('data'))
        arguments = {name: arrays[name] for name in symbol.list_arguments() if name != 'data'}
        mx.model.save_checkpoint(path, 0, symbol, arguments, {n: arrays[n] for n in symbol.list_auxiliary_states()})
        return f'{path}-0000.params'
    return path


def in_order(path, order, folder):
    """Return the same arrays in another order, given by a permutation or a function of the names."""
    arrays = read_params_file(path)
    names = list(arrays)
    names = [names[place] for place in order] if isinstance(order, list) else sorted(names, key=order)
    with open(folder / 'other.params', 'wb') as file:
        write_params_file(file, {name: arrays[name] for name in names})
    return folder / 'other.params'


def loads(net, path, expected):
    load_params(net, path)
    found = values(net)
    assert all((found[name] == array).all() for name, array in expected.items())


OURS = {
    'cifar_atac_resnet8_v2': {},
    'cifar_dia_resnet11bn_v1': {},  # its blocks share a unit
    'cifar_dca_cbam_resnet11bn_v1': {},
    'cifar_preresnet11': {'norm': 'group'},
    'cifar_resnet8_v2': {'act_type': 'prelu'},
}


@pytest.mark.parametrize('name', OURS)
def test_another_build_of_a_network_of_ours(tmp_path, name):
    net = filled(get_model(name, **OURS[name]))
    for way in ('collected', 'exported', 'module'):
        path = saved(net, way, tmp_path)
        loads(get_model(name, **OURS[name]), path, values(net))
        # Only the names decide, as in files of Pythons whose dictionaries had no order.
        shuffled = np.random.RandomState(0).permutation(len(read_params_file(path))).tolist()
        loads(get_model(name, **OURS[name]), in_order(path, shuffled, tmp_path), values(net))


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', ['resnet18_v1b', 'cifar_resnet20_v2'])
def test_gluoncvs_own_ways(tmp_path, name, way):
    net = filled(gluoncv_model(name, classes=10))
    path = saved(net, way, tmp_path)
    loads(get_model(name, classes=10), path, values(net))
    loads(gluoncv_model(name, classes=10), path, values(net))  # its shapes are unknown until they are loaded
    with pytest.raises(UserError, match=r'has the shape \(10, \d+\) there and \(3, \d+\) in this network'):
        load_params(get_model(name, classes=3), path)


def test_older_names_of_running_statistics(tmp_path):
    net = filled(gluoncv_model('resnet18_v1b', classes=10))
    arrays = read_params_file(saved(net, 'collected', tmp_path))
    with open(tmp_path / 'older', 'wb') as file:
        write_params_file(file, {name.replace('running', 'moving'): array for name, array in arrays.items()})
    loads(get_model('resnet18_v1b', classes=10), tmp_path / 'older', values(net))


def refused(net, path, words):
    with pytest.raises(UserError, match=rf'{path}: its names .*uncertain: .*{words}.*SymbolBlock.imports$'):
        load_params(net, path)
    assert all(parameter._data is None for parameter in net.collect_params().values())


@pytest.mark.parametrize(
    ('order', 'words'),
    [
        (str, r'batchnorm0_beta \(3,\) comes where features.0.gamma \(3,\) is due'),
        (lambda name: -len(name), 'comes where'),
        ('two layers', 'conv. comes before .*conv. by its number, and after it in order'),
        ('parts of layers', 'is in one layer with parameters of'),
    ],
)
def test_another_program_in_another_order_is_refused(tmp_path, order, words):
    path = saved(filled(gluoncv_model('cifar_resnet20_v2', classes=10)), 'collected', tmp_path)
    arrays = read_params_file(path)
    names = list(arrays)
    if isinstance(order, str):
        # Of equal shapes, so that only the names can tell.
        leaf = 'weight' if order == 'two layers' else 'gamma'
        like = [i for i, name in enumerate(names) if 'stage1' in name and name.endswith(leaf)]
        places = list(range(len(names)))
        places[like[1]], places[like[2]] = places[like[2]], places[like[1]]
        order = places
    refused(get_model('cifar_resnet20_v2'), in_order(path, order, tmp_path), words)


def test_names_of_another_build_go_before_the_order(tmp_path):
    arrays = read_params_file(saved(filled(get_model('cifar_resnet8_v2')), 'collected', tmp_path))
    convolutions = [name for name in arrays if name.startswith('conv')]
    assert arrays[convolutions[1]].shape == arrays[convolutions[2]].shape
    swapped = {convolutions[1]: convolutions[2], convolutions[2]: convolutions[1]}
    with open(tmp_path / 'swapped', 'wb') as file:
        write_params_file(file, {swapped.get(name, name): array for name, array in arrays.items()})
    other = get_model('cifar_resnet8_v2')
    load_params(other, tmp_path / 'swapped')
    assert (values(other)['features.2.0.conv1.weight'] == arrays[convolutions[2]]).all()


class Backwards(mx.gluon.HybridBlock):
    """A network that computes its layers in another order than it holds them."""

    def __init__(self):
        super().__init__()
        self.one, self.two = mx.gluon.nn.Dense(2, in_units=2), mx.gluon.nn.Dense(2, in_units=2)

    def hybrid_forward(self, F, x):
        return self.one(self.two(x))


def test_two_orders_that_both_fit_are_refused(tmp_path):
    names = ('first_weight', 'first_bias', 'second_weight', 'second_bias')
    with open(tmp_path / 'a', 'wb') as file:
        write_params_file(file, {name: np.ones((2, 2) if 'weight' in name else 2, 'f') for name in names})
    refused(Backwards(), tmp_path / 'a', 'two orders, disagree about (one|two).(weight|bias): ')


def test_shapes_decide_where_each_is_another(tmp_path):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(3, in_units=2), mx.gluon.nn.Dense(4, in_units=3))
    filled_values = {'0.weight': (3, 2), '0.bias': (3,), '1.weight': (4, 3), '1.bias': (4,)}
    arrays = {name: np.random.RandomState(0).uniform(size=shape).astype('f') for name, shape in filled_values.items()}
    theirs = {'0.weight': 'first_weight', '0.bias': 'first_bias', '1.weight': 'second_weight', '1.bias': 'second_bias'}
    with open(tmp_path / 'a', 'wb') as file:
        write_params_file(file, {theirs[name]: arrays[name] for name in reversed(list(arrays))})
    loads(net, tmp_path / 'a', arrays)


def test_another_network_is_refused_by_its_number(tmp_path):
    path = saved(filled(get_model('cifar_resnet14_v2')), 'exported', tmp_path)
    refused(get_model('cifar_resnet8_v2'), path, 'it has 73 arrays, and this network 43 parameters')
    with open(tmp_path / 'both', 'wb') as file:
        write_params_file(file, {'arg:a': np.ones(2), 'aux:a': np.ones(2)})
    with pytest.raises(UserError, match='both as arg: and as aux:'):
        load_params(get_model('cifar_resnet8_v2'), tmp_path / 'both')


@pytest.mark.parametrize('name', NETWORKS)
def test_gluoncvs_networks_of_other_structure_are_known(name):
    for classes in (10, 7):
        net = gluoncv_model(name, classes=classes)
        net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
        # Their values do not matter.
        arrays = {n: np.broadcast_to(np.float32(0), p.shape) for n, p in net._collect_params_with_prefix().items()}
        assert f"GluonCV's {name}" in gluoncv_network(arrays)


@pytest.mark.parametrize('way', ['structure', *WAYS])
def test_a_file_of_such_a_network_is_told(tmp_path, way):
    net = filled(gluoncv_model('cifar_resnext29_32x4d'))
    path = saved(net, way, tmp_path) if way != 'structure' else str(tmp_path / 'structure')
    if way == 'structure':
        net.save_parameters(path)
    with pytest.raises(UserError, match=r"GluonCV's cifar_resnext29_32x4d, another network: its stages have 256"):
        load_params(get_model('cifar_resnext29_32x4d'), path)


def test_no_network_here_is_taken_for_gluoncvs():
    for name in ('cifar_resnet20_v1', 'cifar_resnet20bn_v1', 'cifar_resnext29_32x4d', 'cifar_wrn16_8'):
        net = get_model(name)
        arrays = {n: np.broadcast_to(np.float32(0), p.shape) for n, p in net._collect_params_with_prefix().items()}
        assert gluoncv_network(arrays) is None
