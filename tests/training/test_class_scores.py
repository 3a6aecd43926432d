"""Figures by class, against numbers of scikit-learn 1.9.1."""

import numpy as np
import pytest

from training.class_scores import average_precision, class_scores, of_confusion
from training.evaluate_several import binary_cross_entropy, scored

LABELS = [0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 3, 4]
PREDICTED = [0, 0, 0, 1, 1, 4, 1, 1, 0, 3, 2, 0]
# average_precision_score sees equal scores in the first, third and last column.
SCORES = np.array([[0.9, 0.1, 0.3, 0.5], [0.8, 0.4, 0.3, 0.5], [0.8, 0.35, 0.9, 0.5], [0.3, 0.8, 0.3, 0.5],
                   [0.7, 0.7, 0.1, 0.5], [0.2, 0.6, 0.2, 0.5], [0.6, 0.2, 0.3, 0.5]])  # fmt: skip
SEVERAL = np.array([[1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def test_figures_of_classes_are_scikit_learns():
    confusion = np.zeros((6, 6), np.int64)
    np.add.at(confusion, (LABELS, PREDICTED), 1)
    scores = of_confusion(confusion)
    np.testing.assert_allclose(scores.precision, [0.6, 0.5, 0, 1, 0, 0])
    np.testing.assert_allclose(scores.recall, [0.5, 2 / 3, 0, 0.5, 0, 0])
    np.testing.assert_allclose(scores.f1, [0.5454545454545454, 0.5714285714285714, 0, 2 / 3, 0, 0])
    assert scores.support.tolist() == [6, 3, 0, 2, 1, 0]
    assert scores.macro() == pytest.approx((0.42, 1 / 3, 0.3567099567099567))
    assert scores.weighted() == pytest.approx((0.5916666666666667, 0.5, 0.5266955266955267))
    assert scores.balanced_accuracy == pytest.approx(0.41666666666666663)


def test_average_precision_is_scikit_learns():
    expected = [0.8055555555555556, 0.7555555555555555, 0.6, 0.2857142857142857]
    np.testing.assert_allclose(average_precision(SCORES, SEVERAL), expected)
    scores = scored(SCORES - 0.5, SEVERAL)  # a class is predicted above a probability of 1/2, as in SCORES > 0.5
    assert scores.mean_ap == pytest.approx(0.6117063492063491)
    np.testing.assert_allclose(scores.classes.precision, [0.6, 2 / 3, 0, 0])
    np.testing.assert_allclose(scores.classes.recall, [1, 2 / 3, 0, 0])
    assert scores.classes.macro() == pytest.approx((0.31666666666666665, 0.41666666666666663, 0.35416666666666663))
    assert scores.classes.weighted() == pytest.approx((0.34545454545454546, 0.45454545454545453, 0.38636363636363635))


def test_a_class_without_an_image_has_no_average_precision():
    ap = average_precision(SCORES[:, :2], np.array([[1, 0]] * 7))
    assert ap[0] == pytest.approx(1)
    assert np.isnan(ap[1])
    scores = class_scores(np.array([7, 0]), np.array([7, 0]), np.array([7, 0]), ap)
    assert scores.mean_ap == pytest.approx(1)
    assert scores.rows(['a', 'b'])[1] == {'class': 'b', 'precision': 0, 'recall': 0, 'f1': 0, 'ap': None, 'support': 0}


def test_the_loss_of_several_labels():
    logits, labels = np.array([[0.0, 800.0, -800.0]]), np.array([[1, 1, 1]])
    np.testing.assert_allclose(binary_cross_entropy(logits, labels), [[np.log(2), 0, 800]])
