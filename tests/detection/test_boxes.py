"""Overlaps, box codes and clipping against cases computed by hand."""

import math

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import nd

from detection.boxes import clip, decode, encode, iou

STDS = (0.1, 0.1, 0.2, 0.2)


def test_overlaps_count_the_last_pixel():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 0, 0], [20, 20, 29, 29]], np.float32)
    others = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [9, 9, 9, 9], [10, 0, 19, 9]], np.float32)
    # 10 x 10 pixels each; the second shares 5 x 10 of 150; the third is one pixel; the last begins one after the end.
    assert iou(boxes, others) == pytest.approx(np.array([[1, 50 / 150, 1 / 100, 0], [1 / 100, 0, 0, 0], [0] * 4]))


def test_code_of_a_shift_and_a_growth():
    box = np.array([[10, 20, 19, 39]], np.float32)  # 10 x 20, centred on 14.5, 29.5
    target = np.array([[15, 20, 34, 29]], np.float32)  # 20 x 10, centred on 24.5, 24.5
    code = [10 / 10, -5 / 20, math.log(2), -math.log(2)]
    assert encode(box, target)[0] == pytest.approx(code)
    assert encode(box, target, STDS)[0] == pytest.approx(np.divide(code, STDS))
    assert encode(box, box)[0] == pytest.approx(0)


def test_decode_by_hand_and_its_limit():
    boxes = nd.array([[[10, 20, 19, 39], [0, 0, 15, 15]]])
    code = nd.array([[[1, -0.25, math.log(2), -math.log(2)], [0, 0, 100, -100]]])
    moved = decode(nd, boxes, code).asnumpy()
    assert moved[0, 0] == pytest.approx([15, 20, 34, 29], abs=1e-4)
    # 16 pixels times 1000 / 16, and 16 divided by it, around 7.5.
    assert moved[0, 1] == pytest.approx([8 - 500, 8 - 0.128, 7 + 500, 7 + 0.128], abs=1e-3)


corner = st.floats(0, 500, width=32)
side = st.floats(1, 300, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2] - 1, b[1] + b[3] - 1))


@settings(deadline=None, max_examples=50)
@given(box, box)
def test_decoding_undoes_encoding(start, end):
    first, last = (np.array([b], np.float32) for b in (start, end))
    code = encode(first, last, STDS)
    ratio = np.abs(code[0, 2:] * STDS[2:]).max()
    moved = decode(nd, nd.array(first), nd.array(code), STDS).asnumpy()
    if ratio < math.log(1000 / 16):
        assert moved == pytest.approx(last, abs=0.02)


def test_decoding_a_symbol_is_decoding_an_array():
    boxes, code = nd.array([[3, 4, 20, 30]]), nd.array([[0.1, 0.2, -0.3, 0.4]])
    graph = mx.sym.Group([decode(mx.sym, mx.sym.var('boxes'), mx.sym.var('code'), STDS)])
    run = graph.bind(mx.cpu(), {'boxes': boxes, 'code': code})
    assert (run.forward()[0].asnumpy() == decode(nd, boxes, code, STDS).asnumpy()).all()


def test_each_image_clips_by_its_own_size():
    boxes = nd.array([[[-5, -5, 200, 200]], [[10, 10, 60, 60]]])
    clipped = clip(nd, boxes, nd.array([[100, 120], [50, 40]])).asnumpy()
    assert clipped.tolist() == [[[0, 0, 119, 99]], [[10, 10, 39, 49]]]
