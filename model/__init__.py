"""Attention networks by name, and their parameters.

from model import get_model, list_models, load_params
net = get_model('cifar_atac_resnet20_v2', classes=10)
load_params(net, 'cifar10.params')
"""

import environment  # threads and NumPy's names, before MXNet is imported

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')
environment.need('kernels')

import kernels
from model.count import Cost, count
from model.grammar import input_size
from model.listing import list_models
from model.parameters.load import load_params, read_manifest, save_params
from model.plugins import load_plugin
from model.registry import register_activation, register_attention, register_backbone
from model.zoo import get_model

__version__ = '0.1.0'
__all__ = [
    'Cost',
    '__version__',
    'count',
    'get_model',
    'input_size',
    'list_models',
    'load_params',
    'load_plugin',
    'read_manifest',
    'register_activation',
    'register_attention',
    'register_backbone',
    'save_params',
]

kernels.load()
