"""List the networks that the registry battery ranges over.

The suite takes each backbone, each unit and each option in its smallest setting; the published networks, the deepest
plain ones and a sample of the compositions that nobody published are marked ``heavy``. A new row in a table is drawn
into the sample by itself.
"""

import random
import re
from typing import Any, Dict, NamedTuple, Tuple

import pytest

from model import input_size, list_models
from model.attention import ATTENTIONS

# Parameters whose gradient is 0 up to rounding, which differs between processors: constants
# that the norm or softmax after them cancels. The originals' files have them.
WITHOUT_GRADIENT = (
    'merge.conv.bias',
    'attention.mask.bias',
    'attention.squeeze.bias',
    'unit.squeeze.bias',
    *(f'{part}.{layer}.bias' for part in ('local', 'context') for layer in (0, 3)),
)


class Case(NamedTuple):
    name: str
    options: Dict[str, Any]

    @property
    def input_shape(self) -> Tuple[int, ...]:
        side = input_size(self.name)
        # Smaller maps would leave batch norms only a few values, and gradients at the mercy of rounding.
        return (4, 3, side, side) if side <= 32 else (4, 3, 128, 128) if side == 448 else (4, 3, 64, 64)

    @property
    def classes(self) -> int:
        return self.options.get('classes', 10 if self.name.startswith('cifar') else 1000)

    def __str__(self):
        return ','.join([self.name, *(f'{key}={value}' for key, value in self.options.items())])


# All others are sampled: with attention, they differ from smaller members only in a number.
DEEP = (
    'resnet101',
    'resnet152',
    'wide_resnet',
    '110',
    'resnet26_v2',
    'resnet32_v2',
    '164',
    '52_4',
    'resnext101',
    '_448',
)
ACTIVATIONS = ('prelu', 'elu', 'selu', 'gelu', 'swish', 'xunit', 'atac_spatial', 'atac_sequential')
BACKBONES = (
    'cifar_resnet8_v2',
    'cifar_resnet8_v1',
    'cifar_resnet11bn_v1',
    'cifar_preresnet11',
    'cifar_wrn10_1',
    'cifar_resnext11_2x8d',
    'cifar_residual_attention92_pooled',
    'resnet18_v1b',
    'mobilenet_v2',
    'mnasnet0_5',
)
ATTENTION_NAMES = (*ATTENTIONS, *(f'dca_{unit}' for unit, row in ATTENTIONS.items() if row.connects), 'dia')

CASES = [
    *(Case(name, {}) for name in BACKBONES),
    *(Case(f'cifar_{attention}_resnet20bn_v1', {}) for attention in ATTENTION_NAMES),
    Case('resnet50_v1b', {}),
    Case('dca_sk_mnasnet0_5', {'hand_on': 'weights', 'adapter': 'bottleneck'}),
    Case('cifar_dca_sk_resnext11_2x8d', {}),
    Case('cifar_sk_preresnet11', {}),
    Case('cifar_sk_resnet11bn_v1', {'sk_branches': 'grouped', 'channels': (16, 128, 128, 128)}),
    Case('cifar_dca_cbam_wrn10_2', {'adapter_bias': False, 'merge_bias': True}),
    Case('cifar_atac_dca_se_resnet14_v2', {'adapter': 'bottleneck', 'reduction': (4, 8)}),
    Case('cifar_atac_dia_preresnet20', {'reduction': 8}),
    Case('cifar_simam_preresnet11', {'inside': True}),
    Case('cifar_share_se_resnet20bn_v1', {}),
    Case('cifar_share_cbam_resnet14_v2', {}),
    Case('cifar_share_sk_resnet20bn_v1', {}),
    Case('cifar_share_aff_wrn16_1', {'reduction': 8}),
    Case('share_eca_mobilenet_v2', {}),
    Case('cifar_dia_resnet20bn_v1', {'layers': 2, 'dropout': 0.0, 'cell_output': 'tanh', 'bottleneck': False}),
    Case('cifar_dia_wrn16_1', {'layers': 3, 'dropout': 0.0, 'reduction': 1}),
    Case('cifar_dca_se_resnet14_v2', {'merge': 'sum'}),
    Case('cifar_dca_ge_resnet14_v1', {'merge': 'softmax', 'through_stages': False}),
    Case('cifar_dca_cbam_resnet14_v1', {'merge': 'weighted', 'connected': 'channel'}),
    Case('cifar_dca_cbam_resnet14_v2', {'connected': 'spatial', 'through_stages': False}),
    Case('cifar_dia_resnet20bn_v1', {'norm': 'none', 'shortcuts': False}),
    Case('cifar_dia_preresnet20', {'norm': 'none'}),
    Case('cifar_dia_wrn16_1', {'shortcuts': False}),
    Case('cifar_se_resnet8_v2', {'norm': 'none', 'shortcuts': False}),
    Case('resnet18_v1b', {'norm': 'none', 'shortcuts': False}),
    Case('cifar_ca_resnext11_2x8d', {'inside': True, 'reduction': 4}),
    Case('ca_mobilenet_v2', {}),
    Case('cifar_aff_wrn10_1', {'reduction': (4, 8)}),
    Case('cifar_atac_iaff_resnet14_v2', {'doubled': True, 'first_stage': 2}),
    Case('iaff_mnasnet0_5', {}),
    Case('aff_resnet18_v1b', {'last_gamma': True}),
    *(Case('cifar_resnet8_v2', {'act_type': act}) for act in ACTIVATIONS),
    Case('cifar_atac_resnet8_v2', {'act_global': True}),
    Case('cifar_atac_resnet8_v2', {'act_relu': False}),
    Case('cifar_atac_resnet8_v2', {'act_kernel': 3, 'act_placement': 'after'}),
    Case('cifar_atac_dca_se_resnet8_v2', {'act_placement': 'before'}),
    Case('cifar_atac_resnet8_v2', {'act_reduction': 4, 'classes': 100, 'final_drop': 0.5}),
    Case('cifar_atac_resnet8_v2', {'act_layers': 1, 'act_order': 'pre'}),
    Case('cifar_resnet8_v2', {'channels': (16, 16, 16, 32)}),  # a stride without a change of width
    Case('cifar_dia_resnet8_v1', {'stem_relu': True}),
    Case('cifar_bam_resnet8_v1', {'reduction': 4}),
    Case('cifar_sk_resnet8_v1', {'reduction_divisor': 8, 'sk_split': True}),
    Case('cifar_se_resnet8_v2', {'input_norm': False, 'activated_shortcut': True, 'outer_norm': 'start'}),
    Case('cifar_preresnet11', {'activated_shortcut': True, 'outer_norm': 'start'}),
    Case('cifar_wrn10_1', {'input_norm': True, 'stem_norm': True}),
    Case('se_resnet26_v1', {'conv_bias': True, 'stem_pool': 'ceil', 'unit_bias': False, 'reduction_divisor': 8}),
    Case('cbam_resnext26_2x16d', {'unit_bias': False}),
    Case('gc_resnet26_v1b', {'tiered_stem': True, 'stem_pool': 'none', 'inside': True, 'norm_epsilon': 1e-6}),
    Case('bam_resnet18_v1b', {}),
    Case(
        'cifar_residual_attention56_paper',
        {'mask_type': 'channel', 'residual_unit': 'resnext', 'module_units': (2, 1, 2)},
    ),
    Case(
        'cifar_residual_attention56_paper',
        {
            'mask_type': 'spatial',
            'mask_structure': 'convolutions',
            'attention_learning': 'naive',
            'residual_unit': 'inception',
        },
    ),
    Case('sk_resnet18_v1b', {'sk_split': True, 'reduction': 8}),
    Case('eca_mobilenet_v2', {'inside': True, 'width': 0.35, 'expand_first': True, 'classifier_bias': False}),
    Case('se_mobilenet_v2', {'inside': True, 'gate': 'hard_sigmoid', 'width': 0.5, 'width_divisor': 1}),
    Case('mnasnet0_5', {'scaled_stem': True}),
    Case('semnasnet0_5', {}),
    Case('atac_resnet18_v1b', {'act_layers': 4, 'deep_stem': True, 'avg_down': True}),
    Case('resnet18_v1b', {'dilated': True, 'last_gamma': True, 'final_drop': 0.1}),
    Case('atac_resnet18_v1b', {'use_global_stats': True, 'act_type': 'atac_spatial', 'act_kernel': 5}),
]

_HERE = {case.name for case in CASES if not case.options}
# Deeper by more modules only, and minutes each.
_LONG = ('cifar_residual_attention236_paper', 'cifar_residual_attention452_paper')
PUBLISHED = [name for name in list_models() if name.published and name not in (*_HERE, *_LONG)]
_OTHERS = [name for name in list_models() if not name.published and name not in _HERE]
_SHALLOW = [name for name in _OTHERS if not any(deep in name for deep in DEEP)]
SAMPLE = random.Random(0).sample(_SHALLOW, 12)
_DEEPEST = [name for name in _OTHERS if name in ('resnet101_v1b', 'resnet152_v1b')]


def _covering(names):
    """Return a few of the networks that together have every unit, connection, activation and backbone of all."""
    parts = {name: {part.strip('0123456789') for part in re.split('_(?=[a-z])', name)} for name in names}
    missing, chosen = set().union(*parts.values()), []
    while missing:
        chosen.append(max(names, key=lambda name: len(parts[name] & missing)))
        missing -= parts[chosen[-1]]
    return chosen


def _heavy(names):
    cases = [Case(str(name), dict(name.published.options) if name.published else {}) for name in names]
    return [pytest.param(case, marks=pytest.mark.heavy) for case in cases]


# That the output is the same however a network is run is tested on all heavy networks; the rest depends on the parts,
# and is tested on networks that cover them.
_COVERING = _covering([*SAMPLE, *PUBLISHED])
COVERING = _heavy(_COVERING)
HEAVY = [*COVERING, *_heavy(name for name in (*PUBLISHED, *_DEEPEST, *SAMPLE) if name not in _COVERING)]
