"""Means, spreads and paired tests of studies, against SciPy's."""

import csv
import io
import math

import numpy as np
import pytest
from scipy import stats

from training.report.study import as_latex, compare, holm, lines, mean_history, paired, study_page, summary_csv

VALUES = {
    'plain': {0: 90.1, 1: 90.9, 2: 89.7, 3: 90.4},
    'se_net': {0: 91.0, 1: 91.6, 2: 90.9, 3: 91.5},
    'a&b': {0: 90.0, 2: 89.9, 5: 70.0},
}


def test_the_paired_test_is_scipys():
    one = paired(VALUES['se_net'], VALUES['plain'])
    first, second = (list(VALUES[name].values()) for name in ('se_net', 'plain'))
    expected = stats.ttest_rel(first, second)
    assert one.p == pytest.approx(expected.pvalue)
    assert one.difference == pytest.approx(np.mean(first) - np.mean(second))
    differences = np.array(first) - np.array(second)
    error = differences.std(ddof=1) / math.sqrt(4)
    assert (one.low, one.high) == pytest.approx(stats.t.interval(0.95, 3, differences.mean(), error))


def test_only_seeds_that_both_have_are_paired():
    rows = compare(VALUES, 'plain')
    assert [row.name for row in rows] == list(VALUES)
    assert rows[0].compared is None
    assert rows[2].compared.seeds == 2
    assert rows[2].compared.difference == pytest.approx((-0.1 + 0.2) / 2)
    assert rows[2].mean == pytest.approx((90.0 + 89.9 + 70.0) / 3)
    assert rows[1].spread == pytest.approx(np.std(list(VALUES['se_net'].values()), ddof=1))


def test_what_cannot_be_tested_is_not():
    assert paired({0: 1.0}, {1: 1.0}) is None
    one = paired({0: 2.0}, {0: 1.0})
    assert (one.difference, one.low, one.p) == (1.0, None, None)
    assert paired({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}).p is None  # all differences are equal
    (row,) = compare({'a': {0: 1.0}, 'b': {}}, 'b')
    assert (row.spread, row.compared) == (None, None)


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_tables_say_the_same():
    rows = compare(VALUES, 'plain')
    told = list(csv.DictReader(io.StringIO(summary_csv(rows))))
    assert [float(row['mean']) for row in told] == [row.mean for row in rows]
    assert (told[0]['p'], told[2]['pairs']) == ('', '2')
    latex = as_latex(rows, 'top1', 'plain')
    assert 'se\\_net & 4 & 91.25 $\\pm$ 0.35 & +0.97' in latex
    assert 'a\\&b & 3' in latex
    assert latex.count('\\\\\n') == 4
    assert any('se_net' in line and '91.25 ± 0.35' in line for line in lines(rows, 'top1'))


def test_the_page_draws_the_means_over_the_seeds():
    def history(error):
        return [
            {
                'epoch': epoch, 'step': 1, 'lr': 0.1, 'train_loss': 1.0, 'train_accuracy': 0.5, 'val_loss': 1.0,
                'val_top1': 1 - error, 'val_top5': 1.0, 'best_top1': 0.5, 'images_per_second': 1.0, 'seconds': 1.0,
                'val_seconds': 1.0,
            }
            for epoch in range(3)
        ]  # fmt: skip

    mean = mean_history([history(0.2), history(0.4)[:2]])
    assert [row['epoch'] for row in mean] == [0, 1]
    assert mean[0]['val_top1'] == pytest.approx(0.7)
    text = study_page('T', compare(VALUES, 'plain'), 'top1', 'plain', {'plain': [history(0.1)], 'se_net': []}).decode()
    assert 'Curves, means over the seeds' in text
    assert 'a&amp;b' in text
