"""scripts/convert_params.py: the originals' files into ours and back, and one sentence for every mistake."""

import json

import mxnet as mx
import numpy as np
import pytest

from model import get_model, read_manifest
from model.convert import counterpart, to_state_dict
from model.convert.files import read_state, write_state
from model.parameters.file_format import read_params_file
from tests.model.golden import fill
from tests.scripts.conftest import run

NAME = 'cifar_dia_resnet11bn_v1'


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    """Return a file as DIANet's users have it, and the network that wrote it."""
    mx.random.seed(0)
    net = get_model(NAME, classes=7)
    net.initialize()
    path = tmp_path_factory.mktemp('original') / 'dia.npz'
    write_state(path, {f'module.{name}': array for name, array in to_state_dict(net, 'dianet').items()})
    return path, net


def logits(net):
    return net(mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, 32, 32)))).asnumpy()


def test_there_and_back(original, in_process, tmp_path):
    path, net = original
    ours, back, torch_names = (tmp_path / name for name in ('net.params', 'back.npz', 'torch.npz'))
    done = run('convert_params.py', '--source', 'dianet', '--model', NAME, '--classes', 7, path, ours, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'{NAME}, {len(to_state_dict(net, "dianet"))} arrays' in done.stdout
    loaded = get_model(NAME, classes=7)
    loaded.load_parameters(str(ours))
    assert (logits(loaded) == logits(net)).all()

    # The manifest names the network, so the way back needs no flags.
    status, _, err = in_process('convert_params.py', '--reverse', '--source', 'dianet', ours, back)
    assert (status, err) == (0, '')
    with np.load(path) as before, np.load(back) as after:
        assert [name[len('module.') :] for name in before.files] == after.files
        assert all((before[f'module.{name}'] == after[name]).all() for name in after.files)

    status, _, err = in_process('convert_params.py', '--reverse', ours, torch_names)
    assert (status, err) == (0, '')
    with np.load(torch_names) as after:
        assert 'layer1.0.bn1.weight' in after.files
        assert 'layer1.0.attention.cell.input_reduce.weight' in after.files


def test_the_manifest(original, in_process, tmp_path):
    path, _ = original
    ours = tmp_path / 'net.params'
    status, _, err = in_process(
        'convert_params.py', '--source', 'dianet', '--model', NAME, '--option', 'classes=7', path, ours
    )
    assert (status, err) == (0, '')
    manifest = read_manifest(ours)
    assert manifest['model'] == NAME
    assert manifest['model_kwargs'] == {'classes': 7}
    assert manifest['preprocessing']['size'] == 32
    assert manifest['converted']['source'] == 'dianet'
    assert manifest['converted']['file'] == 'dia.npz'


def test_options_and_inputs_of_the_original(in_process, tmp_path):
    net = get_model('cifar_residual_attention92_pooled')
    net.initialize()
    write_state(tmp_path / 'state.npz', to_state_dict(net, 'residual-attention'))
    command = ('--source', 'residual-attention', '--model', 'cifar_residual_attention92_pooled')
    status, out, _ = in_process('convert_params.py', *command, tmp_path / 'state.npz', tmp_path / 'net.params')
    assert status == 0
    assert 'skipped: 41 that residual-attention declares and never uses' in out
    manifest = read_manifest(tmp_path / 'net.params')
    # The port adds feature maps in its masks, and takes images with values from 0 to 1 without normalisation.
    assert manifest['model_kwargs'] == {'mask_additions': True}
    assert (manifest['preprocessing']['mean'], manifest['preprocessing']['std']) == ([0, 0, 0], [1, 1, 1])

    plain = tmp_path / 'plain.params'
    in_process('convert_params.py', *command, '--option', 'mask_additions=false', tmp_path / 'state.npz', plain)
    assert read_manifest(plain)['model_kwargs'] == {'mask_additions': False}


@pytest.mark.parametrize('suffix', ['pth', 'pt', 'safetensors'])
def test_files_for_pytorch(original, in_process, tmp_path, suffix):
    _, net = original
    state = {f'module.{name}': array for name, array in to_state_dict(net, 'dianet').items()}
    theirs, ours, back = (tmp_path / name for name in (f'theirs.{suffix}', 'net.params', f'back.{suffix}'))
    write_state(theirs, {**state, 'module.bn1.num_batches_tracked': np.array(5.0)})
    flags = ('--source', 'dianet', '--model', NAME, '--classes', 7)
    status, _, err = in_process('convert_params.py', *flags, theirs, ours)
    assert (status, err) == (0, '')
    loaded = get_model(NAME, classes=7)
    loaded.load_parameters(str(ours))
    assert (logits(loaded) == logits(net)).all()
    status, _, err = in_process('convert_params.py', '--reverse', '--source', 'dianet', ours, back)
    assert (status, err) == (0, '')
    assert (read_state(back)['fc.weight'] == net.fc.weight.data().asnumpy()).all()


def test_our_own_names_there_and_back(original, in_process, tmp_path):
    path, net = original
    first, middle, last = (tmp_path / name for name in ('first.params', 'middle.pth', 'last.params'))
    flags = ('--model', NAME, '--classes', 7)
    for arguments in (
        ('--source', 'dianet', *flags, path, first),
        ('--reverse', first, middle),
        ('--source', 'torch', *flags, middle, last),
    ):
        status, _, err = in_process('convert_params.py', *arguments)
        assert (status, err) == (0, '')
    assert first.read_bytes() == last.read_bytes()


def test_what_is_not_finite_is_named(original, in_process, tmp_path):
    path, _ = original
    with np.load(path) as file:
        state = {name: file[name] for name in file.files}
    state['module.fc.bias'] = np.full_like(state['module.fc.bias'], np.nan)
    write_state(tmp_path / 'state.pth', state)
    status, _, err = in_process(
        'convert_params.py',
        '--source',
        'dianet',
        '--model',
        NAME,
        '--classes',
        7,
        tmp_path / 'state.pth',
        tmp_path / 'o.params',
    )
    assert status == 1
    assert 'state.pth: fc.bias holds NaN or infinity (7 of its 7 values)' in err
    assert not (tmp_path / 'o.params').exists()


def test_a_file_saved_by_open_atac(in_process, tmp_path):
    theirs = fill.FOLDER / 'open_atac' / 'resnet20v2atac_b1_chaatac.params'
    ours = tmp_path / 'net.params'
    status, _, err = in_process(
        'convert_params.py', '--source', 'open-atac', '--model', 'cifar_atac_resnet8_v2', theirs, ours
    )
    assert (status, err) == (0, '')
    assert read_params_file(theirs).keys() == read_params_file(ours).keys()
    assert read_manifest(ours)['model'] == 'cifar_atac_resnet8_v2'


def test_a_file_that_gluon_exported(in_process, tmp_path):
    net = get_model('cifar_atac_resnet8_v2')
    net.initialize()
    net.hybridize()
    logits(net)
    net.export(str(tmp_path / 'theirs'))
    command = ('--source', 'open-atac', '--model', 'cifar_atac_resnet8_v2')
    status, _, err = in_process('convert_params.py', *command, tmp_path / 'theirs-0000.params', tmp_path / 'o.params')
    assert (status, err) == (0, '')
    loaded = get_model('cifar_atac_resnet8_v2')
    loaded.load_parameters(str(tmp_path / 'o.params'))
    assert (logits(loaded) == logits(net)).all()


def test_mistakes(original, in_process, tmp_path):
    path, _ = original
    source, model = ('--source', 'dianet'), ('--model', NAME)
    out, text = tmp_path / 'net.params', tmp_path / 'text.npz'
    text.write_text('no arrays')
    mistakes = [
        ((path, out), 2, '--source is missing'),
        ((*source, path, out), 2, '--model is missing'),
        (('--source', 'caffe', *model, path, out), 2, "invalid choice: 'caffe'"),
        ((*source, '--model', 'resnet5', path, out), 2, '--model: '),
        ((*source, *model, '--option', 'reduction', path, out), 2, 'KEY=VALUE'),
        ((*source, *model, '--option', 'colour=red', path, out), 2, "takes no argument 'colour'"),
        ((*source, *model, path, path), 2, 'is also the input file'),
        ((*source, *model, path, tmp_path / 'net.pth'), 2, 'written to a .params file'),
        ((*source, *model, tmp_path / 'none.npz', out), 1, 'no such file'),
        ((*source, *model, text, out), 1, 'text.npz: not an intact file of arrays'),
        ((*source, *model, '--classes', 5, path, out), 1, r'fc.weight (7, 256) where (5, 256) is due'),
        (
            (*source, '--model', 'cifar_dia_resnet20bn_v1', '--classes', 7, path, out),
            1,
            'missing (layer1.ModuleList.1.',
        ),
        ((*source, '--model', 'cifar_resnet8_v2', path, out), 1, '--source dianet: DIANet has no'),
        (('--reverse', tmp_path / 'none.params', tmp_path / 'state.npz'), 1, 'no such file'),
        (('--reverse', out, tmp_path / 'state.params'), 2, 'is for --source open-atac and gluoncv'),
        (('--reverse', out, tmp_path / 'state.h5'), 1, 'written to .pth, .pt, .safetensors, .npz'),
    ]
    for arguments, status, words in mistakes:
        found, _, err = in_process('convert_params.py', *arguments)
        assert (found, err.count('\n')) == (status, 1), err
        assert err.startswith('error: ')
        assert words in err
    assert not out.exists()


def test_the_way_back_needs_the_originals_network(in_process, digits_params, tmp_path):
    status, _, err = in_process(
        'convert_params.py', '--reverse', '--source', 'dcanet', digits_params, tmp_path / 'o.npz'
    )
    assert status == 1
    assert err.startswith('error: --source dcanet: DCANet has no')
    assert not (tmp_path / 'o.npz').exists()
    assert json.loads(digits_params.with_suffix('.json').read_text())['model'] == 'cifar_atac_resnet8_v2'


@pytest.mark.parametrize(
    ('source', 'theirs', 'ours', 'options'),
    [
        ('timm', 'seresnet18.ra2_in1k', 'se_resnet18_v1b', {'reduction_divisor': 8}),
        ('pytorchcv', 'sepreresnet20_cifar10', 'cifar_se_resnet20_v2', None),
        ('gluoncv', 'mobilenetv2_0.25', 'mobilenet_v2', None),
        ('torchvision', 'resnet18_v1b', 'resnet18_v1b', {}),  # our own name works, too
    ],
)
def test_the_sources_own_name_of_a_network(tmp_path, in_process, source, theirs, ours, options):
    try:
        name, arguments = counterpart(source, theirs)
    except ValueError:
        name, arguments = theirs, {}
    assert name == ours
    net = get_model(name, **{**arguments, 'classes': 5})
    net.initialize(mx.init.Xavier())
    state = to_state_dict(net, source)
    there, here = tmp_path / 'there.npz', tmp_path / 'net.params'
    back = tmp_path / ('back.params' if source == 'gluoncv' else 'back.safetensors')
    np.savez(there, **state)
    code, out, err = in_process('convert_params.py', '--source', source, '--model', theirs, '--classes', 5, there, here)
    assert code == 0, err
    manifest = json.loads((tmp_path / 'net.json').read_text())
    assert manifest['model'] == ours
    assert manifest['model_kwargs'] == {**(arguments if options is None else options), 'classes': 5}
    (tmp_path / 'net.json').unlink()
    code, out, err = in_process(
        'convert_params.py', '--reverse', '--source', source, '--model', theirs, '--classes', 5, here, back
    )
    assert code == 0, err
    again = read_state(back)
    assert set(again) == set(state)
    assert all((again[key] == array).all() for key, array in state.items())


def test_a_network_that_the_source_has_and_we_have_not(tmp_path, in_process):
    code, _, err = in_process(
        'convert_params.py', '--source', 'timm', '--model', 'resnet200d', tmp_path / 'a.npz', tmp_path / 'a.params'
    )
    assert code == 2
    assert '--model: timm resnet200d: this network does not exist here: its depth is not one of' in err
