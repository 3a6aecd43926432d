"""Detectors of every kind give the same boxes in the project's engine."""

import mxnet as mx
import numpy as np
import pytest

from detection.optimize import DetectorMaps, optimize_detector
from inference.engine.network import why_not
from inference.optimization.proof import difference
from tests.detection.cases import KINDS, outspoken, rectangles, small

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')


@pytest.mark.parametrize('norm', [None, 'group'])
@pytest.mark.parametrize('kind', KINDS)
def test_detectors_find_the_same(kind, norm, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    det = outspoken(small(kind, backbone='se_resnet18_v1b', head_norm=norm))
    images, sizes, _, _ = rectangles(np.random.RandomState(0), 2, 96)
    sizes = mx.nd.array(sizes)
    det(images, sizes)
    fast = optimize_detector(det, images.shape, engine='own')
    assert fast.engine == 'own'
    assert fast.note is None
    assert difference(fast.fast(images), DetectorMaps(det)(images)) <= 2e-5
    for found, expected in zip(fast(images, sizes), det(images, sizes)):
        # Boxes whose scores differ only in their last bits may swap.
        found, expected = (np.sort(array.asnumpy().reshape(len(images), -1)) for array in (found, expected))
        assert np.abs(found - expected).max() <= 0.02
    other, sizes, _, _ = rectangles(np.random.RandomState(1), 1, 64)
    assert np.array_equal(fast(other, mx.nd.array(sizes))[0].asnumpy(), det(other, mx.nd.array(sizes))[0].asnumpy())
