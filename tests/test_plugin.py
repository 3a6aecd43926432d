"""Parts of networks from files outside the project: trained, killed, resumed, validated, exported, explained."""

import json
import signal
import time

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import train_cifar
from environment import UserError
from model import (
    get_model,
    list_models,
    load_plugin,
    plugins,
    register_activation,
    register_attention,
    register_backbone,
    registry,
    save_params,
)
from model.attention.unit import AttentionUnit
from model.layers.factories import AttentionFactory
from model.plugins import check_recorded
from tests.scripts.conftest import in_process
from tests.training.killing import FLAGS, outcome, start

__all__ = ['in_process']

UNIT = """
from mxnet import gluon
from mxnet.gluon import nn

from model import register_activation, register_attention
from model.attention.unit import AttentionUnit


@register_attention('tilt', options=('sharpness',), connects=False)
class Tilt(AttentionUnit):
    def __init__(self, channels, sharpness=1.0):
        super().__init__()
        self.sharpness = sharpness
        self.gate = nn.Conv2D(channels, 1, groups=channels, in_channels=channels)

    def extract(self, F, x):
        return x, (x,)

    def transform(self, F, x):
        return F.sigmoid(self.sharpness * self.gate(x))

    def fuse(self, F, features, attention):
        return features * attention


@register_activation('leak', options=('leak_slope',))
class Leak(gluon.HybridBlock):
    def __init__(self, channels, leak_slope=0.1):
        super().__init__()
        self.slope = leak_slope

    def hybrid_forward(self, F, x):
        return F.LeakyReLU(x, slope=self.slope)
"""
NETWORK = '--model cifar_tilt_resnet8_v2 --act-type leak --option sharpness=2,act_leak_slope=0.2'


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Give each test a registry of its own; call the result to reset it within a test."""
    tables = (registry.ATTENTIONS, registry.ACTIVATIONS, registry.BACKBONES)
    before = [dict(table) for table in tables]

    def restore():
        monkeypatch.setattr(plugins, '_loaded', {})
        for table, rows in zip(tables, before):
            table.clear()
            table.update(rows)

    restore()
    yield restore
    restore()


@pytest.fixture
def unit(tmp_path):
    path = tmp_path / 'my_unit.py'
    path.write_text(UNIT)
    return path


class Plain(mx.gluon.HybridBlock):
    """A unit that is not registered."""

    def __init__(self, channels):
        super().__init__()
        self.scale = self.params.get('scale', shape=(1, channels, 1, 1), init='ones')

    def hybrid_forward(self, F, x, scale):
        return F.broadcast_mul(x, scale)


def killed(folder, flags):
    """Start a run, and kill it as soon as it has written a checkpoint."""
    process = start(folder, *flags)
    try:
        deadline = time.monotonic() + 300
        while not list(folder.glob('checkpoints/*.ckpt')) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    finally:
        process.kill()


def flags_of(folder):
    """Return the command line of `start`."""
    return [*FLAGS, '--save-dir', str(folder)]


def test_a_unit_from_outside_is_trained_killed_resumed_validated_exported_and_explained(
    tmp_path, unit, forget, in_process
):
    network = ['--num-epochs', '2', *NETWORK.split()]
    plugin = ['--plugin', str(unit)]
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    killed(broken, [*network, *plugin])

    resume = [*flags_of(broken), *network, '--resume']
    with pytest.raises(UserError, match=r'the run to resume has leak, tilt from the plugin .*my_unit.py.*--plugin'):
        train_cifar.main(resume)
    changed = tmp_path / 'changed.py'
    changed.write_text(UNIT.replace('sharpness=1.0', 'sharpness=3.0'))
    with pytest.raises(UserError, match=r'of sha256 .*changed.py has .*; give the file as it was'):
        train_cifar.main([*resume, '--plugin', str(changed)])
    forget()
    assert train_cifar.main([*resume, *plugin]) == 0
    forget()
    assert train_cifar.main([*flags_of(whole), *network, *plugin]) == 0
    assert outcome(broken) == outcome(whole)
    assert f'plugin {unit} (sha256' in (whole / 'train.log').read_text()
    assert 'plugin' not in (whole / 'settings.yaml').read_text()

    params = whole / 'best.params'
    manifest = json.loads(params.with_suffix('.json').read_text())
    (record,) = manifest['plugins']
    assert (record['path'], record['names']) == (str(unit), ['leak', 'tilt'])
    forget()
    given = ['--params', str(params)]
    dataset = ['--dataset', 'digits', '--limit', '32']
    status, _, told = in_process('validate.py', *given, *dataset)
    assert status == 1
    assert 'best.params has leak, tilt from the plugin' in told
    assert f'give --plugin {unit}' in told
    status, out, _ = in_process('validate.py', *given, *dataset, *plugin)
    assert (status, 'top-1' in out) == (0, True)
    assert in_process('export.py', *given, *plugin, '-o', tmp_path / 'exported', '--kinds', 'mxnet')[0] == 0
    assert json.loads((tmp_path / 'exported' / 'export.json').read_text())['plugins'] == [record]
    image, pictures = tmp_path / 'image.png', tmp_path / 'pictures'
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)).save(image)
    assert in_process('explain.py', *given, *plugin, '--gates', image, '-o', pictures)[0] == 0
    assert list(pictures.glob('gates-*.png'))
    assert in_process('convert_params.py', '--reverse', params, tmp_path / 'net.npz', *plugin)[0] == 0
    assert in_process('predict.py', *given, *plugin, image)[0] == 0
    forget()
    assert in_process('predict.py', '--exported', tmp_path / 'exported', image)[0] == 0  # this needs no plugin


def test_a_changed_plugin_is_told_where_parameters_are_used(tmp_path, unit, forget, caplog):
    load_plugin(unit)
    net = get_model('cifar_tilt_resnet8_v2')
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    save_params(net, tmp_path / 'net.params', {'model': 'cifar_tilt_resnet8_v2'})
    forget()
    unit.write_text(UNIT + '# changed\n')
    load_plugin(unit)
    from inference.network import load_network

    load_network(tmp_path / 'net.params')
    (line,) = caplog.messages
    assert 'has tilt from the plugin' in line
    assert 'the network may compute something else' in line


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, ['cannot be read', 'No such file']),
        ('def broken(:\n', ['line 1', 'SyntaxError']),
        ('import absent_module\n', ['line 1', "No module named 'absent_module'"]),
        ('x = 1\n', ['registers nothing']),
        ('\n\nraise SystemExit(3)\n', ['line 3', 'SystemExit']),
        (
            'from model import register_attention\nregister_attention("se", object, connects=False)\n',
            ["'se' is registered already, by model.attention.se"],
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_sentence_and_leaves_nothing(tmp_path, text, words):
    path = tmp_path / 'mine.py'
    if text is not None:
        path.write_text(text)
    before = list_models()
    with pytest.raises(UserError) as caught:
        load_plugin(path)
    for word in ('mine.py', *words):
        assert word in str(caught.value)
    assert '\n' not in str(caught.value)
    assert list_models() == before


def test_a_file_that_changes_takes_the_place_of_its_earlier_state(unit):
    first = load_plugin(unit)
    assert load_plugin(unit) is first
    for sharpness in (5.0, 1.0):
        unit.write_text(UNIT.replace('sharpness=1.0', f'sharpness={sharpness}'))
        load_plugin(unit)
        block = get_model('cifar_tilt_resnet8_v2').stages[0][0].attention
        assert block.sharpness == sharpness


def test_a_fault_in_the_units_own_code_names_the_file_and_line(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(UNIT.replace('        self.sharpness = sharpness\n', '        self.sharpness = absent\n'))
    load_plugin(path)
    with pytest.raises(UserError, match=r"mine.py, line 13: NameError: name 'absent' is not defined; fix the file"):
        get_model('cifar_tilt_resnet8_v2')
    path.write_text(UNIT.replace('channels, sharpness=1.0', 'sharpness=1.0').replace("'tilt'", "'second'"))
    load_plugin(path)
    with pytest.raises(UserError, match=r'mine.py.*unexpected|mine.py.*got multiple values'):
        get_model('cifar_second_resnet8_v2', sharpness=2)


def test_dca_with_a_unit_that_does_not_connect_is_refused_by_name(unit):
    load_plugin(unit)
    assert 'cifar_tilt_resnet8_v2' in list_models()
    assert not [name for name in list_models() if 'dca_tilt' in name]
    with pytest.raises(ValueError, match=r"'dca_' connects .*one of se, .*'tilt' has no connection"):
        get_model('cifar_dca_tilt_resnet8_v2')


def test_a_unit_that_says_it_connects_must():
    with pytest.raises(ValueError, match=r'Plain has no chain.*connects=False'):
        register_attention('plain', Plain)

    class Half(AttentionUnit):
        def remember(self, F, contexts, attention, out):
            return ()

    with pytest.raises(ValueError, match='Half has no connection_to, which'):
        register_attention('half', Half)


@pytest.mark.parametrize(
    ('register', 'words'),
    [
        (lambda: register_attention('se', Plain, connects=False), "'se' is registered already"),
        (lambda: register_attention('dia', Plain, connects=False), "'dia'"),
        (lambda: register_attention('residual', Plain, connects=False), r'residual_attention\w+ begins so'),
        (lambda: register_attention('My_Unit', Plain, connects=False), 'small letters and digits'),
        (lambda: register_activation('relu', Plain), "'relu' is registered already"),
        (lambda: register_activation('ChaATAC', Plain), 'small letters'),
        (lambda: register_activation('mine', Plain, alias='ChaATAC'), "alias 'ChaATAC' is registered already"),
        (lambda: register_backbone('resnet_v1b', Plain), "'resnet_v1b' is registered already"),
        (lambda: register_backbone('resnet50_v1b', Plain), "registered already, as 'resnet_v1b'"),
        (lambda: register_backbone('se_net', Plain), "'se' has a meaning"),
    ],
)
def test_names_that_collide_are_refused(register, words):
    before = list_models()
    with pytest.raises(ValueError, match=words):
        register()
    assert list_models() == before


def computes(net):
    net.initialize()
    return net(mx.nd.ones((2, 3, 32, 32))).shape


def test_a_class_a_function_or_a_factory_as_attention():
    from model.attention.se import SE

    net = get_model('cifar_resnet8_v2', attention=Plain)
    assert computes(net) == (2, 10)
    assert sum(name.endswith('attention.scale') for name in net._collect_params_with_prefix()) == 3
    assert computes(get_model('cifar_resnet8_v2', attention=lambda channels: Plain(channels))) == (2, 10)
    seen = []

    class Factory(AttentionFactory):
        def __call__(self, channels, stage, block, stride=1, convolution=None):
            seen.append((channels, stage, block, stride))
            return Plain(channels)

    assert computes(get_model('cifar_resnet8_v2', attention=Factory())) == (2, 10)
    assert seen == [(16, 1, 0, 1), (32, 2, 0, 2), (64, 3, 0, 2)]
    registered, named = (
        get_model('cifar_resnet8_v2', attention=SE, reduction=4),
        get_model('cifar_se_resnet8_v2', reduction=4),
    )
    shapes = [{name: p.shape for name, p in net._collect_params_with_prefix().items()} for net in (registered, named)]
    assert shapes[0] == shapes[1]


def test_a_class_or_a_function_as_activation():
    net = get_model('cifar_resnet8_v2', activation=Plain)
    assert computes(net) == (2, 10)
    assert any(name.endswith('msAA1.scale') for name in net._collect_params_with_prefix())


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('cifar_se_resnet8_v2', {'attention': Plain}, 'has the attention se by its name'),
        ('cifar_resnet8_v2', {'attention': 'se'}, "attention is 'se'; allowed"),
        ('cifar_resnet8_v2', {'activation': 'swish'}, "activation is 'swish'; allowed"),
        ('cifar_resnet8_v2', {'activation': Plain, 'act_type': 'elu'}, 'leave one out'),
        ('cifar_atac_resnet8_v2', {'activation': Plain}, 'leave one out'),
        ('cifar_residual_attention92', {'attention': Plain}, "no place 'branch'"),
        ('cifar_resnet8_v2', {'attention': Plain, 'pretrained': 'cifar10'}, 'leave pretrained out'),
    ],
)
def test_units_of_ones_own_that_contradict_the_name(name, options, words):
    with pytest.raises(ValueError, match=words):
        get_model(name, **options)


def test_a_record_of_a_name_that_is_the_projects_own_now_is_no_plugin(unit):
    record = {'path': 'old.py', 'sha256': '0' * 64, 'names': ['se']}
    with pytest.raises(UserError, match='old.py'):
        check_recorded([record], 'net.params')
