"""Same weights in, same logits, loss and gradients out as tengshaofeng/ResidualAttentionNetwork-pytorch."""

import mxnet as mx
import numpy as np
import pytest

from model import get_model
from model.backbone.attention_module import Mask
from model.convert import load_state_dict, residual_attention

from .golden import fill
from .test_golden_open_atac import check_gradients, close, gradient_norms

FILES = {path.name[: -len('.json.gz')]: path for path in fill.files('residual_attention')}
NAMES = {
    'ResidualAttentionModel_56': 'residual_attention56',
    'ResidualAttentionModel_448input': 'residual_attention92_448',
    'ResidualAttentionModel_92_32input': 'cifar_residual_attention92_pooled',
    'ResidualAttentionModel_92_32input_update': 'cifar_residual_attention92',
}


def interpolation(to, size):
    """Return the matrix of linear interpolation with aligned corners, (to, size)."""
    matrix = np.zeros((to, size))
    for row, place in enumerate(np.arange(to) * ((size - 1) / max(1, to - 1))):
        left = min(int(place), size - 2) if size > 1 else 0
        matrix[row, left] += 1 - (place - left)
        matrix[row, min(left + 1, size - 1)] += place - left
    return mx.nd.array(matrix, dtype='float64')


def exact_resize(F, x, like):
    (height, width), (to_height, to_width) = x.shape[2:], like.shape[2:]
    rows = F.transpose(F.dot(x, interpolation(to_width, width), transpose_b=True), (0, 1, 3, 2))
    return F.transpose(F.dot(rows, interpolation(to_height, height), transpose_b=True), (0, 1, 3, 2))


CASES = [pytest.param(name, marks=[pytest.mark.heavy] if '448' in name else []) for name in FILES]


@pytest.mark.parametrize('case', CASES)
def test_logits_loss_and_gradients(case, monkeypatch):
    golden = fill.read(FILES[case])
    net = get_model(NAMES[golden['model']], classes=10, mask_additions=True)
    net.cast('float64')
    load_state_dict(net, fill.state(golden), source='residual-attention')
    data = fill.golden_input(golden)
    names = residual_attention.names(net)
    expected = {names[name]: norm for name, norm in golden['train']['grad_l2'].items() if name not in golden['unused']}

    def check(tolerance, gradient_tolerance):
        logits, loss, norms = gradient_norms(net, data, golden['labels'], 'float64')
        assert close(logits, golden['train']['logits'], tolerance)
        assert loss == pytest.approx(golden['train']['loss'], rel=tolerance)
        assert set(norms) == set(expected)
        check_gradients(norms, expected, gradient_tolerance)

    assert close(net(mx.nd.array(data, dtype='float64')).asnumpy(), golden['eval']['logits'], 1e-6)
    # MXNet's resize computes its weights in float32 for any data, and small batches of small maps make
    # batch norms ill-conditioned: rounding alone moves these gradients by 1 to 2 per cent.
    if data.shape[2] == 32:
        check(1e-5, 2e-2)
    monkeypatch.setattr(Mask, '_resize', staticmethod(exact_resize))
    check(1e-6, 1e-5)


@pytest.mark.parametrize(('size', 'to'), [((4, 7), (7, 13)), ((1, 2), (2, 3)), ((3, 3), (3, 3)), ((7, 7), (14, 14))])
def test_the_operator_resizes_with_aligned_corners(size, to):
    x = mx.nd.random.normal(shape=(2, 3, *size), dtype='float64')
    like = mx.nd.zeros((2, 3, *to), dtype='float64')
    results = []
    for resize in (Mask._resize, exact_resize):
        x.attach_grad()
        with mx.autograd.record():
            out = resize(mx.nd, x, like)
            loss = (out * out * mx.nd.arange(out.size, dtype='float64').reshape(out.shape)).mean()
        loss.backward()
        results.append((out.asnumpy(), x.grad.asnumpy()))
    for ours, exact in zip(*results):
        assert close(ours, exact, 1e-5)
