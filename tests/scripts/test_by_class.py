"""What validate.py prints and writes for each class."""

import csv
import io

import numpy as np

from scripts import _by_class
from training.class_scores import average_precision, class_scores, of_confusion


def test_few_classes_are_printed_one_by_one_and_many_by_their_means():
    few = _by_class.classes_lines(of_confusion(np.diag([3, 1])), ['cat', 'x' * 60])
    assert [line.split()[0] for line in few] == ['precision', 'cat', 'x' * 37 + '...', 'mean', 'mean']
    assert len({len(line) for line in few}) == 1
    many = _by_class.classes_lines(of_confusion(np.eye(26, dtype=int)), list(map(str, range(26))))
    assert [line.split()[0] for line in many] == ['precision', 'mean', 'mean', 'each']
    assert many[-1] == 'each of the 26 classes: --csv FILE'


def test_what_does_not_exist_is_a_dash_and_an_empty_cell():
    labels = np.array([[1, 0], [1, 0]])
    ap = average_precision(labels.astype(float), labels)
    scores = class_scores(labels.sum(0), labels.sum(0), labels.sum(0), ap)
    lines = _by_class.classes_lines(scores, ['there', 'never'])
    assert lines[0].split() == ['precision', 'recall', 'F1', 'AP', 'images']
    assert lines[2].split() == ['never', '0.00', '%', '0.00', '%', '0.00', '%', '–', '0']
    first, second = csv.DictReader(io.StringIO(_by_class.classes_csv(scores.rows(['=there', 'never']))))
    assert (first['class'], first['ap'], second['ap']) == ("'=there", '1.0', '')
