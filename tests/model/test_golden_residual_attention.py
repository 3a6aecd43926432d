"""Same weights in, same logits, loss and gradients out as tengshaofeng/ResidualAttentionNetwork-pytorch."""

import mxnet as mx
import pytest

from model import count, get_model
from model.convert import load_state_dict

from .golden import fill
from .test_golden_open_atac import check_gradients, close, gradient_norms

FILES = {path.name[: -len('.json.gz')]: path for path in fill.files('residual_attention')}
NAMES = {
    'ResidualAttentionModel_56': 'residual_attention56',
    'ResidualAttentionModel_448input': 'residual_attention92_448',
    'ResidualAttentionModel_92_32input': 'cifar_residual_attention92_pooled',
    'ResidualAttentionModel_92_32input_update': 'cifar_residual_attention92',
}
CASES = [pytest.param(name, marks=() if '32input' in name else pytest.mark.slow) for name in FILES]


def network(golden, **options):
    return get_model(NAMES[golden['model']], classes=10, **{'mask_additions': True, **options})


def loaded(golden, **options):
    """The network in float64: small batches over small maps make the batch norms ill-conditioned."""
    net = network(golden, **options)
    net.cast('float64')
    load_state_dict(net, fill.state(golden), source='residual-attention')
    return net


@pytest.mark.parametrize('case', CASES)
def test_logits_loss_and_gradients(case):
    golden = fill.read(FILES[case])
    net = loaded(golden)
    data = fill.golden_input(golden)
    assert close(net(mx.nd.array(data, dtype='float64')).asnumpy(), golden['eval']['logits'], 1e-5)
    logits, loss, norms = gradient_norms(net, data, golden['labels'], 'float64')
    assert close(logits, golden['train']['logits'], 1e-3)
    assert loss == pytest.approx(golden['train']['loss'], rel=1e-3)

    original_names = loaded_names(net)
    loose = set(golden.get('loose', ()))
    expected = {own: golden['train']['grad_l2'][name] for name, own in original_names.items() if name not in loose}
    check_gradients(norms, expected)


def loaded_names(net):
    from model.convert.residual_attention import names

    running = ('running_mean', 'running_var')
    return {name: own for name, own in names(net).items() if not own.endswith(running)}
