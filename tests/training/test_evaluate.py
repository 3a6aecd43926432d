"""evaluate: against a plain computation, and independent of batch size, padding, devices and ranks."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import gluon

from tests.data.conftest import make_dataset
from tests.data.loaders import loader as make_loader
from training.evaluate import Scores, evaluate, predictions

DATASET = make_dataset(53, classes=7)


@pytest.fixture(scope='module')
def net():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(4, 3, strides=2), gluon.nn.BatchNorm(), gluon.nn.Dropout(0.5), gluon.nn.Dense(7))
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(), ctx=[mx.cpu(0), mx.cpu(1)])
    net(mx.nd.zeros((1, 3, 8, 8), ctx=mx.cpu(0)))
    return net


class Fixed:
    """A network that gives the rows of a table in order, whatever its input."""

    def __init__(self, table):
        self.table, self.position = np.asarray(table, np.float32), 0

    def __call__(self, data):
        rows = self.table[self.position : self.position + len(data)]
        self.position += len(data)
        return mx.nd.array(rows)


def score(table, labels, batch=4):
    dataset = make_dataset(len(labels), classes=len(table[0]))
    dataset.labels[:] = labels
    return evaluate(Fixed(table), make_loader(dataset, batch))


def test_against_a_plain_computation(net):
    data = mx.nd.array(DATASET.preprocessing.batch(DATASET.images))
    logits = net(data).asnumpy().astype(np.float64)
    order = np.argsort(-logits, axis=1)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = evaluate(net, make_loader(DATASET, 10))
    assert scores.count == 53
    assert scores.top1 == (order[:, 0] == DATASET.labels).mean()
    assert scores.top5 == (order[:, :5] == DATASET.labels[:, None]).any(1).mean()
    assert scores.classes.support.tolist() == np.bincount(DATASET.labels, minlength=7).tolist()
    hits = np.bincount(DATASET.labels[order[:, 0] == DATASET.labels], minlength=7)
    np.testing.assert_allclose(scores.classes.recall, hits / scores.classes.support)
    assert scores.loss == pytest.approx(-np.log(probabilities[np.arange(53), DATASET.labels]).mean(), rel=1e-6)


@given(st.integers(1, 60), st.sampled_from(['keep', 'pad']), st.booleans(), st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_independent_of_batches_devices_and_ranks(net, batch, last, two, ranks):
    whole = evaluate(net, make_loader(DATASET, 53))
    contexts = [mx.cpu(0), mx.cpu(1)] if two else mx.cpu(0)
    parts = [evaluate(net, make_loader(DATASET, batch, last=last, rank=r, size=ranks), contexts) for r in range(ranks)]
    total = sum(part.count for part in parts)
    assert total == 53
    assert sum(part.top1 * part.count for part in parts) == pytest.approx(whole.top1 * 53)
    assert sum(part.top5 * part.count for part in parts) == pytest.approx(whole.top5 * 53)
    assert sum(part.loss * part.count for part in parts) / 53 == pytest.approx(whole.loss, rel=1e-6)


def test_a_network_that_knows_nothing_scores_like_its_first_class():
    """Equal logits must not count as hits, or a collapsed network would look perfect."""
    scores = score(np.zeros((10, 10)), range(10))
    assert scores == Scores(0.1, 0.5, pytest.approx(np.log(10)), 10)


def test_nan_is_never_a_hit():
    table = np.eye(10, dtype=np.float32)
    assert score(table, range(10)).top1 == 1
    table[3, 3] = np.nan
    table[4, 5] = np.nan
    scores = score(table, range(10))
    assert (scores.top1, scores.top5) == (0.8, 0.9)
    assert np.isnan(scores.loss)


def test_huge_logits_do_not_overflow():
    scores = score([[3e38, -3e38], [-3e38, 3e38], [1e4, 0.0]], [0, 1, 1])
    assert scores.loss == pytest.approx(1e4 / 3)


def test_fewer_classes_than_five():
    assert score([[1, 0, 0], [1, 0, 0]], [0, 2]).top5 == 1


def test_running_statistics_and_dropout_are_those_of_inference(net):
    before = net[1].running_mean.data(mx.cpu(0)).asnumpy().copy()
    assert evaluate(net, make_loader(DATASET, 9)) == evaluate(net, make_loader(DATASET, 9))
    np.testing.assert_array_equal(net[1].running_mean.data(mx.cpu(0)).asnumpy(), before)


def test_predictions_come_in_the_order_of_the_loader(net):
    labels = np.concatenate([labels for _, labels in predictions(net, make_loader(DATASET, 8, last='pad'))])
    np.testing.assert_array_equal(labels, DATASET.labels)


def test_what_cannot_be_scored(net):
    for wrong in ({'last': 'discard'}, {'augment': True}):
        with pytest.raises(ValueError, match='scoring needs'):
            evaluate(net, make_loader(DATASET, 8, **wrong))
    with pytest.raises(ValueError, match='no images'):
        evaluate(net, make_loader(DATASET.limited(2), 1, rank=2, size=3))
    with pytest.raises(ValueError, match='label 8 lies beyond the 7 outputs'):
        evaluate(net, make_loader(make_dataset(20, classes=9), 20))
