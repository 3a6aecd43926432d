"""The Residual Attention Network beyond the original's numbers: other sizes, options and limits."""

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from model import count, get_model, list_models
from model.backbone.attention_module import MASK_TYPES, AttentionModule, Mask, ModuleForm
from model.backbone.residual_attention import ResidualAttentionNetwork
from model.convert import to_state_dict
from model.layers.factories import batch_norm
from model.parameters.load import set_params


def relu(channels):
    return mx.gluon.nn.Activation('relu')


def images(*shape):
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape).astype('float32'))


def small(**options):
    """Return the 448-pixel network's layout at an eighth of its width."""
    channels = (8, 16, 32, 64, 128, 256)
    layout = {'stem': ((7, 2), (3, 2, 1)), 'strides': (1, 2, 2, 2, 2), 'levels': (4, 3, 2, 1), 'modules': (1, 1, 2, 3)}
    net = ResidualAttentionNetwork(channels, activation=relu, default_activation=relu, classes=5, **layout, **options)
    net.initialize()
    return net


@pytest.mark.parametrize('shape', [(2, 3, 65, 97), (1, 3, 1, 1), (1, 3, 5, 224)])
def test_any_size_works(shape):
    net = small()
    data = images(*shape)
    imperative = net(data).asnumpy()
    net.hybridize(static_alloc=True)
    np.testing.assert_allclose(net(data).asnumpy(), imperative, rtol=1e-4, atol=1e-6)
    assert imperative.shape == (shape[0], 5)
    assert np.isfinite(imperative).all()


@pytest.mark.parametrize('hybrid', [False, True])
def test_an_image_that_the_first_pool_swallows(hybrid):
    net = get_model('cifar_residual_attention92_pooled')
    net.initialize()
    net.hybridize(hybrid)
    assert net(images(1, 3, 2, 3)).shape == (1, 10)
    with pytest.raises(ValueError, match='1x9 pixels .* at least 2x2'):
        net(images(1, 3, 1, 9))


def test_the_depth_of_the_mask():
    for levels in range(5):
        module = AttentionModule(8, levels, relu)
        module.initialize()
        assert module(images(1, 8, 9, 17)).shape == (1, 8, 9, 17)
        between = max(0, levels - 1)
        assert [len(part) for part in (module.mask.down, module.mask.bottom, module.mask.skip, module.mask.up)] == [
            between,
            2,
            between,
            between,
        ]


@pytest.mark.parametrize('levels', [0, 1, 2])
def test_additions_are_what_upsampling_takes_the_size_of(levels):
    masks = [Mask(8, levels, relu, batch_norm, ModuleForm(additions=additions)) for additions in (False, True)]
    masks[0].initialize()
    arrays = {name: p.data().asnumpy() for name, p in masks[0]._collect_params_with_prefix().items()}
    set_params(masks[1], arrays, 'the same parameters')
    x, trunk = images(1, 8, 8, 8), 3 * images(1, 8, 8, 8)
    plain, added = (mask(x, trunk).asnumpy() for mask in masks)
    assert (plain > 0).all()
    assert (plain < 1).all()
    # Without the additions, the trunk does not reach the mask; without levels, there are none.
    assert (masks[0](x, 2 * trunk).asnumpy() == plain).all()
    assert (masks[1](x, 2 * trunk).asnumpy() == added).all() == (levels == 0)
    assert (plain == added).all() == (levels == 0)


def test_attention_residual_learning_keeps_what_a_mask_of_zero_would_lose():
    module = AttentionModule(8, 1, relu)
    module.initialize()
    module.mask.head[5].weight.set_data(mx.nd.zeros((8, 8, 1, 1)))  # the mask is then 1/2 everywhere
    x = images(2, 8, 6, 6)
    expected = module.last(1.5 * module.trunk(module.first(x)))
    np.testing.assert_allclose(module(x).asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-6)


def test_the_gradient_flows_through_mask_and_trunk():
    net = small()
    with autograd.record():
        loss = (net(images(2, 3, 96, 96)) ** 2).sum()
    loss.backward()
    gradients = {n: p.grad().norm().asscalar() for n, p in net.collect_params().items() if p.grad_req != 'null'}
    assert [name for name, norm in gradients.items() if not norm > 0] == []


@pytest.mark.parametrize('size', [4, 32, 33])
def test_the_gradient_is_the_same_every_time_at_any_size(size):
    """This includes maps of one pixel, where nothing has to be resized."""
    net = small()
    data = images(2, 3, size, size)
    net(data)
    passes = []
    for _ in range(3):
        with autograd.record(train_mode=True):
            loss = (net(data) ** 2).sum()
        loss.backward()
        passes.append({n: p.grad().asnumpy() for n, p in net.collect_params().items() if p.grad_req != 'null'})
    for gradients in passes:
        for name, gradient in gradients.items():
            assert np.isfinite(gradient).all(), name
            np.testing.assert_array_equal(gradient, passes[0][name], err_msg=name)


def test_pytorchs_initial_values():
    mx.random.seed(0)
    net = get_model('cifar_residual_attention92')
    net.initialize(mx.init.MSRAPrelu())
    weight = net.stages[0][1].first.conv2.weight.data().asnumpy()
    bound = 1 / math.sqrt(32 * 9)
    assert 0.99 * bound < np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    for array in (net.fc.weight.data(), net.fc.bias.data()):
        assert 0.5 / 32 < np.abs(array.asnumpy()).max() <= 1 / 32


def units(net):
    from model.activation.atac import ATAC

    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, ATAC) else None)
    return len(found)


def test_act_layers_chooses_stages_from_the_end():
    # A module has 6 blocks and its mask's, at least 2; a stage begins with one block, and the last stage has three.
    blocks = [1 + 6 + 3, 1 + 2 * 6, 1 + 3 * 6, 3]
    for act_layers in range(5):
        net = get_model('cifar_atac_residual_attention92', act_layers=act_layers)
        assert units(net) == 3 * sum(blocks[4 - act_layers :])
    assert units(get_model('cifar_atac_residual_attention92')) == 3 * sum(blocks)
    assert units(get_model('cifar_atac_residual_attention92', act_layers=1, act_order='pre')) == 3 * blocks[0]


def test_it_takes_no_attention_units():
    with pytest.raises(ValueError, match='attention'):
        get_model('se_residual_attention56')
    assert not [name for name in list_models('*residual_attention*') if name.startswith(('se_', 'dca_', 'dia_'))]


def convolutions_in_the_trunk(net):
    """Return the number of layers with weights from image to logits without masks, the depth that a name states."""
    units = 0
    for stage in net.stages:
        for block in stage:
            if isinstance(block, AttentionModule):
                ends = [1 if hasattr(end, 'conv1') else len(end) for end in (block.first, block.last)]
                units += len(block.trunk) + sum(ends)
            else:
                units += 1
    return 3 * units + 2


@pytest.mark.parametrize('depth', [56, 92, 128, 164, 236, 452])
@pytest.mark.parametrize('name', ['cifar_residual_attention{}_paper', 'residual_attention{}', 'attentionnext{}'])
def test_the_name_states_the_depth(name, depth):
    assert convolutions_in_the_trunk(get_model(name.format(depth))) == depth


@pytest.mark.parametrize('name', ['cifar_residual_attention57_paper', 'residual_attention57', 'attentionnext21'])
def test_depths_that_no_network_has(name):
    with pytest.raises(ValueError, match=r'no whole number of modules: the depth is 36n \+ 20, such as .*56'):
        get_model(name)


@pytest.mark.parametrize(
    ('depth', 'printed'), [(92, 1.9), (236, 5.1), pytest.param(452, 8.6, id='452: 8.77 is 2 % above the paper')]
)
def test_parameters_of_the_papers_cifar_networks(depth, printed):
    net = get_model(f'cifar_residual_attention{depth}_paper', classes=100)
    assert count(net, (1, 3, 32, 32)).params / 1e6 == pytest.approx(printed, rel=0.02)


@pytest.mark.parametrize(
    ('name', 'params', 'macs'),
    [('attentionnext56', 31_318_824, 6_419_106_816), ('attentionnext92', 52_102_952, 10_704_337_920)],
)
def test_attention_next_counts_as_the_authors_caffe_files(name, params, macs):
    assert count(get_model(name), (1, 3, 224, 224)) == (params, macs)


def test_kinds_of_masks_by_their_formulas():
    z = np.random.RandomState(0).standard_normal((2, 5, 4, 3)) * 3

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    centred = z - z.mean((2, 3), keepdims=True)
    expected = {
        'mixed': sigmoid(z),
        'channel': z / np.sqrt((z**2).sum(1, keepdims=True) + 1e-5),
        'spatial': sigmoid(centred / np.sqrt((centred**2).mean((2, 3), keepdims=True) + 1e-5)),
    }
    assert set(expected) == set(MASK_TYPES)
    for kind, mask in expected.items():
        for hybrid in (False, True):
            block = MASK_TYPES[kind]()
            block.hybridize(hybrid)
            found = block(mx.nd.array(z, dtype='float64')).asnumpy()
            np.testing.assert_allclose(found, mask, rtol=1e-12)


@pytest.mark.parametrize('kind', list(MASK_TYPES))
def test_masks_of_one_position_and_of_nothing_stay_finite(kind):
    for z in (mx.nd.ones((2, 4, 1, 1)), mx.nd.zeros((2, 4, 5, 5))):
        z.attach_grad()
        with autograd.record():
            mask = MASK_TYPES[kind]()(z)
        mask.backward()
        assert np.isfinite(mask.asnumpy()).all()
        assert np.isfinite(z.grad.asnumpy()).all()


@pytest.mark.parametrize('learning', ['residual', 'naive'])
def test_learning_by_its_equation(learning):
    module = AttentionModule(8, 1, relu, form=ModuleForm(learning=learning))
    module.initialize()
    x = images(2, 8, 6, 6)
    features = module.first(x)
    trunk = module.trunk(features)
    mask = module.mask(features, trunk)
    expected = module.last((mask if learning == 'naive' else 1 + mask) * trunk)
    np.testing.assert_allclose(module(x).asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-6)


def test_masks_of_convolutions_see_no_further_than_their_kernels():
    mask = AttentionModule(8, 3, relu, form=ModuleForm(structure='convolutions')).mask
    mask.initialize()
    assert [len(part) for part in (mask.down, mask.bottom, mask.skip, mask.up)] == [0, 3, 0, 0]
    x = images(1, 8, 15, 15)
    moved = x.copy()
    moved[:, :, 7, 7] += 5
    changed = np.abs((mask(x, x) - mask(moved, moved)).asnumpy()).max((0, 1)) > 0
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 10, 4, 10)  # three 3x3 convolutions


@pytest.mark.parametrize('source', ['residual-attention', 'gluoncv', 'pytorchcv'])
@pytest.mark.parametrize(
    'options', [{'mask_type': 'channel'}, {'residual_unit': 'resnext'}, {'module_units': (2, 2, 1)}, {}]
)
def test_originals_have_no_names_for_other_forms(source, options):
    net = get_model('cifar_residual_attention56_paper', **options)
    net.initialize()
    with pytest.raises(ValueError, match='has no such Residual Attention Network'):
        to_state_dict(net, source)


@pytest.mark.parametrize(
    ('option', 'value', 'words'),
    [
        ('mask_type', 'both', "'mixed', 'channel', 'spatial'"),
        ('mask_structure', 'u', "'encoder_decoder', 'convolutions'"),
        ('attention_learning', 'none', "'residual', 'naive'"),
        ('residual_unit', 'wide', "'preactivation', 'resnext', 'inception'"),
        ('module_units', (1, 2), 'three whole numbers from 1'),
        ('module_units', (0, 2, 1), 'three whole numbers from 1'),
    ],
)
def test_forms_that_there_are_not(option, value, words):
    with pytest.raises(ValueError, match=f'{option} is .*{words}'):
        get_model('residual_attention56', **{option: value})
