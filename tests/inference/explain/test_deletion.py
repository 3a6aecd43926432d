"""The deletion test, on a network that is known to look at one place."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from data.preprocessing import Preprocessing
from inference.explain.deletion import COVERS, centre_share, deletion, hottest
from inference.explain.gradcam import GradCAM

SIDE = 20
PLAIN = Preprocessing(SIDE, (0.5,) * 3, (0.5,) * 3)


def red_finder():
    """Return a network that gives class 1 for red: one convolution, ReLU, mean over space, dense."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(1, 1, in_channels=3, activation='relu'), nn.GlobalAvgPool2D(), nn.Dense(2, in_units=1))
    net.initialize()
    net[0].weight.set_data(mx.nd.array([1.0, -1, -1]).reshape((1, 3, 1, 1)))
    net[2].weight.set_data(mx.nd.array([[0.0], [20]]))
    net[2].bias.set_data(mx.nd.array([2.0, 0]))
    return net


def pictures(count=12):
    """Return grey images with a red square, a fifth of the pixels, at a different place in each."""
    pixels = np.full((count, SIDE, SIDE, 3), 128, np.uint8)
    random, places = np.random.RandomState(0), []
    for image in pixels:
        top, left = random.randint(SIDE - 9, size=2)
        image[top : top + 9, left : left + 9] = (255, 0, 0)
        places.append((top, left))
    return pixels, places


@pytest.mark.parametrize('fill', ['blur', 'mean'])
def test_covering_what_matters_costs_most(fill):
    pixels, _ = pictures()
    found = deletion(red_finder(), pixels, PLAIN, fill=fill)
    assert found.stage == 'last map'
    assert (found.score > 0.8).all()
    assert set(found.lost) == set(COVERS)
    for cover in ('coldest', 'scattered', 'shifted', 'other'):
        assert found.lost['hottest'].mean() > found.lost[cover].mean()
    assert found.beats('coldest') == 1
    assert found.beats('hottest') == 0
    if fill == 'mean':  # grey replaces grey, and hardly anything is left of the square
        assert np.abs(found.lost['coldest']).max() < 1e-2
        assert found.lost['hottest'].min() > 0.5


def test_the_heat_is_on_the_square():
    pixels, places = pictures()
    heat = GradCAM(red_finder())(PLAIN.batch(pixels)).maps['last map']
    for each, (top, left) in zip(heat, places):
        square = np.zeros_like(each, bool)
        square[top : top + 9, left : left + 9] = True
        assert each[square].min() > 0
        assert not each[~square].any()


def test_a_given_class_and_repeatable():
    pixels, _ = pictures(4)
    net = red_finder()
    one, two = (deletion(net, pixels, PLAIN, classes=[0] * 4, seed=3) for _ in range(2))
    assert (one.score < 0.5).all()
    for cover in COVERS:
        np.testing.assert_array_equal(one.lost[cover], two.lost[cover])


def test_hottest():
    random = np.random.RandomState(0)
    heat = random.permutation(100).reshape(10, 10)
    np.testing.assert_array_equal(hottest(heat, 0.2, random), heat >= 80)
    flat = np.stack([hottest(np.zeros((10, 10)), 0.2, random) for _ in range(300)])
    assert (flat.sum(axis=(1, 2)) == 20).all()
    # If all are equal, chance decides, not the position.
    assert 0.1 < flat.mean(axis=0).min() < flat.mean(axis=0).max() < 0.3


def test_centre_share():
    assert centre_share(np.ones((8, 8))) == 0.25
    assert centre_share(np.zeros((8, 8))) == 0.25
    heat = np.zeros((8, 8))
    heat[3, 4] = 1
    assert centre_share(heat) == 1
    heat[0, 0] = 3
    assert centre_share(heat) == 0.25


def test_wrong_arguments():
    pixels, _ = pictures(2)
    net = red_finder()
    with pytest.raises(ValueError, match='1 images'):
        deletion(net, pixels[:1], PLAIN)
    with pytest.raises(ValueError, match='share of 1.5'):
        deletion(net, pixels, PLAIN, share=1.5)
    with pytest.raises(ValueError, match="fill is 'noise'; allowed are blur, mean"):
        deletion(net, pixels, PLAIN, fill='noise')
    with pytest.raises(ValueError, match="stage is 'x'; allowed are last map"):
        deletion(net, pixels, PLAIN, stage='x')
