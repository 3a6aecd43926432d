"""Our network for another project's name; GluonCV's files, however they were saved."""

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model as gluoncv_model

from model import get_model
from model.convert import counterpart, load_state_dict, to_state_dict
from model.convert.files import read_state, write_state
from model.convert.tables import table

#: Networks that have no golden file, and ours.
FOUND = {
    'torchvision mnasnet0_75': ('mnasnet0_75', {'scaled_stem': True}),
    'torchvision wide_resnet101_2': ('wide_resnet101_2', {}),
    'timm resnet50.a1_in1k': ('resnet50_v1b', {}),
    'timm seresnet50': ('se_resnet50_v1b', {'reduction_divisor': 8}),
    'timm ecaresnet26t': ('eca_resnet26_v1b', {'tiered_stem': True, 'avg_down': True}),
    'timm resnet50c': ('resnet50_v1b', {'deep_stem': True}),
    'timm seresnext50_32x4d': ('se_resnext50_32x4d', {'reduction_divisor': 8}),
    'timm skresnet18': ('sk_resnet18_v1b', {'reduction': 8, 'reduction_divisor': 16, 'sk_split': True}),
    'timm semnasnet_075': ('semnasnet0_75', {}),
    'timm mobilenetv2_140': ('mobilenet_v2', {'width': 1.4}),
    'timm legacy_seresnext26_32x4d': ('se_resnext26_32x4d', {'stem_pool': 'ceil'}),
    'pytorchcv cbam_resnet50': ('cbam_resnet50_v1b', {}),
    'pytorchcv seresnet50': ('se_resnet50_v1', {}),
    'pytorchcv resnet1001_cifar100': ('cifar_resnet1001bn_v1', {'classes': 100}),
    'pytorchcv diapreresnet20_cifar10': (
        'cifar_dia_resnet20_v2',
        {'classes': 10, 'activated_shortcut': True, 'input_norm': False},
    ),
    'pytorchcv mobilenetv2_wd2': (
        'mobilenet_v2',
        {'classifier_bias': False, 'expand_first': True, 'width': 0.5, 'width_divisor': 1},
    ),
    'gluoncv resnet50_v1d': ('resnet50_v1b', {'deep_stem': True, 'avg_down': True}),
    'gluoncv se_resnext50_32x4d': ('se_resnext50_32x4d', {}),
    'gluoncv cifar_resnet56_v1': ('cifar_resnet56_v1', {}),
    'gluoncv mobilenetv2_0.5': ('mobilenet_v2', {'classifier_bias': False, 'width': 0.5, 'width_divisor': 1}),
}
REFUSED = {
    'torchvision vgg16': 'no network of this name',
    'torchvision resnext50_quantized': 'whole numbers',
    'timm legacy_seresnet18': 'one more ReLU',
    'timm mobilenetv2_110d': 'more blocks',
    'timm resnetblur50': 'downsampling',
    'timm resnet200d': 'depth',
    'timm ecaresnet50d_pruned': 'widths',
    'pytorchcv preresnet50': 'for CIFAR',
    'pytorchcv resnet200': 'depth',
    'pytorchcv wrn50_2': 'biases',
    'gluoncv resnet50_v2': 'for CIFAR',
    'gluoncv resnet50_v1b_gn': 'one scale a group',
    'gluoncv resnest50': 'split attention',
}


@pytest.mark.parametrize('name', FOUND)
def test_there_is_a_network_for_it_whose_parameters_have_its_names(name):
    source, theirs = name.split()
    ours, arguments = counterpart(source, theirs)
    assert (ours, arguments) == FOUND[name]
    if '1001' not in name and '101' not in name:
        assert table(source).names(get_model(ours, **arguments))


@pytest.mark.parametrize('name', REFUSED)
def test_the_reason_why_there_is_none(name):
    source, theirs = name.split()
    with pytest.raises(ValueError, match=f'{source} {theirs}: .*{REFUSED[name]}'):
        counterpart(source, theirs)


def test_sources_without_names_of_their_own():
    with pytest.raises(ValueError, match="dcanet has no names .* allowed are 'torchvision', 'timm'"):
        counterpart('dcanet', 'se_resnet50')
    with pytest.raises(ValueError, match="did you mean 'timm'"):
        counterpart('tim', 'resnet50')


def saved(net, way, folder):
    path = str(folder / way)
    if way == 'collected':
        net.collect_params().save(f'{path}.params')
        return f'{path}.params'
    if way == 'structure':
        net.save_parameters(f'{path}.params')
        return f'{path}.params'
    if way == 'exported':
        net.export(path)
        return f'{path}-0000.params'
    symbol = net(mx.sym.var('data'))
    arrays = {name: p.data() for name, p in net.collect_params().items()}
    arguments = {name: arrays[name] for name in symbol.list_arguments() if name != 'data'}
    mx.model.save_checkpoint(path, 0, symbol, arguments, {n: arrays[n] for n in symbol.list_auxiliary_states()})
    return f'{path}-0000.params'


@pytest.mark.parametrize('name', ['resnet18_v1', 'cifar_resnet20_v1', 'mobilenetv2_0.25'])
def test_gluoncvs_files_however_they_were_saved(name, tmp_path):
    theirs = gluoncv_model(name, classes=7)
    random, shape = np.random.RandomState(0), (1, 3, 32, 32)
    theirs.initialize()
    theirs.infer_shape(mx.nd.zeros(shape))
    for key, parameter in theirs.collect_params().items():
        parameter.initialize(force_reinit=True)
        spread = random.uniform(0.5, 1, parameter.shape)
        parameter.set_data(mx.nd.array(spread * (1 if key.endswith(('gamma', 'var')) else 0.1)))
    theirs.hybridize()
    data = mx.nd.random.normal(shape=shape)
    expected = theirs(data).asnumpy()
    ours, arguments = counterpart('gluoncv', name)
    for way in ('structure', 'collected', 'exported', 'module'):
        net = get_model(ours, classes=7, **arguments)
        assert load_state_dict(net, read_state(saved(theirs, way, tmp_path)), 'gluoncv') == []
        np.testing.assert_allclose(net(data).asnumpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    write_state(tmp_path / 'back.params', to_state_dict(net, 'gluoncv'))
    again = gluoncv_model(name, classes=7)
    again.load_parameters(str(tmp_path / 'back.params'))
    np.testing.assert_allclose(again(data).asnumpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
