"""Anchors: against cases computed by hand, and in a graph against themselves in NumPy."""

import numpy as np
import pytest
from mxnet import nd

from detection.anchors import AnchorGrid, base_anchors, cells_within, grid


def test_square_anchor_of_the_first_cell():
    # 32 pixels around 3.5.
    assert base_anchors(8, (4.0,), (1.0,)).tolist() == [[-12, -12, 19, 19]]


def test_ratio_is_height_by_width_and_the_order_is_by_ratio():
    anchors = base_anchors(16, (4.0, 8.0), (0.5, 2.0))
    # 16 * 4 * sqrt(2) = 90.51 wide and 45.25 high around 7.5: corners at -37.25 and 52.25, -14.63 and 29.63.
    assert anchors[0].tolist() == [-37, -15, 52, 30]
    assert anchors[1].tolist() == [-83, -37, 98, 52]  # twice as large: 181.02 by 90.51
    assert anchors[2].tolist() == [-15, -37, 30, 52]  # the first one, upright
    assert len(anchors) == 4


def test_cells_follow_row_by_row():
    found = grid(2, 3, 8, (4.0,), (1.0, 2.0)).reshape(2, 3, 2, 4)
    base = base_anchors(8, (4.0,), (1.0, 2.0))
    assert (found[1, 2] == base + np.array([16, 8, 16, 8])).all()
    assert (found[0, 0] == base).all()


@pytest.mark.parametrize('hybrid', [False, True])
def test_the_graph_makes_the_same_for_maps_of_any_size(hybrid):
    block = AnchorGrid(16, (4.0, 5.0))
    block.initialize()
    block.hybridize(active=hybrid)
    for height, width in ((3, 5), (1, 1), (7, 2)):
        made = block(nd.zeros((2, 8, height, width))).asnumpy()
        assert made.shape == (1, height * width * block.count, 4)
        assert (made[0] == block.of(height, width)).all()


def test_cells_within_an_image():
    # Cells begin at 0, 8, 16 pixels; 9 x 16 pixels hold two rows and two columns.
    inside = cells_within(3, 3, 8, (9, 16), 2).reshape(3, 3, 2)
    assert (inside == np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)[:, :, None]).all()
