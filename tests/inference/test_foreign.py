"""Other people's networks: what was only for training is removed, and what does not fit is reported."""

import io
import json
import tarfile

import mxnet as mx
import numpy as np
import pytest

from environment import UserError
from inference import portable
from inference.export import export_foreign
from inference.foreign import HEADS, from_archive, from_files, from_gluoncv, parse_shapes
from inference.graph import Graph

SHAPE = {None: (1, 3, 12, 10)}


def layers(outputs=5):
    x = mx.sym.Convolution(mx.sym.var('data'), kernel=(3, 3), num_filter=4, name='conv')
    x = mx.sym.Activation(mx.sym.BatchNorm(x, fix_gamma=False, name='norm'), act_type='relu')
    x = mx.sym.Flatten(mx.sym.Pooling(x, global_pool=True, kernel=(1, 1)))
    return mx.sym.FullyConnected(x, num_hidden=outputs, name='fc')


def saved(folder, symbol, seed=0, name='net'):
    """Write the symbol and its parameters as ``Module.save_checkpoint`` does."""
    random = np.random.RandomState(seed)
    shapes, _, states = symbol.infer_shape(data=(2, *SHAPE[None][1:]))
    args = dict(zip(symbol.list_arguments(), shapes))
    arrays = {
        f'arg:{key}': mx.nd.array(random.normal(0, 0.5, shape))
        for key, shape in args.items()
        if key != 'data' and not key.endswith('label')
    }
    for key, shape in zip(symbol.list_auxiliary_states(), states):
        arrays[f'aux:{key}'] = mx.nd.array(random.uniform(0.5, 1.5, shape))
    symbol.save(str(folder / f'{name}-symbol.json'))
    mx.nd.save(str(folder / f'{name}-0000.params'), arrays)
    return folder / f'{name}-symbol.json', folder / f'{name}-0000.params'


def heads():
    x = layers()
    yield 'SoftmaxOutput', mx.sym.SoftmaxOutput(x, name='softmax')
    yield 'LinearRegressionOutput', mx.sym.LinearRegressionOutput(x, name='regression')
    yield 'MAERegressionOutput', mx.sym.MAERegressionOutput(x, name='regression')
    yield 'LogisticRegressionOutput', mx.sym.LogisticRegressionOutput(x, name='regression')
    yield 'SVMOutput', mx.sym.SVMOutput(x, name='svm')
    yield 'MakeLoss', mx.sym.MakeLoss(x, name='loss')
    yield '', x


@pytest.mark.parametrize('head', [name for name, _ in heads()])
def test_heads_come_off_and_the_answers_stay(head, tmp_path):
    symbol = dict(heads())[head]
    foreign = from_files(*saved(tmp_path, symbol), SHAPE)
    assert foreign.shape == SHAPE[None]
    assert len(foreign.stripped) == bool(head)
    left = Graph.of(foreign.net(mx.sym.var('data')), {})
    assert not {node.op for node in left.nodes()} & set(HEADS)
    assert not [name for name in foreign.net.collect_params() if name.endswith('label')]
    proof = export_foreign(foreign, tmp_path / 'out', ('mxnet', 'optimized'))
    assert max(figures['difference'] for figures in proof.values()) < 1e-5
    run, info = portable.load(str(tmp_path / 'out'))
    images = np.random.RandomState(1).normal(size=(3, 3, 12, 10)).astype(np.float32)
    assert run(mx.nd.array(images)).asnumpy() == pytest.approx(foreign.reference(images), abs=1e-5)
    assert info['model'] == 'net'


def test_an_input_of_another_name(tmp_path):
    x = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var('picture')), num_hidden=3), name='softmax')
    x.save(str(tmp_path / 'a-symbol.json'))
    random = np.random.RandomState(0)
    arrays = {'fullyconnected0_weight': (3, 12), 'fullyconnected0_bias': (3,)}
    names = [name for name in x.list_arguments() if name.endswith(('weight', 'bias'))]
    arrays = {f'arg:{name}': mx.nd.array(random.normal(size=shape)) for name, shape in zip(names, arrays.values())}
    mx.nd.save(str(tmp_path / 'a-0003.params'), arrays)
    foreign = from_files(tmp_path / 'a-symbol.json', tmp_path / 'a-0003.params', parse_shapes(['picture=1,3,2,2']))
    proof = export_foreign(foreign, tmp_path / 'out', ('mxnet',))
    assert proof['mxnet']['difference'] < 1e-6


def archive(path, files, link=None):
    with tarfile.open(path, 'w:gz') as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo('x-symbol.json')
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return path


def test_archives_are_read_without_being_unpacked(tmp_path):
    symbol, params = saved(tmp_path, mx.sym.SoftmaxOutput(layers(), name='softmax'))
    shapes = json.dumps([{'name': 'data', 'shape': [1, 3, 12, 10]}]).encode()
    files = {'model/net-symbol.json': symbol.read_bytes(), '../net-0000.params': params.read_bytes()}
    whole = archive(tmp_path / 'model.tar.gz', {**files, 'model/model-shapes.json': shapes, '/etc/other': b'x'})
    before = sorted(tmp_path.rglob('*'))
    foreign = from_archive(whole, {})
    assert foreign.shape == (1, 3, 12, 10)
    assert sorted(tmp_path.rglob('*')) == before
    for bad, sentence in [
        (archive(tmp_path / 'a.tar.gz', {'net-symbol.json': symbol.read_bytes()}), r'has no file \*\.params'),
        (archive(tmp_path / 'b.tar.gz', {**files, 'other-symbol.json': b'{}'}), r'has two files \*-symbol\.json'),
        (archive(tmp_path / 'c.tar.gz', {'a.params': b'x'}, link='/etc/passwd'), r'has no file \*-symbol\.json'),
        (archive(tmp_path / 'd.tar.gz', {**files, '../net-0000.params': b'junk'}), 'not an intact parameter file'),
        (
            archive(tmp_path / 'e.tar.gz', {**files, 'model/net-symbol.json': b'{"nodes": 5}'}),
            'cannot be read as a symbol',
        ),
        (archive(tmp_path / 'f.tar.gz', files), 'does not state the shape'),
    ]:
        with pytest.raises(UserError, match=sentence):
            from_archive(bad, {})
    (tmp_path / 'g.tar.gz').write_bytes(whole.read_bytes()[:900])
    with pytest.raises(UserError, match='not an intact tar file'):
        from_archive(tmp_path / 'g.tar.gz', {})


def test_what_does_not_fit_is_told(tmp_path):
    symbol, params = saved(tmp_path, layers())
    _, others = saved(tmp_path, layers(7), name='other')
    for given, sentence in [
        ((symbol, params, {}), 'does not state the shape of its input data'),
        ((symbol, others, SHAPE), r'is \(7, 4\) in the parameters and \(5, 4\) in the network'),
        ((symbol, params, {None: (1, 4, 12, 10)}), r'\(4, 3, 3, 3\) in the parameters and \(4, 4, 3, 3\)'),
        ((symbol, params, {None: (1, 3)}), r'does not accept an input of the shape \(1, 3\)'),
        ((params, params, SHAPE), 'cannot be read as a symbol'),
    ]:
        with pytest.raises(UserError, match=sentence):
            from_files(*given)
    arrays = mx.nd.load(str(params))
    arrays.pop('arg:conv_weight')
    mx.nd.save(str(params), arrays)
    with pytest.raises(UserError, match='has the inputs data, conv_weight, and one is allowed'):
        from_files(symbol, params, SHAPE)
    both = mx.sym.Group([layers(), layers()])
    both.save(str(tmp_path / 'two-symbol.json'))
    for wrong in ('1,x', '', '0,3'):
        with pytest.raises(ValueError, match='is not a shape'):
            parse_shapes([wrong])


def test_gluoncvs_zoo(tmp_path):
    zoo = pytest.importorskip('gluoncv.model_zoo')
    net = zoo.get_model('cifar_resnet20_v1', pretrained=False)
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters(str(tmp_path / 'a.params'))
    foreign = from_gluoncv('cifar_resnet20_v1', tmp_path / 'a.params', {}, None)
    assert foreign.shape == (1, 3, 32, 32)
    images = np.random.RandomState(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    assert (foreign.net(mx.nd.array(images)).asnumpy() == net(mx.nd.array(images)).asnumpy()).all()
    proof = export_foreign(foreign, tmp_path / 'out', ('mxnet', 'optimized'))
    assert max(figures['difference'] for figures in proof.values()) < 1e-5
    with pytest.raises(UserError, match='--gluoncv no_such_net'):
        from_gluoncv('no_such_net', tmp_path / 'a.params', {}, None)


def test_onnx_of_a_loss_head(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    foreign = from_files(*saved(tmp_path, mx.sym.SoftmaxOutput(layers(), name='softmax')), SHAPE)
    assert export_foreign(foreign, tmp_path / 'out', ('onnx',))['onnx']['difference'] < 1e-5


def test_an_operator_that_onnx_has_not_is_told(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    foreign = from_files(*saved(tmp_path, mx.sym.gammaln(mx.sym.abs(layers()) + 1)), SHAPE)
    with pytest.raises(UserError, match='cannot be written as ONNX .*gammaln'):
        export_foreign(foreign, tmp_path / 'out', ('onnx',))
    assert not (tmp_path / 'out').exists()


def test_symbols_of_older_mxnets(tmp_path):
    symbol, params = saved(tmp_path, mx.sym.SoftmaxOutput(layers(), name='softmax'))
    table = json.loads(symbol.read_text())
    for node in table['nodes']:
        node['param'] = node.pop('attrs', {})
        node['backward_source_id'] = -1
        node['inputs'] = [entry[:2] for entry in node['inputs']]
    table['heads'] = [head[:2] for head in table['heads']]
    table.pop('attrs')
    symbol.write_text(json.dumps(table))
    foreign = from_files(symbol, params, SHAPE)
    assert export_foreign(foreign, tmp_path / 'out', ('mxnet',))['mxnet']['difference'] < 1e-6
