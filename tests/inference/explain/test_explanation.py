"""Explanations as arrays and figures: they show what the network and its gates compute."""

import io

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from PIL import Image

from data.preprocessing import Preprocessing
from environment import UserError
from inference import optimize
from inference.explain import GateReader, GradCAM, draw_explanations, explain, overlay, picture, png, reliance
from inference.explain.charts import draw_gates, draw_positions, draw_reliance, groups_of
from inference.explain.explanation import scaled
from inference.explain.gates import Gate
from inference.explain.gradcam import enlarged
from inference.predict import softmax
from tests.data.conftest import write_images
from tests.figures import cut_off
from tests.inference.explain.conftest import images, make

PLAIN = Preprocessing(32, (0.5,) * 3, (0.25,) * 3)
NAMES = [f'class {i}' for i in range(10)]


@pytest.fixture(scope='module')
def net():
    return make('cifar_atac_dca_cbam_resnet14_v2')


def test_explanations(net, tmp_path):
    write_images(tmp_path / 'images', 2, size=48)
    files = sorted((tmp_path / 'images').iterdir())
    pixels = np.stack([PLAIN.fit(file) for file in files])
    probabilities = softmax(net(mx.nd.array(PLAIN.batch(pixels))).asnumpy())
    heat = GradCAM(net)(PLAIN.batch(pixels))
    for i, found in enumerate(explain(net, files, PLAIN, NAMES, top=3)):
        order = np.argsort(-probabilities[i])
        assert found.image == f'00{i}.png'
        np.testing.assert_array_equal(found.pixels, pixels[i])
        assert [name for name, _ in found.answers] == [NAMES[k] for k in order[:3]]
        assert found.explained == (NAMES[order[0]], pytest.approx(probabilities[i].max(), rel=1e-4))
        for stage, maps in heat.maps.items():
            np.testing.assert_array_equal(found.maps[stage], maps[i])
    chosen = explain(GradCAM(net, ['2']), list(pixels), PLAIN, classes=[7, 0], names=['a', 'b'])
    assert [(found.image, found.explained[0], list(found.maps)) for found in chosen] == [
        ('a', '7', ['stage 2']),
        ('b', '0', ['stage 2']),
    ]
    assert [found.image for found in explain(net, list(pixels), PLAIN)] == ['image 1', 'image 2']
    assert explain(net, [], PLAIN) == []


def test_overlay():
    pixels = np.full((8, 16, 3), 200, np.uint8)
    heat = np.zeros((4, 8), np.float32)
    cold = overlay(pixels, heat, 64)
    assert cold.shape == (64, 128, 3)
    assert cold.dtype == np.uint8
    assert (cold == 150).all()  # the image, darkened
    heat[1, 2] = 1e-6  # scaled by its own maximum
    hot = overlay(pixels, heat, 64)
    brightest = np.unravel_index(enlarged(heat, (64, 128)).argmax(), (64, 128))
    red, _, blue = hot[brightest].astype(int)
    assert red - blue > 60
    np.testing.assert_array_equal(hot[40:], cold[40:])
    np.testing.assert_array_equal(overlay(pixels, heat, 64), overlay(pixels, 5 * heat, 64))
    assert scaled(pixels, 20).shape == (20, 40, 3)


def pixels_of(figure):
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert('RGB'))


def test_pictures(net):
    pixels = [np.random.RandomState(i).randint(0, 256, (32, 32, 3)).astype(np.uint8) for i in range(2)]
    figure = picture(net, pixels, PLAIN, NAMES, top=4)
    assert len(figure.axes) == 2 * 5  # input, three stages, classes
    drawn = pixels_of(figure)
    assert drawn.shape[1] > 800
    found = explain(net, pixels, PLAIN, NAMES, top=4)
    for row, explanation in enumerate(found):
        axes = figure.axes[5 * row : 5 * row + 5]
        np.testing.assert_array_equal(axes[0].images[0].get_array(), explanation.pixels)
        for axis, heat in zip(axes[1:4], explanation.maps.values()):
            np.testing.assert_array_equal(axis.images[0].get_array(), overlay(explanation.pixels, heat))
        widths = [bar.get_width() for bar in axes[4].patches]
        assert widths == [probability for _, probability in explanation.answers]
        assert axes[4].texts[0].get_text().startswith(explanation.answers[0][0])
    # Networks with other stages, side by side.
    other = explain(make('cifar_resnet8_v2'), pixels[:1], PLAIN, stages=['3', 'features.1'])
    both = draw_explanations([found[0], other[0]], ['one', 'two'])
    assert [axes.get_ylabel() for axes in both.axes[::6]] == ['one', 'two']
    assert [len(axes.images) for axes in both.axes] == [1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0]


def test_charts_of_gates(net):
    data = images(4)
    groups = groups_of(GateReader(net)(data))
    assert [(group.unit, group.name, len(group.gates)) for group in groups] == [
        ('ATAC', 'gate', 13),
        ('CBAMChannel', 'gate', 6),
        ('CBAMSpatial', 'gate', 6),
    ]
    assert [gate.place for gate in groups[1].gates][-1] == '3.1.channel'
    for group in groups:
        image, line = draw_gates(group, 'title').axes[:2]
        for depth, (drawn, gate) in enumerate(zip(image.images, group.gates)):
            np.testing.assert_allclose(drawn.get_array()[0], gate.by_channel.mean(axis=0), rtol=1e-6)
            assert drawn.get_extent()[2:] == [depth + 0.5, depth - 0.5]
        means = [gate.values.mean() for gate in group.gates]
        np.testing.assert_allclose(line.lines[0].get_xdata(), means, rtol=1e-4)
        assert [text.get_text() for text in image.get_yticklabels()] == [gate.place for gate in group.gates]
    figure = draw_positions(groups[0], 'title', [np.zeros((32, 32, 3), np.uint8)] * 2)
    assert len(figure.axes) == 2 * 9  # 8 of 13 depths are shown
    for number, axes in ((0, figure.axes[1]), (1, figure.axes[10])):
        np.testing.assert_array_equal(axes.images[0].get_array(), groups[0].gates[0].by_position[number])
    assert len(pixels_of(figure)) > 100


@pytest.mark.parametrize('several', [False, True])
def test_no_word_of_a_chart_is_cut_off(net, several):
    name, data = 'cifar_dca_cbam_resnet164bn_v1_of_the_second_seed', images(3)
    groups = groups_of(GateReader(net)(data))
    rows = reliance(net, data)
    networks = [(name, rows), (f'{name} (runs/another/best.params)', rows)]
    figures = [draw_gates(groups[1], name), draw_positions(groups[2], name, [np.zeros((32, 32, 3), np.uint8)])]
    for figure in (*figures, draw_reliance(networks if several else networks[:1])):
        assert cut_off(figure) == []


@pytest.mark.parametrize('limit', [0.0017, 0.19, 0.5, 0.7, 7.6])
def test_the_figures_of_a_bar_of_colours_are_apart(limit):
    values = np.linspace(-limit, limit, 64)[None].repeat(2, axis=0)
    figure = draw_gates(groups_of([Gate('layer1.0', '1.0', 'AttentionModule', 'mask', False, values)])[0], 'title')
    figure.canvas.draw()
    bar = figure.axes[2]
    boxes = [text.get_window_extent() for text in bar.get_xticklabels() if text.get_text()]
    assert len(boxes) >= 3
    assert all(box.x1 < after.x0 for box, after in zip(boxes, boxes[1:]))


def test_charts_of_one_image_and_of_terms():
    net = make('cifar_gc_resnet20bn_v1')
    term = groups_of(GateReader(net)(images(1)))[1]
    assert (term.unit, term.name) == ('GC', 'term')
    figure = draw_gates(term, 'title')
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high < 0
    assert len(figure.axes[1].lines) == 1  # one image has no spread
    assert len(pixels_of(figure)) > 100


def test_the_chart_of_connections(net):
    rows = reliance(net, images())
    figure = draw_reliance([('one', rows), ('two', reliance(make('cifar_dca_se_resnet20bn_v1')))])
    axes = figure.axes[0]
    channel, signal, spatial = axes.lines[:3]
    assert channel.get_ydata().tolist() == [row.weight for row in rows if row.part == 'channel']
    assert signal.get_ydata().tolist() == [row.signal for row in rows if row.part == 'channel']
    assert spatial.get_ydata().tolist() == [row.weight for row in rows if row.part == 'spatial']
    ones = [f'one, {part}: {what}' for part in ('channel', 'spatial') for what in ('weights', 'signal')]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*ones, 'two: weights']
    assert [text.get_text() for text in axes.get_xticklabels()] == ['1.1', '2.0', '2.1', '3.0', '3.1']
    assert len(pixels_of(figure)) > 100


def test_what_cannot_be_looked_into():
    net = make('cifar_resnet8_v2')
    with pytest.raises(ValueError, match='cannot be inspected; give the network that it was made from'):
        GradCAM(optimize(net, (1, 3, 32, 32)), ['1'])
    data = mx.sym.var('data', dtype='float32')
    with pytest.raises(ValueError, match='SymbolBlock cannot be inspected; give the network that it was made from'):
        GateReader(gluon.SymbolBlock(net(data), data))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_answers_that_are_no_numbers_are_no_probabilities(bad):
    with pytest.raises(UserError, match='answers with NaN or infinity'):
        softmax(np.array([[1.0, 2.0], [0.0, bad]]))
