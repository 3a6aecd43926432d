"""The file net.py: the classes of a network, and how it is loaded and checked."""

from __future__ import annotations

import re
from typing import Optional

import mxnet as mx
from mxnet import gluon

from inference.torch_source.classes import written
from inference.torch_source.parts import LOADER, PARTS
from inference.torch_source.record import Unwritten, recorded

__all__ = ['Unwritten', 'torch_source']

_HEAD = '''"""{name} as a PyTorch module, which only needs torch.

    import net
    network = net.load()            # the parameters are in net.safetensors, beside this file
    logits = network(images)        # {inputs}

`python net.py` compares with answers that were computed when this file was written.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
'''
_INPUTS = '(N, 3, H, W) float32 -> (N, classes)'


def torch_source(net: gluon.HybridBlock, name: str, size: int = 32, inputs: Optional[str] = None) -> str:
    """Return the source of a module of PyTorch that computes what ``net`` does, in training too.

    ``net`` is initialised. It is run once, on an image of ``size`` pixels; the source serves all sizes. Parameters have
    the names that :func:`model.convert.to_state_dict` gives. :class:`Unwritten`, a ``ValueError``, says which of its
    operators or blocks has no counterpart.
    """
    context = next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.cpu())
    recordings = recorded(net, mx.nd.zeros((2, 3, size, size), ctx=context))
    found = written(net, recordings, {*PARTS, 'MXNetSELU', 'F', 'nn'})
    classes = found.classes
    if found.ties:
        last = classes[-1]
        at = next(place for place, line in enumerate(last) if line.startswith('    def forward')) - 1
        last[at:at] = [f"        share(self{block}, '{leaf}', self{owner})" for block, leaf, owner in found.ties]
    body = '\n\n\n'.join('\n'.join(lines) for lines in classes)
    needed = [name for name in PARTS if re.search(rf'(?<![\w.]){name}\(', body)]
    if 'InputNorm' in needed and 'BatchNorm' not in needed:
        needed.insert(0, 'BatchNorm')
    parts = [PARTS[name].strip('\n') for name in PARTS if name in needed]
    sections = [_HEAD.format(name=name, inputs=inputs or _INPUTS).strip('\n'), *parts, body]
    return '\n\n\n'.join([*sections, LOADER.strip('\n').replace('NETWORK', found.name)]) + '\n'
