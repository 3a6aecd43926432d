"""Allowed values of flags and arguments about trained networks, importable without MXNet."""

__all__ = [
    'ASKED',
    'COMPARED',
    'DETECTORS',
    'ENGINES',
    'EXPORTS',
    'FILLS',
    'FOREIGN',
    'LOADED',
    'MODES',
    'PRECISIONS',
    'RUNTIMES',
    'THRESHOLD',
]

# How MXNet runs a network: op by op, as a graph, as a graph with fixed memory; `model.hybridization` says by what.
MODES = ('imperative', 'hybrid', 'static')
# Number formats of an optimized network, and what runs it.
PRECISIONS = ('float32', 'bfloat16', 'int8', 'float16')
RUNTIMES = ('onnxruntime', 'openvino')
ENGINES = ('auto', 'own', 'mxnet', *RUNTIMES)
# Forms of a network in an exported folder, as `inference.export_kinds` writes them; those that are only written when
# asked for; those that `inference.export.load_exported` runs, the fastest first.
EXPORTS = ('mxnet', 'optimized', 'onnx', 'onnx-pixels', 'onnx-images', 'onnx-int8', 'openvino', 'engine', 'torch')
ASKED = ('onnx-pixels', 'onnx-images', 'onnx-int8', 'openvino', 'engine', 'torch')
# Those of detectors, and of networks that are not the project's.
DETECTORS = ('mxnet', 'onnx', 'openvino')
FOREIGN = ('mxnet', 'optimized', 'onnx', 'openvino')
LOADED = ('engine', 'optimized', 'mxnet', 'onnx')
# Ways to run a network that are compared: 'defaults' is 'hybrid' in a process of its own, with the number of threads
# that MXNet chooses; 'optimized' is MXNet's optimized graph, 'own' the project's engine.
COMPARED = (*MODES, 'defaults', 'optimized', 'own', *RUNTIMES, 'torch')
# What pixels get that are covered to test a heat map.
FILLS = ('blur', 'mean')
# Lowest score of a box that is reported.
THRESHOLD = 0.3
