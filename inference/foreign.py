"""Networks from outside the project: MXNet symbols with parameters, GluonCV's zoo, SageMaker's archives.

Labels and loss heads are removed; heads are replaced by what they compute in inference. The rest is a block like any of
ours, and is exported and verified in the same way.
"""

from __future__ import annotations

import json
import tarfile
import warnings
import zlib
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from common.files import explained
from common.text import printable
from environment import UserError, import_extra
from inference import portable
from inference.graph import Graph, Node, Out
from model.parameters.file_format import read_params_file
from model.parameters.load import read_params, set_params
from model.parameters.params_format import decode_params, not_finite

__all__ = ['Foreign', 'from_archive', 'from_files', 'from_gluoncv']

Shape = Tuple[int, ...]
#: Larger than any symbol, and than any parameters in practice.
_LARGEST = {'-symbol.json': 256 << 20, '.params': 16 << 30, '-shapes.json': 1 << 20}


class Foreign(NamedTuple):
    """A network without its training parts.

    Attributes:
        net: ``input -> output`` as a block.
        name: its name.
        shape: of its input, including the number of images.
        stripped: what was removed, in words.
        reference: ``images -> output`` of the original network, with labels of zeros.
    """

    net: gluon.HybridBlock
    name: str
    shape: Shape
    stripped: List[str]
    reference: Callable[[np.ndarray], np.ndarray]


def _softmax(node: Node) -> Node:
    axis = '-1' if node.true('preserve_shape') else '1'
    return Node('softmax', node.name, node.inputs[:1], {'axis': axis})


def _same(node: Node) -> Node:
    return Node('identity', node.name, node.inputs[:1])


def _sigmoid(node: Node) -> Node:
    return Node('sigmoid', node.name, node.inputs[:1])


#: Loss heads, and what they compute in inference.
HEADS: Dict[str, Callable[[Node], Node]] = {
    **dict.fromkeys(('SoftmaxOutput', 'Softmax'), _softmax),
    **dict.fromkeys(('LinearRegressionOutput', 'MAERegressionOutput', 'SVMOutput', 'MakeLoss', 'make_loss'), _same),
    'LogisticRegressionOutput': _sigmoid,
}


def _stripped(graph: Graph) -> List[str]:
    """Remove the loss heads; returns what they were."""
    changes: Dict[int, Out] = {}
    told = []
    for node in graph.nodes():
        if node.op not in HEADS:
            continue
        labels = [out.node.name for out in node.inputs[1:] if out.node.op == 'null']
        changes[id(node)] = Out(HEADS[node.op](node))
        told.append(f'{node.op} {node.name}' + (f' with {", ".join(labels)}' if labels else ''))
    graph.replace_all(changes)
    return told


def _symbol(text: bytes, origin: str) -> mx.sym.Symbol:
    try:
        return portable.read_symbol(text)
    except (ValueError, mx.MXNetError) as error:
        raise UserError(f'{origin} cannot be read as a symbol ({portable.reason(error)}); save it again') from error


def _arrays(named: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    plain = {name[4:] if name[:4] in ('arg:', 'aux:') else name: array for name, array in named.items()}
    return {name: array.astype(np.float32) if array.dtype.kind == 'f' else array for name, array in plain.items()}


def parse_shapes(texts: Sequence[str]) -> Dict[Optional[str], Shape]:
    """Read ``1,3,224,224`` or ``data=1,3,224,224``, each at most once. Raises ``ValueError`` for anything else."""
    shapes: Dict[Optional[str], Shape] = {}
    for text in texts:
        name, _, sides = text.rpartition('=')
        try:
            shape = tuple(int(side) for side in sides.strip('()[] ').split(',') if side.strip())
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            raise ValueError(f'{text!r} is not a shape; give whole numbers separated by commas, such as 1,3,224,224')
        shapes[name or None] = shape
    return shapes


def _input_of(
    symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray], shapes: Mapping[Optional[str], Shape], origin: str
) -> Tuple[str, Shape]:
    """Return the one input that is neither a parameter nor a label, and its shape."""
    open_names = [name for name in symbol.list_inputs() if name not in arrays]
    if len(open_names) != 1:
        told = ', '.join(printable(name) for name in open_names[:5]) or 'none'
        reason = 'the parameters lack some of these' if len(open_names) > 1 else 'all are in the parameters'
        raise UserError(
            f'{origin} has the inputs {told}, and one is allowed ({reason}); give the parameters that belong to it'
        )
    (name,) = open_names
    shape = shapes.get(name) or shapes.get(None)
    if shape is None:
        raise UserError(
            f'{origin} does not state the shape of its input {printable(name)}; give it: --input-shape 1,3,224,224'
        )
    return name, shape


def _checked(symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray], name: str, shape: Shape, origin: str) -> None:
    """Raise ``UserError`` unless the parameters fit the symbol for this input shape, with one output."""
    try:
        given, outputs, states = symbol.infer_shape(**{name: shape})
    except mx.MXNetError as error:
        raise UserError(
            f'{origin} does not accept an input of the shape {shape} ({portable.reason(error)}); give another '
            '--input-shape'
        ) from error
    if len(outputs) != 1:
        raise UserError(f'{origin} has {len(outputs)} outputs, but only networks with one output can be exported')
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    for key, wanted in zip(names, [*given, *states]):
        if key in arrays and arrays[key].shape != tuple(wanted):
            raise UserError(
                f'{origin}: {printable(key)} is {arrays[key].shape} in the parameters and {tuple(wanted)} in the '
                'network; give the parameters that belong to it'
            )


def _block(symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray], name: str) -> gluon.HybridBlock:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # about unstated types, which are float32
        net = gluon.SymbolBlock(symbol, mx.sym.var(name))
    for key, parameter in net.collect_params().items():
        parameter.shape = arrays[key].shape
        parameter.initialize(mx.init.Zero())
        parameter.set_data(mx.nd.array(arrays[key]))
    return net


def _as_it_came(
    symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray], name: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the original network in inference, including its heads, with labels of zeros."""

    def run(images: np.ndarray) -> np.ndarray:
        shapes, _, _ = symbol.infer_shape(**{name: images.shape})
        zeros = {key: np.zeros(shape, np.float32) for key, shape in zip(symbol.list_arguments(), shapes)}
        values = {**zeros, **arrays, name: images}
        out = mx.nd.CachedOp(symbol)(*(mx.nd.array(values[key]) for key in symbol.list_inputs()))
        return (out[0] if isinstance(out, (list, tuple)) else out).asnumpy()

    return run


def _built(
    symbol: mx.sym.Symbol,
    named: Mapping[str, np.ndarray],
    shapes: Mapping[Optional[str], Shape],
    name: str,
    origin: str,
) -> Foreign:
    arrays = _arrays(named)
    graph = Graph.of(symbol, dict(arrays))
    told = _stripped(graph)
    plain = graph.symbol()
    entrance, shape = _input_of(plain, arrays, shapes, origin)
    _checked(plain, arrays, entrance, shape, origin)
    if entrance != 'data':  # what all that follows calls it
        for node in graph.nodes():
            if node.op == 'null' and node.name == entrance:
                node.name = 'data'
        plain = graph.symbol()
    net = _block(plain, arrays, 'data')
    return Foreign(net, name, shape, told, _as_it_came(symbol, arrays, entrance))


def from_files(symbol: Path, params: Path, shapes: Mapping[Optional[str], Shape]) -> Foreign:
    """Read what ``Module.save_checkpoint`` or ``HybridBlock.export`` wrote.

    Raises ``UserError`` for anything that does not fit.
    """
    with explained('read', symbol):
        text = Path(symbol).read_bytes()
    name = Path(symbol).name
    stem = name[: -len('-symbol.json')] if name.endswith('-symbol.json') else Path(symbol).stem
    return _built(_symbol(text, str(symbol)), read_params_file(params), shapes, stem, str(symbol))


def from_archive(archive: Path, shapes: Mapping[Optional[str], Shape]) -> Foreign:
    """Read a ``model.tar.gz`` of SageMaker: a symbol, its parameters, and possibly ``model-shapes.json``.

    Nothing is unpacked to disk: members are found by the last part of their names, and only their stated size is read.
    """
    found: Dict[str, Tuple[str, bytes]] = {}
    try:
        with explained('read', archive), tarfile.open(archive, 'r:*') as tar:
            for member in tar:
                base = member.name.rpartition('/')[2]
                suffix = next((end for end in _LARGEST if base.endswith(end)), None)
                if suffix is None or not member.isfile():
                    continue
                if suffix in found:
                    raise UserError(f'{archive} has two files *{suffix}; give one network, or --symbol and --params')
                if member.size > _LARGEST[suffix]:
                    raise UserError(f'{archive}: {printable(member.name)} of {member.size} bytes is too large')
                found[suffix] = base, tar.extractfile(member).read(member.size)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f'{archive} is not an intact tar file ({portable.reason(error)}); fetch it again') from error
    for suffix in ('-symbol.json', '.params'):
        if suffix not in found:
            raise UserError(
                f'{archive} has no file *{suffix}, which an MXNet network needs; give --symbol and --params'
            )
    try:
        arrays = decode_params(found['.params'][1])
    except ValueError as error:
        raise UserError(f'{archive}: {found[".params"][0]} is not an intact parameter file ({error})') from error
    wrong = not_finite(arrays)
    if wrong:
        raise UserError(f'{archive}: {printable(wrong)}')
    base, text = found['-symbol.json']
    known = dict(_told_shapes(found['-shapes.json'][1])) if '-shapes.json' in found else {}
    origin = f'{archive}: {base}'
    return _built(_symbol(text, origin), arrays, {**known, **shapes}, base[: -len('-symbol.json')], origin)


def _told_shapes(text: bytes) -> Dict[Optional[str], Shape]:
    """Return the content of ``model-shapes.json``, ``[{"name": "data", "shape": [1, 3, 224, 224]}]``.

    Empty if unusable.
    """
    try:
        rows = json.loads(text.decode())
        return {str(row['name']): tuple(int(side) for side in row['shape']) for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def from_gluoncv(name: str, params: Path, shapes: Mapping[Optional[str], Shape], classes: Optional[int]) -> Foreign:
    """Build a network of GluonCV's zoo and read its parameters, in whatever way they were saved."""
    zoo = import_extra('gluoncv.model_zoo')
    options = {} if classes is None else {'classes': classes}
    try:
        net = zoo.get_model(name, pretrained=False, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f'--gluoncv {name}: {portable.reason(error)}') from error
    shape = shapes.get('data') or shapes.get(None) or (1, 3, *_side(name))
    set_params(net, read_params(net, params), str(params))
    out = net(mx.sym.var('data'))
    if isinstance(out, (list, tuple)):
        raise UserError(f'--gluoncv {name} has {len(out)} outputs, but only networks with one output can be exported')
    reference = lambda images: net(mx.nd.array(images)).asnumpy()  # noqa: E731
    return Foreign(net, name, shape, [], reference)


def _side(name: str) -> Tuple[int, int]:
    side = 32 if 'cifar' in name else 299 if 'inception' in name else 224
    return side, side
