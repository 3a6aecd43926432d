"""Convert a graph to int8: calibrated on real images, with sensitive and cheap parts left in float32."""

from __future__ import annotations

from typing import Dict, List, Set, Tuple

import mxnet as mx
import numpy as np

from environment.native_log import without_lines
from inference.graph import INPUT, Graph, Node
from inference.optimization.onednn import fused_for_int8

__all__ = ['kept_in_float', 'quantize']

_LAYERS = ('Convolution', 'FullyConnected')
# MXNet's int8 product takes signed numbers only, and gets unsigned ones behind a ReLU.
_PRODUCTS = ('elemwise_mul', 'broadcast_mul')
# MXNet reports what it leaves in float32 at our request, in several lines per gate.
_TOLD_OF_EVERY_GATE = 'is excluded automatically|only supports relu, exclude|Subgraph backend MKLDNN is activated'


def _is_global_pool(node: Node) -> bool:
    return node.op == 'Pooling' and node.true('global_pool')


def _behind_pools(graph: Graph) -> Set[int]:
    """Ids of the nodes that compute on vectors: behind a global pool, up to where they meet a map again.

    The pools themselves are not among them: they read whole maps, in int8 at a quarter of the cost.
    """
    vectors: Set[int] = set()
    for node in graph.nodes():
        inputs = [out.node for out in node.inputs if out.node.op != 'null']
        vector = inputs and all(_is_global_pool(source) or id(source) in vectors for source in inputs)
        if vector and not _is_global_pool(node):
            vectors.add(id(node))
    return vectors


def _has_no_int8(node: Node) -> bool:
    return node.op in _PRODUCTS or (node.op == 'Activation' and node.get('act_type', '') != 'relu')


def kept_in_float(graph: Graph, first_layer: bool) -> List[str]:
    """Return the nodes that stay in float32.

    All that compute on vectors but the classifier, since gates are small and decide about whole channels, and products;
    the first layer of the network too with ``first_layer``.
    """
    vectors = _behind_pools(graph)
    layers = [node for node in graph.nodes() if node.op in _LAYERS]
    kept = [
        node.name
        for node in graph.nodes()
        if node.op != 'null' and node is not layers[-1] and (id(node) in vectors or _has_no_int8(node))
    ]
    return kept + [layers[0].name] if first_layer else kept


def quantize(
    graph: Graph, images: np.ndarray, first_layer: bool, batch_size: int = 8
) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """Return the fused symbol with int8 layers, and its parameters; ranges are those met in ``images`` (N, 3, H, W)."""
    from mxnet.contrib.quantization import quantize_model

    symbol = graph.symbol()
    arrays = {name: mx.nd.array(value) for name, value in graph.params.items()}
    args = {name: arrays[name] for name in symbol.list_arguments() if name != INPUT}
    aux = {name: arrays[name] for name in symbol.list_auxiliary_states()}
    fused = fused_for_int8(symbol)
    kept = _names_of_fused(fused, set(kept_in_float(graph, first_layer)))
    batch_size = min(batch_size, len(images))
    whole = images[: len(images) // batch_size * batch_size]  # the iterator would repeat images
    with without_lines(_TOLD_OF_EVERY_GATE):
        quantized, args, aux = quantize_model(
            fused,
            args,
            aux,
            data_names=(INPUT,),
            label_names=None,
            ctx=mx.cpu(),
            excluded_sym_names=kept,
            calib_mode='naive',
            calib_data=mx.io.NDArrayIter(whole, batch_size=batch_size),
            quantized_dtype='auto',
            quantize_mode='full',
            quantize_granularity='tensor-wise',
            logger=None,
        )
    return fused_for_int8(quantized), {name: value.asnumpy() for name, value in {**args, **aux}.items()}


def _names_of_fused(symbol: mx.sym.Symbol, layers: Set[str]) -> List[str]:
    """Return the names of the fused nodes of a symbol that contain one of ``layers``."""
    names = []
    for node in Graph.of(symbol, {}).nodes():
        inside = {row['name'] for table in node.subgraphs or () for row in table['nodes']}
        if node.name in layers or inside & layers:
            names.append(node.name)
    return names
