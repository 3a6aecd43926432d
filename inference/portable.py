"""Loads an exported network with MXNet and NumPy alone. A copy of this file lies in every exported folder, as load.py.

    from load import load
    net, info = load()                # the fastest form in the folder; load(kind='mxnet') for the plain one
    logits = net(images)              # (N, 3, H, W) float32 NDArray -> (N, classes); info['preprocessing'] says how

``python load.py`` prints what the folder holds.
"""

import json
import os
from typing import Any, Callable, Dict, Optional, Tuple

import mxnet as mx
import numpy as np

__all__ = ['INFO', 'load', 'read_info', 'restore']

INFO = 'export.json'


def read_info(folder: str) -> Dict[str, Any]:
    """What the folder holds: model, class_names, preprocessing, files."""
    with open(os.path.join(folder, INFO), encoding='utf-8') as file:
        return json.load(file)


def _beside(folder: str, name: str) -> str:
    """The path of a file in the folder; ``ValueError`` for a name that leads out of it."""
    if os.path.basename(name) != name or name in ('', '.', '..'):
        raise ValueError(f'{os.path.join(folder, INFO)}: the name {name!r} leads out of the folder')
    return os.path.join(folder, name)


def restore(arrays: Dict[str, mx.nd.NDArray], entry: Dict[str, Any]) -> Dict[str, mx.nd.NDArray]:
    """Weights that were saved in int8, with one scale for each output channel, as float32; the fused operators of
    MXNet turn them into the same integers again."""
    restored = dict(arrays)
    for name in entry.get('int8', ()):
        scale = restored.pop(name + ':scale').asnumpy()
        restored[name] = mx.nd.array(arrays[name].asnumpy().astype(np.float32) * scale)
    for name in entry.get('bfloat16', ()):
        restored[name] = mx.nd.amp_cast(restored[name], dtype=np.dtype([('bfloat16', np.uint16)]))
    return restored


def load(
    folder: Optional[str] = None, kind: Optional[str] = None
) -> Tuple[Callable[[mx.nd.NDArray], mx.nd.NDArray], Dict[str, Any]]:
    """Return ``(net, info)``; ``kind`` is 'optimized' or 'mxnet', by default the first of them that the folder has."""
    folder = folder or os.path.dirname(os.path.abspath(__file__))
    info = read_info(folder)
    kinds = [name for name in ('optimized', 'mxnet') if name in info['files']]
    kind = kind or (kinds or ['mxnet'])[0]
    if kind not in kinds:
        raise ValueError('{} holds no {} network, it has: {}'.format(folder, kind, ', '.join(kinds) or 'none'))
    entry = info['files'][kind]
    symbol = mx.sym.load(_beside(folder, entry['symbol']))
    arrays = restore(mx.nd.load(_beside(folder, entry['params'])), entry)
    names = symbol.list_inputs()
    data = [place for place, name in enumerate(names) if name == 'data']
    flags = [
        ('static_alloc', True),
        ('static_shape', True),
        ('data_indices', data),
        ('param_indices', [place for place in range(len(names)) if place not in data]),
    ]
    run = mx.nd.CachedOp(symbol, flags)
    piece = entry.get('piece')

    def net(images: mx.nd.NDArray) -> mx.nd.NDArray:
        if piece and len(images) > piece:
            parts = [net(images[start : start + piece]) for start in range(0, len(images), piece)]
            return mx.nd.concat(*parts, dim=0)
        return run(*(images if name == 'data' else arrays[name] for name in names))

    return net, info


if __name__ == '__main__':
    print(json.dumps(read_info(os.path.dirname(os.path.abspath(__file__))), indent=2))
