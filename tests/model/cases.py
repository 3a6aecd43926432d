"""The networks that the registry battery ranges over: every listed name, and each option in its smallest setting.

A new backbone or unit is tested the day it gets its row in the tables: it is listed then.
"""

from typing import Any, Dict, NamedTuple, Tuple

from model import input_size, list_models


class Case(NamedTuple):
    name: str
    options: Dict[str, Any]

    @property
    def input_shape(self) -> Tuple[int, ...]:
        side = input_size(self.name)
        return (2, 3, side, side) if side <= 32 else (2, 3, 64, 64)

    def __str__(self):
        return ','.join([self.name, *(f'{key}={value}' for key, value in self.options.items())])


# These members differ from the others by a number alone; counting covers them.
DEEP = (
    'resnet101',
    'resnet152',
    'resnet26',
    'resnet32',
    'mnasnet0_75',
    'mnasnet1_0',
    'mnasnet1_3',
    'residual_attention92',
)

ACTIVATIONS = ('relu6', 'prelu', 'elu', 'selu', 'gelu', 'swish', 'xunit', 'atac_spatial', 'atac_sequential')

CASES = [
    *(Case(str(name), {}) for name in list_models() if not any(deep in name for deep in DEEP)),
    *(Case('cifar_resnet8_v2', {'act_type': act}) for act in ACTIVATIONS),
    Case('cifar_atac_resnet8_v2', {'act_global': True}),
    Case('cifar_atac_resnet8_v2', {'act_relu': False}),
    Case('cifar_atac_resnet8_v2', {'act_reduction': 4, 'classes': 100, 'final_drop': 0.5}),
    Case('cifar_atac_resnet8_v2', {'act_layers': 1, 'act_order': 'pre'}),
    Case('cifar_resnet8_v2', {'channels': (16, 16, 16, 32)}),  # a stride without a change of width
    Case('atac_resnet18_v1b', {'act_layers': 4, 'deep_stem': True, 'avg_down': True}),
    Case('resnet18_v1b', {'dilated': True, 'last_gamma': True, 'final_drop': 0.1}),
    Case('atac_resnet18_v1b', {'use_global_stats': True, 'act_type': 'atac_spatial', 'act_kernel': 5}),
    Case('atac_mobilenet_v2', {'act_layers': 2, 'act_order': 'pre', 'classes': 10, 'final_drop': 0.0}),
    Case('mnasnet0_5', {'act_type': 'swish', 'original_init': True}),
    Case('cifar_residual_attention92', {'act_type': 'swish', 'act_layers': 2}),
    Case('cifar_atac_residual_attention92_pooled', {'mask_additions': True, 'final_drop': 0.5}),
]
