"""Line charts as SVG: every finite value has its place, gaps are gaps, names are text."""

import math
import re

import pytest

from common.html import page
from tests.pages import Page
from training.report.chart import BOTTOM, LEFT, RIGHT, TOP, Series, chart, key


def parsed(tmp_path, body):
    (tmp_path / 'page.html').write_bytes(page('x', body))
    return Page(tmp_path / 'page.html')


def paths(drawing):
    """Return the points of each line."""
    found = re.findall(r'class="line" [^>]*d="M([^"]*)"', drawing)
    return [[tuple(map(float, point.split())) for point in path.split('L')] for path in found if 'H' not in path]


def test_points_are_where_their_values_put_them():
    (line,) = paths(chart('t', [Series('a', [0, 5, 10], [0, 5, 10])]))
    assert line == [(LEFT, BOTTOM), ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2), (RIGHT, TOP)]


def test_gaps():
    drawing = chart('t', [Series('a', range(7), [1, 2, math.nan, 3, None, math.inf, 4])])
    assert [len(line) for line in paths(drawing)] == [2, 1, 1]
    assert 'nothing to draw' in chart('t', [Series('a', [0, 1], [math.nan, math.inf])])
    assert 'nothing to draw' in chart('t', [Series('a', [], [])])


@pytest.mark.parametrize('values', [[3.0], [0.0, 0.0], [-2.0, -1.0], [1e-9, 2e-9], [1e9, 2e9]])
@pytest.mark.parametrize('zero', [True, False])
def test_everything_lies_inside(values, zero):
    for line in paths(chart('t', [Series('a', range(len(values)), values)], zero=zero)):
        assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in line)


def test_names_units_and_values_are_told(tmp_path):
    lines = [Series('<b>', [0, 1], [0.25, 0.5], 0), Series('other', [0, 1], [1, 2], 7)]
    page = parsed(tmp_path, chart('A "title"', lines, 'km/s', 'hour'))
    assert '<b>, hour 1: 0.5 km/s' in page.text
    assert page.text.count('other') == 3  # two values and the key
    assert page.all('svg')[0]['aria-label'] == 'A "title"'
    assert not page.all('b')


def test_lines_look_different():
    assert len({str(key(number)) for number in range(24)}) == 24


def test_many_values_stay_small():
    drawing = chart('t', [Series('a', range(5000), range(5000))])
    assert drawing.count('<title>') <= 100
    assert len(paths(drawing)[0]) == 5000
