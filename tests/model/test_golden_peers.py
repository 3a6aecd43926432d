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


def own_name(golden):
    """Return the peer's name of the network; timm's two with a unit by argument have none there."""
    attention = golden['config'].get('block_args', {}).get('attn_layer')
    return golden['model'] + (f'[{attention}]' if attention else '')


def network(golden, **options):
    name, arguments = counterpart(golden['system'], own_name(golden))
    return get_model(name, **{**arguments, 'classes': golden['classes'], **options})


@pytest.mark.parametrize('case', FILES)
def test_logits_counts_and_the_way_back(case):
    golden = fill.read(FILES[case])
    source = golden['system']
    net = network(golden)
    assert count(net, golden['macs_input_shape']) == (golden['params'], golden['macs'])
    net.cast('float64')
    state = fill.state(golden)
    dropped = load_state_dict(net, state, source)
    assert not dropped  # a gamma that is read as 1 is a parameter here, too
    logits = net(mx.nd.array(fill.golden_input(golden), dtype='float64')).asnumpy()
    assert close(logits, golden['eval']['logits'], 1e-5)

    back = to_state_dict(net, source)
    assert {name: list(array.shape) for name, array in back.items()} == dict(golden['state'])
    copies = getattr(table(source), 'COPIES', False)
    for name, array in state.items():
        if name not in golden['unused'] and not copies:
            np.testing.assert_array_equal(back[name], array)
