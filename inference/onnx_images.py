"""ONNX files that take images of any size: scaling and the centre crop are inside, together with the normalisation."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from data.preprocessing import Preprocessing
from environment import import_extra
from inference.onnx_file import finished
from inference.onnx_variants import with_normalisation

__all__ = ['OPSET_IMAGES', 'geometry', 'with_preprocessing']

#: The first in which `Resize` weighs all pixels that a smaller one covers; and the format of files that goes with it.
OPSET_IMAGES, _IR_VERSION = 18, 8
#: Of `Resize`, by the interpolation of `data.scaling`. On 8-bit pixels ONNX Runtime then computes as Pillow does, at
#: the borders, too, where weights only count existing pixels.
_RESIZE: Dict[str, Dict[str, Any]] = {
    'antialiased': {'mode': 'linear', 'antialias': 1, 'exclude_outside': 1},
    'bicubic': {'mode': 'cubic', 'antialias': 1, 'exclude_outside': 1, 'cubic_coeff_a': -0.5},
    'plain': {'mode': 'linear'},
}


class _Nodes:
    """Nodes and constants, each named by what it is."""

    def __init__(self) -> None:
        self._onnx = import_extra('onnx')
        self.nodes: List[Any] = []
        self.constants: List[Any] = []

    def add(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, name: str, *values: int) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name


def _rounded(nodes: _Nodes, dividend: str, divisor: str) -> str:
    """Add the quotient of whole numbers, rounded as Python does, halves to even, and exactly."""
    two = nodes.constant('images_two', 2)
    quotient = nodes.add('images_quotient', 'Div', dividend, divisor)
    product = nodes.add('images_product', 'Mul', quotient, divisor)
    twice = nodes.add('images_twice', 'Mul', nodes.add('images_rest', 'Sub', dividend, product), two)
    odd = nodes.add('images_odd', 'Cast', nodes.add('images_parity', 'Mod', quotient, two), to=9)  # BOOL
    half = nodes.add('images_half', 'And', nodes.add('images_equal', 'Equal', twice, divisor), odd)
    up = nodes.add('images_up', 'Or', nodes.add('images_more', 'Greater', twice, divisor), half)
    return nodes.add('images_whole', 'Add', quotient, nodes.add('images_one', 'Cast', up, to=7))  # INT64


def _steps(preprocessing: Preprocessing) -> _Nodes:
    """Return the nodes from ``images`` (N, H, W, 3) to ``pixels`` (N, size, size, 3): :meth:`Preprocessing.fit`."""
    nodes, size = _Nodes(), preprocessing.size
    places = [nodes.constant(f'images_{i}', i) for i in (0, 1, 3)]
    shape = nodes.add('images_shape', 'Shape', 'images')
    sides = nodes.add('images_sides', 'Slice', shape, places[1], places[2])
    scaled = nodes.add('images_scaled', 'Mul', sides, nodes.constant('images_target', preprocessing.resize or size))
    whole = _rounded(nodes, scaled, nodes.add('images_short', 'ReduceMin', sides))
    count = nodes.add('images_count', 'Slice', shape, places[0], places[1])
    sizes = nodes.add('images_sizes', 'Concat', count, whole, places[2], axis=0)
    how = _RESIZE[preprocessing.interpolation]
    nodes.add('images_resized', 'Resize', 'images', '', '', sizes, coordinate_transformation_mode='half_pixel', **how)
    side = nodes.constant('images_size', size)
    around = nodes.add('images_around', 'Sub', whole, side)
    start = nodes.add('images_start', 'Div', around, 'images_two')
    end = nodes.add('images_end', 'Add', start, side)
    nodes.add('images_cut', 'Slice', 'images_resized', start, end, nodes.constant('images_axes', 1, 2))
    nodes.add('pixels', 'Reshape', 'images_cut', nodes.constant('images_form', -1, size, size, 3))
    return nodes


def _input() -> Any:
    onnx = import_extra('onnx')
    return onnx.helper.make_tensor_value_info('images', onnx.TensorProto.UINT8, ['N', 'H', 'W', 3])


def geometry(preprocessing: Preprocessing) -> bytes:
    """Return a file that only scales and crops: ``images`` to ``pixels``, both uint8 RGB."""
    onnx = import_extra('onnx')
    helper, steps, size = onnx.helper, _steps(preprocessing), preprocessing.size
    pixels = helper.make_tensor_value_info('pixels', onnx.TensorProto.UINT8, ['N', size, size, 3])
    graph = helper.make_graph(steps.nodes, 'geometry', [_input()], [pixels], steps.constants)
    return finished(helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET_IMAGES)]), _IR_VERSION)


def with_preprocessing(content: bytes, preprocessing: Preprocessing) -> bytes:
    """Return a file that takes images, ``images`` (N, H, W, 3) uint8 RGB of any size, in place of ``data``.

    Scaling, cut and normalisation are those of :class:`data.preprocessing.Preprocessing`; a batch has images of one
    size.
    """
    onnx = import_extra('onnx')
    known = onnx.load_from_string(with_normalisation(content, preprocessing))
    told = {entry.key: entry.value for entry in known.metadata_props}
    model = onnx.version_converter.convert_version(known, OPSET_IMAGES)
    onnx.helper.set_model_props(model, told)
    steps = _steps(preprocessing)
    _put_before(model.graph.node, steps.nodes)
    model.graph.initializer.extend(steps.constants)
    del model.graph.input[:]
    model.graph.input.append(_input())
    return finished(model, _IR_VERSION)


def _put_before(nodes: Any, first: Sequence[Any]) -> None:
    rest = list(nodes)
    del nodes[:]
    nodes.extend([*first, *rest])
