"""Networks and parameter files, for tests."""

import struct

import mxnet as mx
from mxnet.gluon import nn

from model import get_model
from model.parameters.file_format import write_params_file


def initialised(name='cifar_atac_resnet8_v2', **options):
    net = get_model(name, **options)
    net.initialize(mx.init.MSRAPrelu())
    return net


def values(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def written(arrays, path):
    with open(path, 'wb') as file:
        write_params_file(file, arrays)
    return path


def in_older_form(array, version):
    """Return an array as MXNet wrote it: up to 0.9 (0), in 0.10 and 0.11 (1), today (2), with NumPy's shapes (3)."""
    flag = {'float32': 0, 'float64': 1, 'float16': 2, 'uint8': 3, 'int32': 4}[array.dtype.name]
    if version == 0:
        shape = struct.pack(f'<I{array.ndim}I', array.ndim, *array.shape)
    else:
        kind = struct.pack('<i', 0) if version > 1 else b''
        magic = struct.pack('<I', 0xF993FAC8 + version - 1)
        shape = magic + kind + struct.pack(f'<i{array.ndim}q', array.ndim, *array.shape)
    return shape + struct.pack('<iii', 1, 0, flag) + array.tobytes()


def in_older_forms(arrays, path, version):
    pieces = [struct.pack('<QQQ', 0x112, 0, len(arrays)), *(in_older_form(a, version) for a in arrays.values())]
    pieces += [struct.pack('<Q', len(arrays)), *(struct.pack('<Q', len(name)) + name.encode() for name in arrays)]
    path.write_bytes(b''.join(pieces))
    return path


def small(value):
    net = nn.Dense(2, in_units=2)
    net.initialize(mx.init.Constant(value))
    return net
