"""Same weights in, same logits out as the networks of torchvision, timm, pytorchcv and GluonCV."""

import mxnet as mx
import numpy as np
import pytest

from model import count, get_model
from model.convert import counterpart, load_state_dict, to_state_dict
from model.convert.tables import table

from .golden import fill
from .test_golden_open_atac import close

SOURCES = ('torchvision', 'timm', 'pytorchcv', 'gluoncv')
FILES = {f'{source}/{path.name[: -len(".json.gz")]}': path for source in SOURCES for path in fill.files(source)}
#: One of each structure; the others are computed in the heavy part alone.
SMALL = (
    'torchvision/mnasnet0_5',
    'torchvision/mobilenet_v2',
    'torchvision/resnet18',
    'timm/resnet18d',
    'timm/semnasnet_100',
    'timm/seresnet18',
    'pytorchcv/diaresnet20_cifar10',
    'pytorchcv/preresnet20_cifar10',
    'pytorchcv/resnet20_cifar10',
    'pytorchcv/sepreresnet20_cifar10',
    'gluoncv/cifar_resnet20_v1',
    'gluoncv/cifar_resnet20_v2',
    'gluoncv/mobilenetv2_1.0',
    'gluoncv/resnet18_v1',
)


def own_name(golden):
    """Return the peer's name of the network, as ``counterpart`` takes it where its unit is an argument there."""
    attention = golden['config'].get('block_args', {}).get('attn_layer')
    return golden['model'] + (f'[{attention}]' if attention else '')


def network(golden):
    name, arguments = counterpart(golden['system'], own_name(golden))
    return get_model(name, **{**arguments, 'classes': golden['classes']})


@pytest.mark.parametrize('case', FILES)
def test_names_shapes_and_counts(case):
    golden = fill.read(FILES[case])
    net, original = network(golden), table(golden['system'])
    assert count(net, golden['macs_input_shape']) == (golden['params'], golden['macs'])
    parameters = net._collect_params_with_prefix()
    shapes = {name: list(parameters[own].shape) for name, own in original.names(net).items()}
    others = original.shapes(net) if hasattr(original, 'shapes') else {}
    assert {**shapes, **{name: list(shape) for name, shape in others.items()}} == dict(golden['state'])


@pytest.mark.parametrize(
    'case', [pytest.param(name, marks=() if name in SMALL else pytest.mark.heavy) for name in FILES]
)
def test_logits_and_the_way_back(case):
    golden = fill.read(FILES[case])
    source = golden['system']
    net = network(golden)
    net.cast('float64')
    state = fill.state(golden)
    assert load_state_dict(net, state, source) == []  # a gamma that is treated as 1 is a parameter here, too
    data = fill.golden_input(golden)
    data = mx.nd.array(data if data.shape[2] <= 64 else data[:1], dtype='float64')  # of large images one is enough
    logits = net(data).asnumpy()
    assert close(logits, golden['eval']['logits'][: len(data)], 1e-5)

    back = to_state_dict(net, source)
    assert list(back) == list(state) or set(back) == set(state)
    if getattr(table(source), 'COPIES', False):  # if those in the file differ, the network uses the last one
        load_state_dict(net, back, source)
        again = net(data).asnumpy()
        np.testing.assert_array_equal(again, logits)
    else:
        for name in set(state) - set(golden['unused']):  # MXNet sets a gamma that it treats as 1 to 1
            np.testing.assert_array_equal(back[name], state[name])
