"""The operators of detectors in ONNX: suppression of boxes, and features within boxes."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np

from inference.graph import Graph
from inference.onnx_graph import Shape, shapes_of

__all__ = ['annotate', 'register']

# Attributes of ``box_nms`` nodes: how many classes the boxes may be of, and how many rows there are, how wide.
_CLASSES, _ROWS, _WIDTH = '__classes__', '__rows__', '__width__'


def annotate(graph: Graph, inputs: Mapping[str, Shape], classes: int) -> None:
    """Write into a graph of plain operators what the suppression of boxes has to know beforehand."""
    shapes = shapes_of(graph, inputs)
    for node in graph.nodes():
        if node.op == '_contrib_box_nms':
            _, rows, width = shapes[id(node), 0]
            node.attrs.update({_CLASSES: str(classes), _ROWS: str(rows), _WIDTH: str(width)})


class _Nodes:
    """The nodes that replace one operator, under names that begin with its own."""

    def __init__(self, name: str, kwargs: Dict[str, Any]) -> None:
        from onnx.helper import make_node

        self.name, self._make, self._initializers = name, make_node, kwargs['initializer']
        self.made: List[Any] = []
        self._count = 0

    def constant(self, value: Any, dtype: Any) -> str:
        """Return an array as an initializer."""
        from onnx import numpy_helper

        self._count += 1
        name = f'{self.name}_constant{self._count}'
        self._initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, last: bool = False, **attributes: Any) -> Any:
        """Return a node; the name of its output, or several. The ``last`` has the operator's own name."""
        self._count += 1
        names = [self.name] if last else [f'{self.name}_{op.lower()}{self._count}_{i}' for i in range(outputs)]
        self.made.append(self._make(op, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def slice(self, x: str, axis: int, begin: int, end: int) -> str:
        return self.add('Slice', x, self.ints(begin), self.ints(end), self.ints(axis))


def _inputs(node: Dict[str, Any], kwargs: Dict[str, Any]) -> Any:
    from mxnet.onnx.mx2onnx._op_translations import _op_translations_opset12 as translations

    return translations.get_inputs(node, kwargs)


def _at_least(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``x >= scalar``, which gives 1 or 0."""
    name, inputs, attrs = _inputs(node, kwargs)
    nodes = _Nodes(name, kwargs)
    reached = nodes.add('GreaterOrEqual', inputs[0], nodes.constant(float(attrs['scalar']), np.float32))
    nodes.add('Cast', reached, to=1, last=True)
    return nodes.made


def _logarithm(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``log2``."""
    name, inputs, _ = _inputs(node, kwargs)
    nodes = _Nodes(name, kwargs)
    nodes.add('Mul', nodes.add('Log', inputs[0]), nodes.constant(1 / np.log(2), np.float32), last=True)
    return nodes.made


def _gather(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``gather_nd``, whose indices are along the first axis in MXNet, and along the last here."""
    name, (array, places), _ = _inputs(node, kwargs)
    nodes = _Nodes(name, kwargs)
    turned = nodes.add('Transpose', nodes.add('Cast', places, to=7), perm=[1, 2, 0])
    nodes.add('GatherND', array, turned, last=True)
    return nodes.made


def _aligned(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``ROIAlign`` of boxes ``(image, x1, y1, x2, y2)``; those of image -1 show image 0, and are not used."""
    name, (maps, boxes), attrs = _inputs(node, kwargs)
    nodes = _Nodes(name, kwargs)
    image = nodes.add('Squeeze', nodes.slice(boxes, 1, 0, 1), nodes.ints(1))
    image = nodes.add('Cast', nodes.add('Relu', image), to=7)
    height, width = (int(side) for side in attrs['pooled_size'].strip('()').split(','))
    nodes.add(
        'RoiAlign',
        maps,
        nodes.slice(boxes, 1, 1, 5),
        image,
        last=True,
        mode='avg',
        output_height=height,
        output_width=width,
        sampling_ratio=int(attrs['sample_ratio']),
        spatial_scale=float(attrs['spatial_scale']),
    )
    return nodes.made


def _suppressed(node: Dict[str, Any], **kwargs: Any) -> List[Any]:
    """Translate ``box_nms`` of rows (N, R, W), best first: what is kept, then rows of -1.

    The rows are sorted by score and cut to ``topk``. ``NonMaxSuppression`` then names those that are kept, by image,
    class and row; they are marked, and come first by one more sorting.
    """
    name, (rows,), attrs = _inputs(node, kwargs)
    nodes = _Nodes(name, kwargs)
    score, start = int(attrs.get('score_index', 1)), int(attrs.get('coord_start', 2))
    label = -1 if attrs.get('force_suppress', 'False') in ('True', '1') else int(attrs.get('id_index', -1))
    count, width = int(attrs[_ROWS]), int(attrs[_WIDTH])
    kept = min(int(attrs.get('topk', -1)), count) if int(attrs.get('topk', -1)) > 0 else count

    def column(x: str, place: int) -> str:
        return nodes.add('Squeeze', nodes.slice(x, 2, place, place + 1), nodes.ints(2))

    def best(scores: str, x: str, number: int) -> str:
        _, places = nodes.add('TopK', scores, nodes.ints(number), outputs=2, axis=1, largest=1, sorted=1)
        places = nodes.add('Expand', nodes.add('Unsqueeze', places, nodes.ints(2)), nodes.ints(1, 1, width))
        return nodes.add('GatherElements', x, places, axis=1)

    ordered = best(column(rows, score), rows, kept)
    scores = nodes.slice(ordered, 2, score, score + 1)  # (N, R, 1)
    by_class = nodes.add('Transpose', scores, perm=[0, 2, 1])
    if label >= 0:
        classes = nodes.constant(np.arange(int(attrs[_CLASSES])).reshape(1, -1, 1), np.float32)
        own = nodes.add('Transpose', nodes.slice(ordered, 2, label, label + 1), perm=[0, 2, 1])
        difference = nodes.add('Abs', nodes.add('Sub', own, classes))
        here = nodes.add('Less', difference, nodes.constant(0.5, np.float32))
        by_class = nodes.add('Where', here, by_class, nodes.constant(-1e30, np.float32))
    found = nodes.add(
        'NonMaxSuppression',
        nodes.slice(ordered, 2, start, start + 4),
        by_class,
        nodes.ints(kept),
        nodes.constant([float(attrs.get('overlap_thresh', 0.5))], np.float32),
        nodes.constant([float(attrs.get('valid_thresh', 0))], np.float32),
    )
    places = nodes.add('Gather', found, nodes.ints(0, 2), axis=1)  # image and row
    none = nodes.add('Mul', nodes.add('Squeeze', scores, nodes.ints(2)), nodes.constant(0, np.float32))
    number = nodes.add('Slice', nodes.add('Shape', found), nodes.ints(0), nodes.ints(1), nodes.ints(0))
    ones = nodes.add('Expand', nodes.constant([1], np.float32), number)
    mark = nodes.add('ScatterND', none, places, ones)  # (N, R): 1 for what is kept
    marked = nodes.add('Greater', nodes.add('Unsqueeze', mark, nodes.ints(2)), nodes.constant(0.5, np.float32))
    left = nodes.add('Where', marked, ordered, nodes.constant(-1, np.float32))
    order = nodes.add('Sub', mark, nodes.constant(np.arange(kept).reshape(1, -1) / (2 * kept), np.float32))
    result = best(order, left, kept)
    if kept < count:  # MXNet gives as many rows as it gets
        rest = nodes.add('Mul', nodes.slice(rows, 1, kept, count), nodes.constant(0, np.float32))
        rest = nodes.add('Sub', rest, nodes.constant(1, np.float32))
        result = nodes.add('Concat', result, rest, axis=1)
    nodes.add('Identity', result, last=True)
    return nodes.made


def register(graph_of: Any) -> None:
    """Let MXNet's exporter write these operators."""
    for op, write in (
        ('_greater_equal_scalar', _at_least),
        ('log2', _logarithm),
        ('gather_nd', _gather),
        ('_contrib_ROIAlign', _aligned),
        ('_contrib_box_nms', _suppressed),
    ):
        graph_of.register(op, 13)(write)
