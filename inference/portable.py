"""Load an exported network with only MXNet and NumPy. Exported folders contain a copy of this file, as load.py.

    from load import load
    net, info = load()                # the fastest form in the folder; load(kind='mxnet') for the plain one
    logits = net(images)              # (N, 3, H, W) float32 NDArray -> (N, classes); info['preprocessing'] says how

    boxes, scores, labels = net(data, sizes)     # of a detector; info['inputs'] says how

Files are checked against the digests in export.json, and the sizes that they claim are not trusted: for a damaged file
a ValueError says which it is. ``python load.py`` checks all files and prints what the folder contains.
"""

import json
import os
import struct
from typing import Any, Callable, Dict, Optional, Tuple

import mxnet as mx
import numpy as np

from inference.portable_files import AGAIN, INFO, DamagedExport, check, content, digest, read_info
from model.parameters.params_format import decode_params, not_finite

__all__ = [
    'INFO',
    'DamagedExport',
    'check',
    'content',
    'digest',
    'load',
    'read_arrays',
    'read_info',
    'read_symbol',
    'reason',
    'restore',
]


def read_arrays(data: bytes) -> Dict[str, np.ndarray]:
    """Return the arrays of a parameter file by their names. Raises ``ValueError`` if it is damaged."""
    try:
        arrays = decode_params(data)
    except (ValueError, struct.error) as error:
        raise ValueError(f'it is not an intact parameter file: {error}') from error
    wrong = not_finite(arrays)
    if wrong:
        raise ValueError(wrong)
    # SymbolBlock.imports wants these prefixes, networks have none.
    return {name[4:] if name[:4] in ('arg:', 'aux:') else name: array for name, array in arrays.items()}


def read_symbol(text: bytes) -> mx.sym.Symbol:
    """Raise ``ValueError`` unless its nodes come after their inputs, which MXNet's reader takes for granted."""
    try:
        graph = json.loads(text.decode('utf-8'))
        nodes = graph['nodes']
        for place, node in enumerate(nodes):
            attrs = node.get('attrs', {})
            texts = [node['op'], node['name'], *attrs, *attrs.values()]
            sources = [*node['inputs'], *([source] for source in node.get('control_deps', ()))]
            if not all(isinstance(text, str) for text in texts) or not all(0 <= s[0] < place for s in sources):
                raise ValueError(f'its node {place}')
        ends = [*graph['arg_nodes'], *(head[0] for head in graph['heads'])]
        if not ends or not all(0 <= end < len(nodes) for end in ends):
            raise ValueError('its outputs')
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'it is not an intact symbol: {reason(error)}') from error
    return mx.sym.load_json(text.decode('utf-8'))


def restore(arrays: Dict[str, mx.nd.NDArray], entry: Dict[str, Any]) -> Dict[str, mx.nd.NDArray]:
    """Weights that were saved in int8, with one scale for each output channel, as float32.

    The fused operators of MXNet turn them into the same integers again.
    """
    restored = dict(arrays)
    for name in entry.get('int8', ()):
        scale = restored.pop(name + ':scale').asnumpy()
        restored[name] = mx.nd.array(arrays[name].asnumpy().astype(np.float32) * scale)
    for name in entry.get('bfloat16', ()):
        restored[name] = mx.nd.amp_cast(restored[name], dtype=np.dtype([('bfloat16', np.uint16)]))
    return restored


def reason(error: Exception) -> str:
    """Return what an error says, in one line; MXNet's own come with a traceback before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if lines[0].startswith('Traceback') else 0]


def _parsed(folder: str, name: Any, info: Dict[str, Any], parse: Callable[[bytes], Any]) -> Any:
    data = content(folder, name, info)
    try:
        return parse(data)
    except (ValueError, mx.MXNetError) as error:
        raise DamagedExport(f'{os.path.join(folder, name)} is damaged: {reason(error)}; {AGAIN}') from error


def _read(folder: str, info: Dict[str, Any], entry: Dict[str, Any]) -> Tuple[mx.sym.Symbol, Dict[str, mx.nd.NDArray]]:
    symbol = _parsed(folder, entry['symbol'], info, read_symbol)
    arrays = _parsed(folder, entry['params'], info, read_arrays)
    missing = sorted(set(symbol.list_inputs()) - set(arrays) - set(entry.get('inputs', ['data'])))
    if missing:
        raise DamagedExport(f'{folder}: {entry["params"]} lacks the array {missing[0]!r}; {AGAIN}')
    return symbol, restore({key: mx.nd.array(value, dtype=value.dtype) for key, value in arrays.items()}, entry)


def load(
    folder: Optional[str] = None, kind: Optional[str] = None
) -> Tuple[Callable[..., mx.nd.NDArray], Dict[str, Any]]:
    """Return ``(net, info)``; ``kind`` is 'optimized' or 'mxnet', by default the first of them that the folder has."""
    folder = folder or os.path.dirname(os.path.abspath(__file__))
    info = read_info(folder)
    kinds = [name for name in ('optimized', 'mxnet') if name in info['files']]
    kind = kind or (kinds or ['mxnet'])[0]
    if kind not in kinds:
        raise ValueError('{} holds no {} network, it has: {}'.format(folder, kind, ', '.join(kinds) or 'none'))
    for name in info.get('sha256', ()):
        if name.endswith('.py'):
            content(folder, name, info)
    entry = info['files'][kind]
    symbol, arrays = _read(folder, info, entry)
    inputs, names = list(entry.get('inputs', ['data'])), symbol.list_inputs()
    data = [place for place, name in enumerate(names) if name in inputs]
    flags = [
        ('static_alloc', True),
        ('static_shape', True),
        ('data_indices', data),
        ('param_indices', [place for place in range(len(names)) if place not in data]),
    ]
    run = mx.nd.CachedOp(symbol, flags)
    piece = entry.get('piece')

    def net(*given: mx.nd.NDArray) -> mx.nd.NDArray:
        if piece and len(given[0]) > piece:
            parts = [net(given[0][start : start + piece]) for start in range(0, len(given[0]), piece)]
            return mx.nd.concat(*parts, dim=0)
        values = dict(arrays, **dict(zip(inputs, given)))
        return run(*(values[name] for name in names))

    return net, info


if __name__ == '__main__':
    print(json.dumps(check(os.path.dirname(os.path.abspath(__file__))), indent=2))
