"""The pass over the validation images: confusion, hardest and recognised images, against counts by hand."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.classification.dataset import ImageDataset
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing
from data.shown import pixels_of
from tests.data.loaders import loader as make_loader
from training.evaluate import evaluate
from training.report.findings import Findings, find

CLASSES = 3
PREPROCESSING = Preprocessing(4, CIFAR_MEAN, CIFAR_STD)


def dataset(count=23):
    random = np.random.RandomState(1)
    images = random.randint(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return ImageDataset(images, random.randint(0, CLASSES, count), ('a', 'b', 'c'), 'noise', 'test', PREPROCESSING)


def colours(data):
    """Return a network whose logits are ten times the mean colours."""
    return 10 * data.mean(axis=(2, 3))


def logits_of(images):
    return np.asarray(colours(PREPROCESSING.batch(images)), np.float64)


@pytest.mark.parametrize('last', ['keep', 'pad'])
@pytest.mark.parametrize('batch', [1, 5, 23, 64])
def test_it_finds_what_counting_by_hand_finds(batch, last):
    data = dataset()
    loader = make_loader(data, batch, last=last)
    found = find(colours, loader, [mx.cpu()], PREPROCESSING, CLASSES, hardest=4, recognised=2)
    logits = logits_of(data.images)
    predicted = logits.argmax(axis=1)
    expected = np.zeros((CLASSES, CLASSES), int)
    for label, answer in zip(data.labels, predicted):
        expected[label, answer] += 1
    assert (found.confusion == expected).all()
    assert found.count == len(data)
    scores = evaluate(colours, loader)
    assert found.correct == round(scores.top1 * scores.count)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = shares[np.arange(len(data)), data.labels]
    order = np.argsort(own)[:4]
    assert [example.of_label for example in found.hardest] == pytest.approx(own[order], rel=1e-4)
    for example, i in zip(found.hardest, order):
        assert (example.pixels == data.images[i]).all()
        assert (example.label, example.predicted) == (data.labels[i], predicted[i])
        assert example.of_predicted == pytest.approx(shares[i].max(), rel=1e-4)
        assert example.loss == pytest.approx(-np.log(own[i]), rel=1e-4)
    assert len({example.label for example in found.recognised}) == 2
    for example in found.recognised:
        assert example.label == example.predicted
        same = np.flatnonzero((data.labels == example.label) & (predicted == example.label))
        assert any((example.pixels == data.images[i]).all() for i in same)


def test_fewer_images_than_asked_for():
    found = find(colours, make_loader(dataset(2), 8), [mx.cpu()], PREPROCESSING, CLASSES, hardest=16)
    assert len(found.hardest) == 2
    assert found.hardest[0].loss >= found.hardest[1].loss


def test_most_confused():
    confusion = np.array([[5, 2, 0], [7, 1, 0], [0, 2, 3]])
    assert Findings(confusion, (), ()).most_confused(9) == [(1, 0, 7), (0, 1, 2), (2, 1, 2)]
    assert Findings(confusion, (), ()).most_confused(1) == [(1, 0, 7)]
    assert Findings(np.diag([3, 4]), (), ()).most_confused(9) == []


def test_answers_that_are_no_numbers():
    def broken(data):
        return colours(data) * np.nan

    with pytest.raises(ValueError, match='NaN or infinity'):
        find(broken, make_loader(dataset(), 8), [mx.cpu()], PREPROCESSING, CLASSES)


def test_it_stops_when_asked():
    calls = []

    def stop():
        calls.append(1)
        return len(calls) == 2

    assert find(colours, make_loader(dataset(), 1), [mx.cpu()], PREPROCESSING, CLASSES, stop=stop) is None
    assert len(calls) == 2


@settings(deadline=None)
@given(arrays.arrays(np.uint8, (5, 4, 3)), st.sampled_from([PREPROCESSING, Preprocessing(4, [0.5] * 3, [0.02] * 3)]))
def test_pixels_come_back(pixels, preprocessing):
    data = preprocessing.batch(pixels[np.newaxis])[0]
    assert (pixels_of(data, preprocessing) == pixels).all()
