"""Losses against the numbers of PyTorch 2.13 and of timm 1.0.31, in float64."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from environment import UsageError, UserError
from training.class_loss import BinaryFocalLoss, BinaryLoss, FocalLoss, SoftmaxLoss
from training.class_weights import class_weights, weights_line
from training.loss import Criterion, figures

LOGITS = [[2.0, -1.0, 0.5, 0.0], [-3.0, 4.0, 1.0, -0.5], [0.25, 0.75, -2.0, 8.0], [1.5, 1.0, -6.0, -1.0]]
LABELS, WEIGHTS = [0, 2, 3, 1], [0.5, 1.0, 2.0, 4.0]
SEVERAL = [[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 1, 0, 1]]
# (loss, smoothing, mixup's lambda, labels, the loss of each image according to PyTorch or timm)
GOLDEN = {
    # torch: cross_entropy(weight=WEIGHTS)
    'weights': (SoftmaxLoss(WEIGHTS), 0.0, 1.0, LABELS, [0.17117479, 6.11994613, 0.00474245, 1.02423654]),
    'weights, smoothed': (SoftmaxLoss(WEIGHTS), 0.1, 1.0, LABELS, [0.56824786, 6.20669647, 0.78261551, 1.65760724]),
    'weights, mixed': (SoftmaxLoss(WEIGHTS), 0.1, 0.7, LABELS, [1.42446505, 9.47908192, 6.18197529, 1.4518353]),
    # timm: BinaryCrossEntropy(smoothing=0.1, target_threshold=..., sum_classes=..., pos_weight=...)
    'bce': (BinaryLoss(), 0.1, 1.0, LABELS, [0.56747847, 1.22914399, 0.67876846, 0.63572808]),
    'bce, threshold': (BinaryLoss(0.2), 0.1, 1.0, LABELS, [0.52685347, 1.21351899, 0.52251846, 0.58260308]),
    'bce, sum': (BinaryLoss(summed=True), 0.1, 1.0, LABELS, [2.26991386, 4.91657595, 2.71507384, 2.54291234]),
    'bce, weights': (BinaryLoss(weights=WEIGHTS), 0.0, 1.0, LABELS, [0.51098746, 1.29183441, 0.52277002, 0.58260308]),
    # with targets of timm's mixup_target(lam=0.7, smoothing=0.1)
    'bce, mixed': (BinaryLoss(), 0.1, 0.7, LABELS, [0.76997847, 1.33039399, 1.35376846, 0.60197808]),
    'bce, mixed, threshold': (BinaryLoss(0.2), 0.1, 0.7, LABELS, [0.77685347, 1.33851899, 1.02251846, 0.20760308]),
    # torch: -(1 - p)^gamma log(p) of softmax, and of binary_cross_entropy_with_logits
    'focal': (FocalLoss(2.0), 0.0, 1.0, LABELS, [0.02877176, 2.77974275, 0.0, 0.42074677]),
    'focal, root': (FocalLoss(0.5), 0.0, 1.0, LABELS, [0.18432913, 2.98737233, 4.081e-05, 0.81998402]),
    'several': (BinaryLoss(weights=WEIGHTS), 0.0, 1.0, SEVERAL, [0.50450671, 1.46351899, 3.23225804, 1.81754935]),
    'several, focal': (BinaryFocalLoss(2.0, True), 0.0, 1.0, SEVERAL, [0.2653219, 4.64445832, 9.79526935, 1.8617987]),
}
GRADIENTS = {
    'focal': [[-0.065225, 0.007954, 0.035649, 0.021622], [0.001015, 1.113124, -1.126504, 0.012366],
              [0, 0, 0, 0], [0.522283, -0.565443, 0.000289, 0.042872]],
    'bce, sum': [[-0.044203, 0.243941, 0.597459, 0.475], [0.022426, 0.957014, -0.193941, 0.352541],
                 [0.537177, 0.654179, 0.094203, 0.074665], [0.792574, -0.193941, -0.022527, 0.243941]],
}  # fmt: skip


@pytest.mark.parametrize('case', GOLDEN)
def test_losses_are_those_of_torch_and_timm(case):
    kind, smoothing, share, labels, expected = GOLDEN[case]
    criterion = Criterion(4, smoothing, kind=kind)
    losses = criterion(mx.nd.array(LOGITS), mx.nd.array(labels), share).asnumpy()
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize('case', GRADIENTS)
def test_gradients_are_those_of_torch(case):
    kind, smoothing, share, labels, _ = GOLDEN[case]
    logits = mx.nd.array(LOGITS)
    logits.attach_grad()
    with autograd.record():
        losses = Criterion(4, smoothing, kind=kind)(logits, mx.nd.array(labels), share)
    losses.backward()
    np.testing.assert_allclose(logits.grad.asnumpy(), GRADIENTS[case], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize('kind', [FocalLoss(0.5), FocalLoss(2.0), BinaryLoss(), BinaryFocalLoss(0.5)])
def test_sure_answers_have_finite_losses_and_gradients(kind):
    logits = mx.nd.array([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]])
    logits.attach_grad()
    with autograd.record():
        losses = Criterion(3, kind=kind)(logits, mx.nd.array([0, 0]))
    losses.backward()
    assert np.isfinite(losses.asnumpy()).all()
    assert np.isfinite(logits.grad.asnumpy()).all()


def test_of_several_labels_no_prediction_counts_as_correct():
    assert figures(mx.nd.array([1.0, 2.0]), mx.nd.array(LOGITS[:2]), mx.nd.array(SEVERAL[:2])).asnumpy().tolist() == [
        3,
        0,
    ]


def test_automatic_weights_are_scikit_learns_balanced_ones():
    """`compute_class_weight('balanced')`: images / (classes * images of the class)."""
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = class_weights('auto', labels, ['a', 'b', 'none', 'd'])
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 1, 10 / 3])
    assert np.mean(np.take(weights, labels)) == pytest.approx(1)
    assert class_weights('auto', np.array([[1, 0], [0, 0], [0, 0]]), ['a', 'b']) == [2, 1]
    assert weights_line([1, 2.5], ['a', 'b']) == 'weights of the classes: a 1, b 2.5'


@pytest.mark.parametrize(('name', 'text'), [('w.csv', 'class,weight\n"cat, big",2\ndog,0.5\n'),
                                            ('w.yaml', '"cat, big": 2\ndog: 0.5\n'),
                                            ('w.txt', 'dog,0.5\n"cat, big",2\n')])  # fmt: skip
def test_weights_from_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert class_weights(str(tmp_path / name), np.array([0]), ['cat, big', 'dog']) == [2, 0.5]


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        ('w.csv', 'cat,1\n', "has no weight for the class 'dog'; give a line"),
        ('w.csv', 'cat,1\ndog,1\ncow,1\n', "has the class 'cow', which is not in the data"),
        ('w.csv', 'cat,1\ncat,2\ndog,1\n', "has the class 'cat' twice"),
        ('w.csv', 'cat,1,2\ndog,1\n', "the line 'cat,1,2' is no NAME,WEIGHT"),
        ('w.csv', 'cat,much\ndog,1\n', "the weight of 'cat' is 'much'; allowed: numbers from 0"),
        ('w.csv', 'cat,nan\ndog,1\n', "the weight of 'cat' is 'nan'; allowed"),
        ('w.csv', 'cat,-1\ndog,1\n', "the weight of 'cat' is '-1'; allowed"),
        ('w.yaml', 'cat: true\ndog: 1\n', "the weight of 'cat' is True; allowed"),
        ('w.yaml', 'cat: [1]\ndog: 1\n', "the weight of 'cat' is .1.; allowed"),
        ('w.csv', 'cat,0\ndog,0\n', 'all weights are 0'),
    ],
)
def test_a_file_of_weights_that_does_not_fit(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        class_weights(str(tmp_path / name), np.array([0]), ['cat', 'dog'])


def test_a_file_of_weights_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match='cannot read --class-weights .*none.csv: No such file'):
        class_weights(str(tmp_path / 'none.csv'), np.array([0]), ['cat'])
    (tmp_path / 'w.csv').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='is no CSV file in UTF-8'):
        class_weights(str(tmp_path / 'w.csv'), np.array([0]), ['cat'])
