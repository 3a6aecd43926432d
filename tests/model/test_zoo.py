"""Names: what parses, what does not and with which error, and that every option has an effect."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import count, get_model, list_models, options
from model.attention import ATTENTIONS, attention_options
from model.backbone.table import BACKBONES
from model.options import RULES
from model.zoo import COMMON_OPTIONS


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('resnet51_v1b', ['resnet51_v1b', 'resnet50_v1b']),
        ('cifar_resnet21_v2', ['resnet21_v2', '6n + 2', 'resnet20_v2']),
        ('cifar_resnet2_v2', ['resnet2_v2', 'resnet8_v2']),
        ('resnet20_v2', ["'cifar_'", 'cifar_resnet20_v2']),
        ('cifar_resnet50_v1b', ["'cifar_'", 'names are resnet50_v1b']),
        ('se_dca_resnet50_v1b', ['names are dca_se_resnet50_v1b']),
        ('se_cifar_resnet20_v2', ['names are cifar_se_resnet20_v2']),
        ('foo', ['list_models()', 'resnet18_v1b', 'cifar_wrn16_2', 'mobilenet_v2']),
        ('no_such_resnet50_v1b', ['no_such_resnet50_v1b', 'resnet50_v1b']),
        ('', ['not a backbone']),
        ('dca_resnet50_v1b', ["'dca_'", 'needs one of', 'se, sk, ge', 'the nearest names']),
        ('dia_se_resnet50_v1b', ["'dia_'", "'se'"]),
        ('cifar_sk_wrn16_2', ["'sk'", 'wrn16_2', 'takes: se']),
        ('se_residual_attention56', ["'se'", 'none']),
        ('se_atac_resnet50_v1b', ['atac_resnet50_v1b', 'not a backbone']),
        ('cifar_mobilenet_v2', ["takes no prefix 'cifar_'"]),
    ],
)
def test_names_that_do_not_parse(name, words):
    with pytest.raises(ValueError) as caught:
        get_model(name)
    for word in words:
        assert word in str(caught.value)


@given(st.text(alphabet='atcifrsne_v12b5068', max_size=24))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_network_or_a_value_error(text):
    with contextlib.suppress(ValueError):  # anything else fails the test
        assert callable(get_model(text))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'act_lyers': 2}, ['act_lyers', 'act_layers']),
        ({'act_type': 'rellu'}, ['rellu', 'relu']),
        ({'act_layers': 5}, ['act_layers', '0 to 4']),
        ({'act_order': 'front'}, ['front', 'bac', 'pre']),
        ({'act_type': 'atac', 'act_reduction': -1}, ['act_reduction', '-1']),
        ({'act_type': 'atac', 'act_reduction': 0}, ['act_reduction', '0']),
        ({'act_type': 'atac', 'act_reduction': 64}, ['act_reduction', '64', '16']),
        ({'act_type': 'xunit', 'act_kernel': 4}, ['kernel', '4', 'odd']),
        ({'act_type': 'atac', 'act_kernel': 2}, ['kernel', '2', 'odd']),
        ({'act_type': 'atac', 'act_kernel': 3, 'act_global': True}, ['kernel 3', 'single position', 'kernel 1']),
        ({'act_type': 'atac', 'act_placement': 'beside'}, ["act_placement is 'beside'", 'instead', 'after', 'before']),
        ({'act_type': 'atac_spatial', 'act_kernel': 2}, ['kernel', '2', 'odd']),
        ({'dilated': True}, ['dilated']),
        ({'act_layers': 2.5}, ['act_layers is 2.5', 'whole numbers from 0']),
        ({'act_layers': True}, ['act_layers is True']),
        ({'act_type': 3}, ["unknown activation '3'"]),
        ({'act_type': 'atac_spatial', 'act_dilation': 0}, ['act_dilation is 0', 'whole numbers from 1']),
        ({'norm': 3}, ['norm is 3', 'batch, group']),
        ({'norm': ['batch']}, ['norm is', 'batch, group']),
        ({'channels': 16}, ['channels is 16', 'four whole numbers']),
        ({'channels': [16, 16, 32]}, ['channels is [16, 16, 32]', 'four']),
        ({'channels': (16, 16, 32, 64, 64)}, ['four']),
        ({'channels': (16, 16, 32, -64)}, ['four']),
        ({'final_drop': 2}, ['final_drop is 2', 'from 0 to below 1']),
        ({'final_drop': 'half'}, ['final_drop']),
        ({'classes': 0}, ['classes is 0', 'whole numbers from 1']),
        ({'classes': 'a'}, ["classes is 'a'"]),
        ({'act_global': 'yes'}, ["act_global is 'yes'", 'true, false']),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError) as caught:
        get_model('cifar_resnet8_v2', **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('cifar_se_resnet8_v2', {'reduction': 'x'}, ["reduction is 'x'", 'or two']),
        ('cifar_se_resnet8_v2', {'reduction': [4, 8, 16]}, ['reduction is [4, 8, 16]']),
        ('cifar_dia_resnet8_v2', {'reduction': [4, 8]}, ['reduction is [4, 8]', 'LSTM', 'one number']),
        ('dca_ge_resnet50_v1b', {'adapter': 'bottleneck', 'reduction': 0}, ['reduction is 0']),
        ('dca_se_resnet50_v1b', {'adapter': 'none'}, ["adapter is 'none'", "'linear', 'bottleneck'"]),
        ('resnet50_v1b', {'deep_stem': True, 'stem_width': 0}, ['stem_width is 0']),
        ('resnet50_v1b', {'deep_stem': True, 'stem_width': 'x'}, ["stem_width is 'x'"]),
        ('cbam_resnet50_v1b', {'norm_momentum': 1}, ['norm_momentum is 1']),
        ('sk_resnet50_v1b', {'sk_branches': 'both'}, ["sk_branches is 'both'", "'dilated', 'grouped'"]),
        ('cifar_preresnet29', {'branch_norm': 'batch'}, ["branch_norm is 'batch'", 'true, false and none']),
    ],
)
def test_options_of_units_and_other_backbones_that_make_no_sense(name, options, words):
    with pytest.raises(ValueError) as caught:
        get_model(name, **options)
    for word in words:
        assert word in str(caught.value)


def test_every_option_has_a_rule():
    known = {*COMMON_OPTIONS, *(option for row in BACKBONES.values() for option in row.options)}
    for unit in (None, *ATTENTIONS):
        for connection in (None, 'dca', 'dia', 'shared'):
            known |= set(attention_options(unit, connection))
    assert known - set(RULES) == {'act_type', 'norm'}
    assert set(RULES) <= known


def test_the_name_and_act_type_must_agree():
    with pytest.raises(ValueError, match='contradict'):
        get_model('cifar_atac_resnet8_v2', act_type='relu')
    get_model('cifar_atac_resnet8_v2', act_type='SpaATAC')


def described(net):
    """Return all that options can change in a network: layers with settings, and parameters with shapes."""
    parameters = net._collect_params_with_prefix()
    return (
        repr(net),
        {name: (p.shape, p.grad_req, str(p.init)) for name, p in parameters.items()},
        [str(getattr(block, '_kwargs', '')) + str(getattr(block, 'mxnet_gradient', '')) for block in _blocks(net)],
    )


def _blocks(net):
    yield net
    for child in net._children.values():
        yield from _blocks(child)


OTHER = {
    'classes': 7,
    'act_type': 'swish',
    'act_reduction': 4,
    'act_relu': False,
    'act_global': True,
    'act_layers': 1,
    'act_order': 'pre',
    'act_kernel': 5,
    'act_placement': 'after',
    'act_dilation': 2,
    'act_mxnet_gradient': True,
    'use_global_stats': True,
    'final_drop': 0.5,
    'deep_stem': True,
    'avg_down': True,
    'dilated': True,
    'last_gamma': True,
    'update_input_norm': False,
    'channels': (8, 8, 16, 32),
}
NEEDS = {
    'act_type': {},
    'act_kernel': {'act_type': 'xunit'},
    'act_dilation': {'act_type': 'atac_spatial'},
    'act_mxnet_gradient': {'act_type': 'selu'},
    'act_order': {'act_type': 'atac', 'act_layers': 1},
}


TAKEN = [
    (name, option)
    for name, row in (('resnet18_v1b', 'resnet_v1b'), ('cifar_resnet8_v2', 'cifar_resnet_v2'))
    for option in OTHER
    if option in (*COMMON_OPTIONS, *BACKBONES[row].options)
]


@pytest.mark.parametrize(('name', 'option'), TAKEN)
def test_every_option_has_an_effect(name, option):
    base = NEEDS.get(option, {'act_type': 'atac'})
    assert described(get_model(name, **base)) != described(get_model(name, **{**base, option: OTHER[option]}))


def test_other_stem_width():
    narrow, wide = (get_model('resnet18_v1b', deep_stem=True, stem_width=width) for width in (16, 32))
    assert narrow.conv1[6].weight.shape[0] == 32
    assert wide.conv1[6].weight.shape[0] == 64


def test_batch_statistics_in_the_units_by_option():
    norms = [
        get_model('atac_resnet18_v1b', use_global_stats=True, act_batch_stats=flag).layer4[0].relu1.module[1]._kwargs
        for flag in (False, True)
    ]
    assert [kwargs['use_global_stats'] for kwargs in norms] == [True, False]


def test_another_norm_reaches_the_network():
    from mxnet.gluon import nn

    net = get_model('resnet18_v1b', norm=lambda channels, **kwargs: nn.GroupNorm(num_groups=8, **kwargs))
    assert isinstance(net.bn1, nn.GroupNorm)
    assert isinstance(net.layer4[0].bn1, nn.GroupNorm)


def test_aliases_are_the_originals_names():
    ours = get_model('cifar_resnet8_v2', act_type='atac')
    theirs = get_model('cifar_resnet8_v2', act_type='ChaATAC')
    assert count(ours, (1, 3, 32, 32)) == count(theirs, (1, 3, 32, 32))


def test_list_models_filters_and_knows_what_was_published():
    assert 'atac_resnet50_v1b' in list_models()
    assert set(list_models('cifar_*')) < set(list_models())
    assert list_models('nothing*') == []
    (listed,) = list_models('atac_resnet50_v1b')
    assert listed.params == 27_934_760
    assert listed.accuracy['imagenet'] == pytest.approx(100 - 21.41)
    (listed,) = list_models('atac_resnet34_v1b')
    assert listed.published is None
    assert listed.options == {}
    assert listed.params is None
    (listed,) = list_models('dca_se_resnet50_v1b')
    assert count(get_model(listed, **listed.options), (1, 3, 224, 224)) == (listed.params, listed.macs)


def test_each_option_is_described():
    """`help('model.options')` is where users look them up."""
    assert set(RULES) <= set(re.findall(r'\w+', options.__doc__))
