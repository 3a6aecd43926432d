"""Networks as ONNX files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from common.files import atomic_write, explained
from common.schema import TABLE, parse_json
from environment import UserError, import_extra
from inference import onnx_detection
from inference.graph import INPUT, Graph, Node, Out, trace
from inference.onnx_graph import plain_operators
from inference.optimization.fold import fold
from model.layers.broadcast import plain_reductions

__all__ = ['EXTRAS', 'OPSET', 'OnnxNetwork', 'content_of', 'export_onnx', 'finished', 'onnx_content', 'prepared']

#: Packages needed to write a file, and to run it.
EXTRAS = ('onnx', 'onnxruntime')

#: MXNet 1.9's translations are valid from 13 on; it stamps files with the newest that the onnx package knows. More
#: readers know an older one.
OPSET, IR_VERSION = 13, 7
_INFO = 'attention-networks'
# Entries of a file's metadata: that it ends with a digest, and the digest.
_SEALED, _SEAL = 'attention-networks-sealed', 'attention-networks-sha256'


def _resize_like(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``BilinearResize2D(mode='like')``, to the size of another map, which MXNet does not translate."""
    from mxnet.onnx.mx2onnx._op_translations import _op_translations_opset12 as translations
    from onnx.helper import make_node

    name, inputs, attrs = translations.get_inputs(node, kwargs)
    if attrs.get('mode') != 'like':
        return translations.convert_contrib_BilinearResize2D(node, **kwargs)
    aligned = attrs.get('align_corners', 'True') in ('True', 'true', '1')
    for value in (0, 2, 4):
        translations.create_tensor([value], f'{name}_{value}', kwargs['initializer'])
    translations.create_tensor([], f'{name}_none', kwargs['initializer'], dtype='float32')
    return [
        make_node('Shape', [inputs[0]], [f'{name}_from']),
        make_node('Shape', [inputs[1]], [f'{name}_like']),
        make_node('Slice', [f'{name}_from', f'{name}_0', f'{name}_2'], [f'{name}_nc']),
        make_node('Slice', [f'{name}_like', f'{name}_2', f'{name}_4'], [f'{name}_hw']),
        make_node('Concat', [f'{name}_nc', f'{name}_hw'], [f'{name}_sizes'], axis=0),
        make_node(
            'Resize',
            [inputs[0], f'{name}_none', f'{name}_none', f'{name}_sizes'],
            [name],
            mode='linear',
            coordinate_transformation_mode='align_corners' if aligned else 'half_pixel',
            name=name,
        ),
    ]


def _reverse(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``reverse`` along one axis; MXNet's own translation fails on any but the first."""
    from mxnet.onnx.mx2onnx._op_translations import _op_translations_opset12 as translations
    from onnx.helper import make_node

    name, inputs, attrs = translations.get_inputs(node, kwargs)
    axis = int(attrs['axis'].strip('()[], '))
    for key, value in (('last', -1), ('first', -(2**31)), ('axis', axis), ('step', -1)):
        translations.create_tensor([value], f'{name}_{key}', kwargs['initializer'])
    sliced = [inputs[0], *(f'{name}_{key}' for key in ('last', 'first', 'axis', 'step'))]
    return [make_node('Slice', sliced, [name], name=name)]


def _flat_convolutions(graph: Graph) -> None:
    """Convolutions over (N, C, W), which MXNet does not translate, as ones over (N, C, 1, W)."""
    changes: Dict[int, Out] = {}
    for node in graph.nodes():
        if node.op != 'Convolution' or node.get('layout', '') != 'NCW':
            continue
        weight = graph.value(node.inputs[1])
        attrs = {key: value for key, value in node.attrs.items() if key != 'layout'}
        for key, default in (('kernel', ''), ('stride', '1'), ('dilate', '1'), ('pad', '0')):
            attrs[key] = f'({0 if key == "pad" else 1}, {node.numbers(key, default)[0]})'
        inputs = [
            Out(Node('expand_dims', f'{node.name}_map', node.inputs[:1], {'axis': '2'})),
            graph.variable(f'{node.name}_weight', weight[:, :, np.newaxis]),
            *node.inputs[2:],
        ]
        flat = Out(Node('Convolution', f'{node.name}_2d', inputs, attrs))
        changes[id(node)] = Out(Node('squeeze', node.name, [flat], {'axis': '2'}))
    graph.replace_all(changes)


@contextlib.contextmanager
def _checked_as(onnx: Any, opset: int) -> Iterator[None]:
    """MXNet has its graphs checked by the newest rules, under which translations for older ones are wrong."""
    context = onnx.checker.DEFAULT_CONTEXT
    before = context.opset_imports
    context.opset_imports = {'': opset}
    try:
        yield
    finally:
        context.opset_imports = before


def _seal(content: bytes) -> bytes:
    """Return the digest of what comes before it, as an entry of the metadata.

    Field 14 of a ModelProto, the last that we write. Of one message, Protocol Buffers reads the pieces one after the
    other.
    """
    digest = hashlib.sha256(content).hexdigest().encode()
    entry = b''.join(tag + bytes([len(text)]) + text for tag, text in ((b'\x0a', _SEAL.encode()), (b'\x12', digest)))
    return b'\x72' + bytes([len(entry)]) + entry


def _is_sealed(content: bytes) -> bool:
    """Return whether a file ends with the digest of the rest.

    Raises ``ValueError`` if it ends with that of something else.
    """
    length, known = len(_seal(b'')), len(_seal(b'')) - 64
    body, seal = content[:-length], content[-length:]
    if seal == _seal(body):
        return True
    if seal[:known] == _seal(b'')[:known]:
        raise ValueError('it is not as it was exported: its sha256 differs')
    return False


def export_onnx(
    net: gluon.HybridBlock,
    path: os.PathLike[str],
    size: Union[int, Sequence[int]],
    info: Optional[Mapping[str, Any]] = None,
) -> None:
    """Write the file that :func:`onnx_content` returns."""
    content = onnx_content(net, size, info)
    atomic_write(Path(path), lambda out: out.write(content))


def prepared(net: gluon.HybridBlock, sides: Tuple[int, ...]) -> Graph:
    """Return the graph from which a file is written: batch norms folded, in widely supported operators."""
    with plain_reductions():
        graph = trace(net)
    fold(graph)
    _flat_convolutions(graph)
    plain_operators(graph, {INPUT: sides})
    return graph


def onnx_content(
    net: gluon.HybridBlock, size: Union[int, Sequence[int]], info: Optional[Mapping[str, Any]] = None
) -> bytes:
    """Return an ONNX file of the network, batch norms folded, for any number of inputs.

    ``size`` is H and W of images, one number for both, or the three extents of another input.

    The input is ``data``, the opset 13. ``info`` travels inside the file, and a digest of all of it. It passes onnx's
    checker. Raises ``SetupError`` if the ``onnx`` extra is missing.
    """
    import_extra('onnx')
    sides = (size, size) if isinstance(size, int) else tuple(map(int, size))
    sides = (3, *sides) if len(sides) == 2 else sides
    return content_of(prepared(net, sides), {INPUT: sides}, info)


def content_of(graph: Graph, inputs: Mapping[str, Tuple[int, ...]], info: Optional[Mapping[str, Any]] = None) -> bytes:
    """Return an ONNX file of a graph of plain operators, whose inputs have these shapes behind N."""
    onnx = import_extra('onnx')
    from mxnet import onnx as mxonnx
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    symbol = graph.symbol()
    arrays = {name: mx.nd.array(value) for name, value in graph.params.items()}
    known = set(symbol.list_inputs())
    shapes = [shape for name, shape in inputs.items() if name in known]
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, 'net.onnx')
        MXNetGraph.register('_contrib_BilinearResize2D')(_resize_like)
        MXNetGraph.register('reverse', 13)(_reverse)
        onnx_detection.register(MXNetGraph)
        with _checked_as(onnx, OPSET), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)  # MXNet's use of onnx.mapping
            try:
                mxonnx.export_model(
                    symbol,
                    arrays,
                    [(2, *shape) for shape in shapes],
                    np.float32,
                    file,
                    dynamic=True,
                    dynamic_input_shapes=[('N', *shape) for shape in shapes],
                )
            except (
                AttributeError,
                NotImplementedError,
            ) as error:  # for an operator, or a variant of one, that it lacks
                raise UserError(f'this network cannot be written as ONNX ({error}); leave it out of --kinds') from error
        model = onnx.load(file)
    # As inputs the parameters could be overridden, and so no runtime may fold or reorder them.
    stored = {array.name for array in model.graph.initializer}
    own = [entry for entry in model.graph.input if entry.name not in stored]
    used = {name for node in model.graph.node for name in node.input}
    kept = [array for array in model.graph.initializer if array.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.input[:]
    model.graph.input.extend(own)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid('', OPSET))
    told = {} if info is None else {_INFO: json.dumps(info)}
    onnx.helper.set_model_props(model, told)
    return finished(model)


def finished(model: Any, ir_version: int = IR_VERSION) -> bytes:
    """Return the file of a model that passes onnx's checker, with a digest of all of it at its end."""
    onnx = import_extra('onnx')
    model.ir_version = ir_version
    # Of a file that another one was made of, the digest is read as an entry like any.
    props = {entry.key: entry.value for entry in model.metadata_props if entry.key != _SEAL}
    onnx.helper.set_model_props(model, {**props, _SEALED: 'yes'})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    return content + _seal(content)


class OnnxNetwork(gluon.Block):
    """An ONNX file run by ONNX Runtime: ``(N, 3, H, W) float32 -> (N, classes) float32``.

    Raises ``UserError`` if the file cannot be read, or is one of ours and not as it was written. Raises ``SetupError``
    where ONNX Runtime is missing.
    """

    def __init__(self, path: os.PathLike[str], threads: int = 0) -> None:
        super().__init__()
        with explained('read', path), open(path, 'rb') as file:
            content = file.read()
        runtime = import_extra('onnxruntime')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or int(os.environ.get('OMP_NUM_THREADS', '0'))
        options.log_severity_level = 3
        try:
            sealed = _is_sealed(content)
            self.session = runtime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
            if not sealed and _SEALED in self.session.get_modelmeta().custom_metadata_map:
                raise ValueError('its end is missing')
        except Exception as error:  # ONNX Runtime's errors have no common base
            reason = str(error).splitlines()[0]
            raise UserError(f'{os.fspath(path)} cannot be read as an ONNX file ({reason}); export it again') from error
        self._input = self.session.get_inputs()[0].name

    def info(self) -> Dict[str, Any]:
        """Return the info that :func:`export_onnx` stored in the file. Raises ``KeyError`` if there is none."""
        return parse_json(self.session.get_modelmeta().custom_metadata_map[_INFO], TABLE)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images, both as NumPy arrays."""
        return self.session.run(None, {self._input: images})[0]

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        return mx.nd.array(self.run(x.asnumpy()))
