"""What training starts from: other runs' parameters, other classes, frozen stages, pretrained networks."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing
from environment import UsageError, UserError
from model import get_model, save_params
from model.parameters import by_name, pretrained
from model.parameters.file_format import write_params_file
from tests.training.flat import settings_of, trainer_of
from training.checkpoints.checkpoint import write_checkpoint
from training.checkpoints.start import (
    freeze_stages,
    load_start,
    optimizer_state,
    preparation,
    pretrained_file,
    without_attention,
)

CPU = [mx.cpu()]
IMAGES = Preprocessing(32, CIFAR_MEAN, CIFAR_STD)
NAMES = (
    'cifar_atac_resnet8_v2',
    'cifar_dca_se_preresnet11',
    'cifar_residual_attention92',
    'resnet18_v1b',
    'mobilenet_v2',
)


def built(name='cifar_atac_resnet8_v2', classes=4, seed=0, size=32):
    mx.random.seed(seed)
    net = get_model(name, classes=classes)
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.zeros((1, 3, size, size)))
    return net


def values(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def prepared(net, name='cifar_atac_resnet8_v2', load=True, **given):
    told = []
    prepare = preparation(settings_of(**given), name, {}, CPU, told.append if load else None, IMAGES)
    if prepare is not None:
        prepare(net)
    return prepare, told


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Return a network with seven classes, and its file."""
    net = built(classes=7, seed=5)
    path = tmp_path_factory.mktemp('start') / 'seven.params'
    save_params(net, path, {'model': 'cifar_atac_resnet8_v2'})
    return values(net), path


def test_other_classes_keep_the_classifier_that_is_there(source):
    theirs, path = source
    net = built(classes=4)
    own = values(net)
    _, told = prepared(net, init_params=str(path))
    assert told == [f'{path} has another number of classes: output.weight and output.bias are newly initialised']
    for name, array in values(net).items():
        expected = own if name in ('output.weight', 'output.bias') else theirs
        assert np.array_equal(array, expected[name]), name


def test_images_of_another_scale_are_told(tmp_path):
    path = str(tmp_path / 'other.params')
    for mean, words in (([0.5, 0.5, 0.5], ['is for images with mean (0.5, 0.5, 0.5)']), (list(IMAGES.mean), [])):
        known = {**IMAGES.to_dict(), 'mean': mean}
        save_params(built(), path, {'model': 'cifar_atac_resnet8_v2', 'preprocessing': known})
        told = prepared(built(), init_params=path)[1]
        assert len(told) == len(words)
        assert all(word in line for word, line in zip(words, told))


def test_the_same_classes_take_everything_and_other_networks_are_refused(source, tmp_path):
    theirs, path = source
    net = built(classes=7)
    assert prepared(net, init_params=str(path))[1] == []
    assert all(np.array_equal(values(net)[name], theirs[name]) for name in theirs)
    with pytest.raises(UserError, match='not the parameters of this network'):
        prepared(built('cifar_resnet8_v2'), init_params=str(path))
    with pytest.raises(UserError, match=r'output\.weight has the shape'):
        prepared(built(classes=4), resume_from=str(path))
    # A checkpoint works, too.
    write_checkpoint(tmp_path / 'a.ckpt', {'learner': {'parameters': theirs}})
    told = load_start(built(classes=4), str(tmp_path / 'a.ckpt'), CPU, other_parts=True)
    assert len(told) == 1
    assert 'a.ckpt has another number of classes: output.weight and output.bias' in told[0]
    with pytest.raises(UserError, match='cannot be read'):
        load_start(net, str(tmp_path / 'absent.ckpt'), CPU)


STARTS = [
    ('cifar_se_resnet8_v2', 'cifar_dca_se_resnet8_v2', 'connections', 'features.3.0.attention.connection.adapter'),
    ('cifar_sk_preresnet11', 'cifar_dca_sk_preresnet11', 'connections', 'layer2.0.select.connection.branches.0'),
    ('cifar_resnet8_v2', 'cifar_dia_resnet8_v2', 'attention units', 'features.2.0.attention.cell.input_reduce.weight'),
    ('cifar_resnet8_v2', 'cifar_dca_se_resnet8_v2', 'attention units', 'features.2.0.attention.reduce'),
    ('cifar_resnet8_v2', 'cifar_aff_resnet8_v2', 'attention units', 'features.2.0.attention.attention.local'),
]


@pytest.mark.parametrize(('of', 'into', 'what', 'first'), STARTS)
def test_connected_networks_start_from_those_without_connections_or_units(tmp_path, of, into, what, first):
    path = str(tmp_path / 'plain.params')
    plain, net = built(of, classes=7, seed=3), built(into)
    save_params(plain, path)
    own, theirs = values(net), values(plain)
    _, told = prepared(net, into, init_params=path)
    assert told[0] == f'{path} has another number of classes: ' + ' and '.join(net.classifier_parameters()) + (
        ' are newly initialised'
    )
    assert told[1].startswith(f'{path} is of the network without its {what} (')
    assert f'from {first}' in told[1]
    for name, array in values(net).items():
        taken = name in theirs and name not in net.classifier_parameters()
        assert np.array_equal(array, theirs[name] if taken else own[name]), name


@pytest.mark.parametrize(
    ('of', 'into'),
    [
        ('cifar_dca_se_resnet8_v2', 'cifar_se_resnet8_v2'),  # it would lose its connections
        ('cifar_se_resnet8_v2', 'cifar_dia_resnet8_v2'),  # its units
        ('cifar_preresnet11', 'cifar_sk_preresnet11'),  # its convolutions
        ('cifar_resnet8_v2', 'cifar_se_resnet14_v2'),  # more than attention is missing
    ],
)
def test_other_networks_are_no_start(tmp_path, of, into):
    path = str(tmp_path / 'other.params')
    save_params(built(of), path)
    net = built(into)
    own = values(net)
    with pytest.raises(UserError, match='not the parameters of this network'):
        prepared(net, into, init_params=path)
    assert all(np.array_equal(own[name], array) for name, array in values(net).items())


def test_a_run_that_is_gone_on_with_is_of_the_very_network(tmp_path):
    path = str(tmp_path / 'plain.params')
    save_params(built('cifar_se_resnet8_v2'), path)
    with pytest.raises(UserError, match='not the parameters of this network: 16 missing'):
        prepared(built('cifar_dca_se_resnet8_v2'), resume_from=path)


def test_nothing_to_do_and_too_much():
    assert prepared(built())[0] is None
    assert prepared(built(), load=False, init_params='absent.params')[0] is None
    with pytest.raises(UsageError, match='--init-params and --use-pretrained both say what to start from'):
        prepared(built(), init_params='x', use_pretrained=True)
    with pytest.raises(UsageError, match='--freeze-stages 2 keeps initial parameters, but there are none to load'):
        prepared(built(), freeze_stages=2)


@pytest.mark.parametrize('name', NAMES)
def test_frozen_stages_stay_as_they_are_and_the_rest_learns(name):
    size = 32 if name.startswith('cifar') else 64
    net = built(name, size=size)
    count = len(net.stages)
    assert count >= 3
    freeze_stages(net, 1)
    before = values(net)
    frozen = {n for n, p in net._collect_params_with_prefix().items() if p.grad_req == 'null'}
    data = mx.nd.random.normal(3, 2, shape=(4, 3, size, size))
    seen = {}
    handle = net.stages[0].register_forward_hook(lambda _, inputs, outputs: seen.update(out=outputs))
    net(data)
    inferred = seen['out']
    with autograd.train_mode():
        net(data)
    handle.detach()
    for one, other in zip(*([out] if hasattr(out, 'shape') else out for out in (inferred, seen['out']))):
        np.testing.assert_allclose(other.asnumpy(), one.asnumpy(), rtol=1e-3, atol=1e-3)
    trainer = trainer_of(net, 0.1, 0.9, 0.0)
    for _ in range(2):
        with autograd.record():
            loss = net(mx.nd.random.normal(shape=(4, 3, size, size))).square().sum()
        loss.backward()
        trainer.step(4)
    parts = [child.collect_params().keys() for child in net.stages]
    by_name = {p.name: n for n, p in net._collect_params_with_prefix().items()}
    after = values(net)
    changed = {n for n in before if before[n].tobytes() != after[n].tobytes()}
    first = {by_name[n] for n in parts[0] if n in by_name}
    second = {by_name[n] for n in parts[1] if n in by_name}
    assert first <= frozen
    assert not changed & first  # running statistics included
    assert {n for n in second if n.endswith('weight')} & changed
    assert {n for n in net.classifier_parameters() if n.endswith('weight')} <= changed


def test_all_stages_leave_the_classifier_and_more_are_refused():
    net = built()
    freeze_stages(net, 3)
    trained = {n for n, p in net._collect_params_with_prefix().items() if p.grad_req != 'null'}
    assert {'output.weight', 'output.bias'} <= trained
    assert not any(name.startswith(('features.2', 'features.3', 'features.4')) for name in trained)
    with pytest.raises(UsageError, match='--freeze-stages is 4; this network has 3 stages'):
        freeze_stages(built(), 4)


def test_pretrained_parameters_come_from_here_or_from_gluoncv(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, 'SHIPPED', tmp_path)
    for name, options in (('local', {}), ('global', {'act_global': True})):
        (tmp_path / 'digits' / name).mkdir(parents=True)
        manifest = {'model': 'cifar_atac_resnet8_v2', 'model_kwargs': {'classes': 10, **options}, 'classes': 10}
        manifest.update(seed=0, accuracy={}, sha256='x')
        (tmp_path / 'digits' / name / 'seed-0.json').write_text(json.dumps(manifest))
        (tmp_path / 'digits' / name / 'seed-0.params').write_bytes(b'x')
    known = {name: tmp_path / 'digits' / name / 'seed-0.params' for name in ('local', 'global')}
    assert pretrained_file('cifar_atac_resnet8_v2') == known['local']
    assert pretrained_file('cifar_atac_resnet8_v2', {'classes': 3, 'final_drop': 0.5}) == known['local']
    assert pretrained_file('cifar_atac_resnet8_v2', {'classes': 3, 'act_global': True}) == known['global']
    with pytest.raises(UsageError, match='no public weights for cifar_atac_resnet8_v2 .act_relu=False.*--init-params'):
        pretrained_file('cifar_atac_resnet8_v2', {'act_relu': False})
    with pytest.raises(UsageError, match="--use-pretrained timms: pretrained is 'timms'.*; FLAG takes any file"):
        pretrained_file('resnet50_v1b', wanted='timms', flag='FLAG')
    with pytest.raises(UsageError, match=r'for mnasnet0_5; there are those for mnasnet0_5 \(scaled_stem=True\)'):
        pretrained_file('mnasnet0_5')  # the network has another stem


@pytest.mark.parametrize(
    ('name', 'options', 'wanted', 'found'),
    [
        ('dca_se_resnet50_v1b', {'adapter': 'bottleneck', 'classes': 7}, 'best', 'timm:seresnet50.ra2_in1k'),
        ('dia_resnet50_v1b', {}, 'torchvision', 'torchvision:resnet50.IMAGENET1K_V2'),
        ('se_resnet50_v1b', {'reduction': 16}, 'gluoncv', 'gluoncv:resnet50_v1b.0ecdba34'),
        ('dca_se_resnet50_v1b', {}, 'torchvision', 'torchvision:resnet50.IMAGENET1K_V2'),
        ('resnet50_v1b', {'deep_stem': True}, 'timm', 'timm:resnet50c.gluon_in1k'),
    ],
)
def test_public_weights_of_the_network_or_of_that_without_attention(monkeypatch, name, options, wanted, found):
    monkeypatch.setattr(by_name, 'converted', lambda weights, build: weights.name)
    assert pretrained_file(name, options, wanted) == found


def test_parts_of_names():
    assert without_attention('cifar_atac_dca_se_resnet20_v2') == [
        'cifar_atac_dca_se_resnet20_v2',
        'cifar_atac_se_resnet20_v2',
        'cifar_atac_resnet20_v2',
    ]
    assert without_attention('dia_resnet50_v1b') == ['dia_resnet50_v1b', 'resnet50_v1b']
    assert without_attention('resnet50_v1b') == ['resnet50_v1b']


def test_what_ships_is_found():
    assert pretrained_file('cifar_atac_resnet20_v2').exists()


@pytest.mark.parametrize(
    ('tree', 'fault'),
    [
        ([], r'it is \[\]'),
        ({'record': {}}, 'it lacks learner'),
        ({'learner': 5}, 'learner is 5'),
        ({'learner': {}}, 'learner lacks (parameters|optimizer)'),
        ({'learner': {'parameters': [], 'optimizer': []}}, r'learner.(parameters|optimizer) is \[\]'),
        ({'learner': {'parameters': {'a': 5}, 'optimizer': {'name': 'NAG'}}}, 'learner.(parameters.a|optimizer lacks)'),
    ],
)
def test_an_intact_checkpoint_of_another_program_is_refused(tmp_path, tree, fault):
    path = str(tmp_path / 'other.ckpt')
    write_checkpoint(path, tree)
    for read in (lambda: load_start(built(), path, CPU), lambda: optimizer_state(path)):
        with pytest.raises(
            UserError, match=rf'other\.ckpt is not a valid checkpoint .*: {fault}.*; name another checkpoint'
        ):
            read()


def test_the_optimizers_state_is_never_a_pickle():
    with pytest.raises(UsageError, match='pickles, which can run any program and are therefore not opened'):
        optimizer_state('trainer.states')


@pytest.mark.parametrize('name', ['bad.params', 'bad.ckpt'])
def test_what_is_not_finite_is_refused_by_its_name(source, tmp_path, name):
    bad = {**source[0], 'output.bias': np.full(7, np.inf, 'f')}
    if name.endswith('.ckpt'):
        write_checkpoint(tmp_path / name, {'learner': {'parameters': bad}})
    else:
        with open(tmp_path / name, 'wb') as file:
            write_params_file(file, bad)
    for given in ('init_params', 'resume_from'):
        with pytest.raises(UserError, match=rf'{name}: output.bias holds NaN or infinity \(7 of its 7 values\)'):
            prepared(built(classes=7), **{given: str(tmp_path / name)})
