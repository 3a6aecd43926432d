"""What every detector does: predictions, modes, files, freezing, names."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from detection import get_detector
from detection.published import PUBLISHED, SIZE
from detection.trunk import Trunk
from environment import UserError
from model import get_model, load_params, save_params
from model.count import count_params
from tests.detection.cases import KINDS, outspoken, rectangles, small
from tests.model.cases import WITHOUT_GRADIENT

SIZES = nd.array([[60, 90], [64, 80]])


def answers(det, images, sizes=SIZES):
    return [array.asnumpy() for array in det(images, sizes)]


def same(first, second, pixels=1e-2):
    boxes, scores, labels = zip(first, second)
    assert (labels[0] == labels[1]).all()
    assert boxes[0] == pytest.approx(boxes[1], abs=pixels)
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.fixture(scope='module')
def images():
    return nd.array(np.random.RandomState(0).normal(size=(2, 3, 64, 96)).astype(np.float32))


@pytest.mark.parametrize('kind', KINDS)
def test_hybridized_inference_equals_imperative_for_any_batch_and_size(kind, images):
    det = outspoken(small(kind, 'dca_se_resnet50_v1b', head_norm='batch'))
    turned = nd.transpose(images, axes=(0, 1, 3, 2))
    plain = [answers(det, images), answers(det, images[:1], SIZES[:1]), answers(det, turned, SIZES[:, ::-1])]
    det.hybridize()
    assert all((labels[:, 10] >= 0).all() for _, _, labels in plain)  # something to compare
    for expected, given in zip(plain, [(images, SIZES), (images[:1], SIZES[:1]), (turned, SIZES[:, ::-1])]):
        same(answers(det, *given), expected)
    # An image's boxes do not depend on the rest of the batch.
    same([array[:1] for array in plain[0]], plain[1])


@pytest.mark.parametrize(('kind', 'threshold'), [('retinanet', 0.995), ('cascade_rcnn', 0.5)])
def test_answers_are_sorted_inside_the_image_and_filled_up(kind, threshold, images):
    det = outspoken(small(kind, score_threshold=threshold))
    boxes, scores, labels = answers(det, images)
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 100, 4), (2, 100), (2, 100))
    assert (np.diff(scores, axis=1) <= 0).all()
    there = labels >= 0
    assert there.any()
    assert not there.all()
    assert (boxes[~there] == -1).all()
    assert (scores[~there] == -1).all()
    assert (scores[there] > threshold).all()
    assert set(np.unique(labels)) <= {-1, 0, 1}
    for i, (height, width) in enumerate(SIZES.asnumpy()):
        found = boxes[i][there[i]]
        assert (found >= 0).all()
        assert (found[:, 2] <= width - 1).all()
        assert (found[:, 3] <= height - 1).all()
        assert (found[:, 2:] >= found[:, :2] - 1).all()


@pytest.mark.parametrize('kind', KINDS)
def test_saved_and_loaded_parameters_give_the_same_boxes(kind, images, tmp_path):
    det = outspoken(small(kind, 'dia_resnet18_v1b'))
    expected = answers(det, images)
    save_params(det, tmp_path / 'ours.params')
    det.save_parameters(str(tmp_path / 'gluon.params'))
    for file in ('ours.params', 'gluon.params'):
        other = small(kind, 'dia_resnet18_v1b', seed=1)
        assert not np.allclose(answers(other, images)[1], expected[1])
        load_params(other, tmp_path / file)
        same(answers(other, images), expected, pixels=0)
    with pytest.raises(UserError, match='head'):
        load_params(small(kind, 'dia_resnet18_v1b', classes=3), tmp_path / 'ours.params')


@pytest.mark.parametrize(
    'name', ['dca_se_resnet50_v1b', 'dia_resnet18_v1b', 'atac_dca_gc_resnet50_v1b', 'dca_cbam_resnet50_v1b']
)
def test_the_trunk_is_the_classifier_carry_and_all(name, images):
    net = get_model(name, classes=7)
    net.initialize(mx.init.MSRAPrelu())
    maps = Trunk(net)(images)
    sides = [(64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    assert [x.shape[2:] for x in maps] == sides
    assert tuple(x.shape[1] for x in maps) == Trunk(net).channels
    assert net.fc(nd.mean(maps[-1], axis=(2, 3))).asnumpy() == pytest.approx(net(images).asnumpy(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_every_parameter_learns(kind):
    det = small(kind, 'dca_se_resnet50_v1b')
    random = np.random.RandomState(0)
    batch = rectangles(random, 1, 512)  # large enough for the anchors of the coarse levels
    with autograd.record():
        total = sum(det.losses(*batch, random).values())
    total.backward()
    names = {
        name
        for name, parameter in det._collect_params_with_prefix().items()
        if parameter.grad_req != 'null' and not parameter.grad().abs().sum().asscalar()
    }
    assert not {name for name in names if not name.endswith(WITHOUT_GRADIENT)}


def frozen_step(det):
    """Return the names of parameters, running statistics included, that a training step changed."""
    random = np.random.RandomState(0)
    batch = rectangles(random)
    parameters = det._collect_params_with_prefix()
    before = {name: parameter.data().asnumpy() for name, parameter in parameters.items()}
    trainer = gluon.Trainer(det.collect_params(), 'sgd', {'learning_rate': 0.01, 'wd': 1e-4})
    with autograd.record():
        total = sum(det.losses(*batch, random).values())
    total.backward()
    trainer.step(1)
    learned = [name for name in before if not name.endswith(WITHOUT_GRADIENT)]
    return {name for name in learned if (parameters[name].data().asnumpy() != before[name]).any()}


def is_statistic(name):
    return name.endswith(('running_mean', 'running_var'))


@pytest.mark.parametrize('hybrid', [False, True])
def test_freezing(hybrid):
    det = small('retinanet', 'dca_se_resnet50_v1b')
    det.hybridize(active=hybrid)
    everything = frozen_step(det)
    assert {'backbone.conv1.weight', 'backbone.bn1.running_mean', 'backbone.layer1.0.conv1.weight'} <= everything
    det.freeze()
    changed = frozen_step(det)
    assert not [name for name in changed if name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1'))]
    assert not [name for name in changed if is_statistic(name)]
    assert {'backbone.layer2.0.bn1.gamma', 'backbone.layer4.2.attention.dense1.weight'} & changed
    assert {'backbone.layer2.0.conv1.weight', 'head.class_output.bias', 'neck.lateral.0.weight'} <= changed
    det.freeze(stages=2, norms=False)
    changed = frozen_step(det)
    assert not [name for name in changed if name.startswith(('backbone.bn1', 'backbone.layer1', 'backbone.layer2'))]
    assert 'backbone.layer3.0.bn1.running_mean' in changed
    det.freeze(stages=0, norms=False)
    assert frozen_step(det) == everything
    with pytest.raises(ValueError, match='stages is 5: allowed are 0 to 4'):
        det.freeze(stages=5)


@pytest.mark.parametrize('kind', KINDS)
def test_a_backbone_starts_from_a_classifier(kind, tmp_path):
    net = get_model('se_resnet50_v1b', classes=5)
    net.initialize(mx.init.MSRAPrelu())
    save_params(net, tmp_path / 'net.params')
    det = get_detector(f'{kind}_se_resnet50_v1b')
    det.load_backbone(tmp_path / 'net.params')
    expected = net._collect_params_with_prefix()
    loaded = det.backbone._collect_params_with_prefix()
    assert set(expected) - set(loaded) == {'fc.weight', 'fc.bias'}
    assert all((loaded[name].data().asnumpy() == expected[name].data().asnumpy()).all() for name in loaded)
    with pytest.raises(UserError, match='net.params: not the parameters of this network'):
        get_detector(f'{kind}_resnet50_v1b').load_backbone(tmp_path / 'net.params')
    with pytest.raises(UserError, match=r'none\.params'):
        det.load_backbone(tmp_path / 'none.params')


@pytest.mark.parametrize('kind', KINDS)
def test_batches_without_any_box_still_teach(kind):
    det = small(kind)
    random = np.random.RandomState(0)
    images, sizes, boxes, labels = rectangles(random, 2)
    with autograd.record():
        losses = det.losses(images, sizes, np.full_like(boxes, -1), np.full_like(labels, -1), random)
        total = sum(losses.values())
    total.backward()
    values = {name: loss.asscalar() for name, loss in losses.items()}
    assert all(value > 0 for name, value in values.items() if name.endswith('class'))
    assert all(value == 0 for name, value in values.items() if name.endswith('box'))
    assert det.neck.lateral[0].weight.grad().abs().sum().asscalar() > 0


@pytest.mark.parametrize('kind', KINDS)
def test_filling_changes_nothing(kind):
    det = small(kind)
    images, sizes, boxes, labels = rectangles(np.random.RandomState(0), 2)
    more = (
        np.pad(boxes, ((0, 0), (0, 3), (0, 0)), constant_values=-1),
        np.pad(labels, ((0, 0), (0, 3)), constant_values=-1),
    )
    values = []
    for given in ((boxes, labels), more, (nd.array(boxes), nd.array(labels))):
        losses = det.losses(images, nd.array(sizes), *given, np.random.RandomState(1))
        values.append([loss.asscalar() for loss in losses.values()])
    assert values[0] == values[1] == values[2]


def test_sizes_that_do_not_fit_are_refused():
    det = small('retinanet')
    _, sizes, boxes, labels = rectangles(np.random.RandomState(0), 1)
    with pytest.raises(ValueError, match='images of 64x80 pixels do not fit: .* multiples of 32'):
        det.losses(nd.zeros((1, 3, 64, 80)), sizes, boxes, labels, np.random.RandomState(0))


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('retinanet_resnet50', {}, ["'resnet50' is not a backbone"]),
        ('retinanet_mobilenet_v2', {}, ['mobilenet_v2 is not a backbone for a detector', r'resnet\*_v1b']),
        ('retinanet_cifar_resnet20_v2', {}, ['not a backbone for a detector']),
        ('retina_resnet50_v1b', {}, ['begins with retinanet_ or cascade_rcnn_', 'such as retinanet_resnet50_v1b']),
        ('resnet50_v1b', {}, ['is not a detector']),
        ('retinanet_resnet50_v1b', {'chanels': 3}, ["takes no argument 'chanels'; did you mean channels"]),
        ('retinanet_resnet50_v1b', {'width': 3}, ["retinanet_resnet50_v1b: resnet50_v1b takes no argument 'width'"]),
        ('retinanet_resnet50_v1b', {'dilated': True}, ['dilated is True', 'leave it out']),
        ('retinanet_resnet50_v1b', {'head_norm': 'layer'}, ["head_norm is 'layer'", "'batch', 'group'"]),
        ('cascade_rcnn_resnet50_v1b', {'classes': 0}, ['classes is 0; allowed: whole numbers from 1']),
        ('retinanet_resnet50_v1b', {'channels': -3}, ['channels is -3; allowed: whole numbers from 1']),
        ('retinanet_resnet50_v1b', {'anchor_scale': '4'}, ["anchor_scale is '4'; allowed: numbers above 0"]),
        ('cascade_rcnn_resnet50_v1b', {'nms_overlap': 1.5}, ['nms_overlap is 1.5', 'from 0 to 1']),
    ],
)
def test_mistakes_are_named(name, options, words):
    for word in words:
        with pytest.raises(ValueError, match=word):
            get_detector(name, **options)


def test_options_reach_the_backbone():
    det = get_detector('retinanet_se_resnet50_v1b', reduction=8, channels=16)
    assert det.backbone.layer1[0].attention.channels == 256
    assert count_params(det.backbone) > count_params(get_detector('retinanet_se_resnet50_v1b').backbone)
    assert det.neck.lateral[0].weight.shape[0] == 16


def test_costs_are_those_of_the_published_configurations():
    # mmdetection prints 37.74 M and 239.32 G for RetinaNet with frozen stem and first stage at 1280 x 800, and 69.17 M
    # for Cascade R-CNN; its multiply-adds include biases and norms.
    det = get_detector('retinanet_resnet50_v1b')
    det.freeze()
    assert count_params(det) == 37_743_348
    assert det.macs(800, 1280) == pytest.approx(239.32e9, rel=0.005)
    cascade = get_detector('cascade_rcnn_resnet50_v1b')
    cascade.freeze()
    assert count_params(cascade) == pytest.approx(69.17e6, abs=5e3)
    fewer = get_detector('cascade_rcnn_resnet50_v1b', proposals=1000)
    each = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 4)
    assert cascade.macs(*SIZE) - fewer.macs(*SIZE) == 1000 * 3 * each
    assert fewer.macs(800, 1280) == pytest.approx(234.47e9, rel=0.005)
    assert all(get_detector(name).kind in name for name in PUBLISHED)
