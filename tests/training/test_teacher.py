"""Distillation: the original's formula, where teachers come from, and which are refused."""

from pathlib import Path
from types import SimpleNamespace

import gluoncv
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from data.preprocessing import Preprocessing
from environment import UsageError, UserError
from inference.network import load_network
from model import get_model, save_params
from model.parameters.file_format import read_params_file, write_params_file
from training import teacher as teachers
from training.config.distillation import DistillationSettings
from training.loss import Criterion
from training.teacher import Teacher

NAME = 'cifar_resnet8_v2'
SEEN = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def flags(**given):
    return DistillationSettings(**{'temperature': 4.0, 'hard_weight': 0.3, **given})


def load_teacher(settings, names):
    return teachers.load_teacher(settings, 'float32', [mx.cpu()], SEEN, names, load_network)


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    net = get_model(NAME, classes=5)
    net.initialize(mx.init.Normal(0.3))
    net(mx.nd.zeros((1, 3, 32, 32)))
    path = tmp_path_factory.mktemp('teacher') / 'teacher.params'
    save_params(net, path, {'model': NAME, 'model_kwargs': {'classes': 5}, 'classes': 5})
    images = mx.nd.random.normal(shape=(3, 3, 32, 32))
    return str(path), images, net(images).asnumpy()


def softmax(logits):
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def cross_entropy(logits, targets):
    return -(targets * np.log(softmax(logits))).sum(1)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_the_loss_is_the_originals(smoothing):
    random = np.random.RandomState(0)
    logits, opinion, labels = random.randn(6, 5), random.randn(6, 5), np.array([0, 4, 2, 2, 1, 3])
    teacher = Teacher(lambda images: mx.nd.array(opinion), 20.0, 0.3)
    loss = Criterion(5, smoothing, teacher)(mx.nd.array(logits), mx.nd.array(labels), 1.0, teacher(None)).asnumpy()
    hard = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    soft = cross_entropy(logits / 20, softmax(opinion / 20))
    np.testing.assert_allclose(loss, 0.7 * 400 * soft + 0.3 * cross_entropy(logits, hard), rtol=1e-4)


def test_a_teacher_from_a_file_gives_no_gradient_and_its_softened_opinion(file):
    path, images, logits = file
    for teacher in (
        load_teacher(flags(teacher=path), tuple('abcde')),
        load_teacher(flags(teacher=NAME, teacher_params=path), tuple('abcde')),
    ):
        before = [p.data().asnumpy() for p in teacher.program.collect_params().values()]
        images.attach_grad()
        with mx.autograd.record():
            opinion = teacher(images)
            (opinion.sum() + (images * 0).sum()).backward()
        np.testing.assert_allclose(opinion.asnumpy(), softmax(logits / 4), rtol=1e-4, atol=1e-6)
        assert not images.grad.asnumpy().any()
        after = [p.data().asnumpy() for p in teacher.program.collect_params().values()]
        assert all(np.array_equal(a, b) for a, b in zip(before, after))  # running statistics included


def test_a_runs_folder_stands_for_its_best_parameters(file):
    images, logits = file[1:]
    teacher = load_teacher(flags(teacher=str(Path(file[0]).parent)), tuple('abcde'))
    np.testing.assert_allclose(teacher(images).asnumpy(), softmax(logits / 4), rtol=1e-4, atol=1e-6)


def test_without_one_or_with_the_labels_alone_nobody_teaches():
    assert flags(teacher='x.params').teaches
    assert not flags().teaches
    assert not flags(teacher='x.params', hard_weight=1.0).teaches


def test_a_teacher_of_gluoncvs_zoo(tmp_path, monkeypatch):
    import gluoncv

    def zoo(name, pretrained=False, classes=1000, **kwargs):
        if name != 'small_net':
            raise ValueError(f'{name} is not supported')
        if pretrained:
            raise RuntimeError('Failed downloading')
        return gluon.nn.Dense(classes, in_units=3072)

    monkeypatch.setattr(gluoncv.model_zoo, 'get_model', zoo)
    net = gluon.nn.Dense(5, in_units=3072)
    net.initialize()
    net.save_parameters(str(tmp_path / 'zoo.params'))
    given = flags(teacher='small_net', teacher_params=str(tmp_path / 'zoo.params'))
    assert load_teacher(given, tuple('abcde'))(mx.nd.ones((2, 3, 32, 32))).shape == (2, 5)
    with pytest.raises(UserError, match=r'--teacher small_net: .* cannot be downloaded \(Failed downloading\)'):
        load_teacher(flags(teacher='small_net'), tuple('abcde'))
    with pytest.raises(UsageError, match="--teacher nobody is no .params file, and not in GluonCV's zoo"):
        load_teacher(flags(teacher='nobody'), tuple('abcde'))


@pytest.mark.parametrize('name', ['cifar_resnet8_v2', 'own:small', 'their_small'])
def test_a_teacher_by_name_comes_from_the_weights_that_are_registered(name, file, monkeypatch):
    """Teachers may be the project's own, from a source, or have GluonCV's name; its own downloader is not used."""
    row = SimpleNamespace(source='gluoncv', model='their_small')

    def find(build, network, options, wanted):
        if network != 'cifar_resnet8_v2':
            raise ValueError(f'there is no {network}')
        assert (options, wanted) == ({'classes': 5}, name if ':' in name else True)
        return SimpleNamespace(path=Path(file[0]))

    monkeypatch.setattr('model.parameters.by_name.find_pretrained', find)
    monkeypatch.setattr('model.parameters.weights.network_of', lambda wanted: 'cifar_resnet8_v2')
    monkeypatch.setattr('model.parameters.weights.public_weights', lambda: (row,))
    monkeypatch.setattr('model.parameters.fetched.converted', lambda weights, build: weights is row and Path(file[0]))
    teacher = load_teacher(flags(teacher=name), tuple('abcde'))
    assert teacher(mx.nd.ones((2, 3, 32, 32))).shape == (2, 5)


def test_a_teacher_of_other_classes_is_refused(file):
    with pytest.raises(UsageError, match='gives 5 classes for an image; the data have 7 classes'):
        load_teacher(flags(teacher=file[0]), tuple('abcdefg'))


def test_a_teacher_whose_network_nobody_names_is_not_taken_for_the_student(file, tmp_path):
    bare = tmp_path / 'bare.params'
    bare.write_bytes(Path(file[0]).read_bytes())
    with pytest.raises(UsageError, match=f'--teacher {bare} has no manifest.*; give --teacher NAME --teacher-params'):
        load_teacher(flags(teacher=str(bare)), tuple('abcde'))


@pytest.mark.parametrize(
    ('says', 'complaint'),
    [
        ({'class_names': list('abcde'), 'preprocessing': SEEN.to_dict()}, None),
        ({'class_names': list('01234')}, None),  # numbers in place of unknown names
        ({'class_names': list('abced')}, "knows other classes: 'e' is where the data have 'd'"),
        ({'preprocessing': {**SEEN.to_dict(), 'mean': [0, 0, 0]}}, 'takes images of mean .* and here they have'),
    ],
)
def test_a_teacher_of_other_data(file, tmp_path, says, complaint):
    net = get_model(NAME, classes=5)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    path = str(tmp_path / 'teacher.params')
    save_params(net, path, {'model': NAME, 'model_kwargs': {'classes': 5}, 'classes': 5, **says})
    if complaint is None:
        assert load_teacher(flags(teacher=path), tuple('abcde')) is not None
    else:
        for given in ({'teacher': path}, {'teacher': NAME, 'teacher_params': path}):
            with pytest.raises(UsageError, match=complaint):
                load_teacher(flags(**given), tuple('abcde'))


def test_a_teacher_of_no_finite_numbers(file, tmp_path):
    arrays = read_params_file(file[0])
    arrays['features.0.running_var'] = np.full_like(arrays['features.0.running_var'], np.nan)
    with open(tmp_path / 'teacher.params', 'wb') as out:
        write_params_file(out, arrays)
    with pytest.raises(UserError, match='features.0.running_var holds NaN or infinity'):
        load_teacher(flags(teacher=NAME, teacher_params=str(tmp_path / 'teacher.params')), 'abcde')


def test_a_teacher_of_gluoncvs_whose_shapes_are_open_until_it_is_loaded(tmp_path):
    net = gluoncv.model_zoo.get_model('cifar_wideresnet16_10', classes=5)
    net.initialize()
    images = mx.nd.random.normal(shape=(1, 3, 32, 32))
    logits = net(images).asnumpy()
    net.save_parameters(str(tmp_path / 'theirs.params'))
    given = flags(teacher='cifar_wideresnet16_10', teacher_params=str(tmp_path / 'theirs.params'))
    opinion = load_teacher(given, 'abcde')(images).asnumpy()
    np.testing.assert_allclose(opinion, softmax(logits / 4), rtol=1e-4)
