"""What the arguments of ``get_model`` may be: one rule for each, checked before anything is built."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence

from model.activation.atac import PLACEMENTS
from model.attention.cbam import CONNECTED
from model.attention.dca import ADAPTERS, MERGES
from model.attention.dia import OUTPUTS
from model.attention.se import GATES
from model.attention.sk import BRANCHES, HANDED_ON
from model.backbone.attention_module import LEARNING, MASK_STRUCTURES, MASK_TYPES
from model.backbone.residual_units import UNITS
from model.backbone.resnet_v1b import STEM_POOLS
from model.layers.initialization import INITIALIZATIONS

__all__ = ['RULES', 'Rule', 'check_options', 'one_of', 'positive', 'share', 'switch', 'whole']


class Rule(NamedTuple):
    """``check(value)`` says whether a value will do, ``allowed`` in words which do."""

    check: Callable[[Any], bool]
    allowed: str


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= low


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(low: int) -> Rule:
    """Whole numbers from ``low``."""
    return Rule(lambda value: _is_whole(value, low), f'whole numbers from {low}')


def positive() -> Rule:
    """Return numbers above 0."""
    return Rule(lambda value: _is_real(value) and 0 < value < float('inf'), 'numbers above 0')


def share(with_one: bool = False) -> Rule:
    """Return numbers from 0 to 1, without or ``with_one``."""
    check = lambda value: _is_real(value) and (0 <= value < 1 or with_one and value == 1)  # noqa: E731
    return Rule(check, 'numbers from 0 to 1' if with_one else 'numbers from 0 to below 1')


def switch(unset: bool = False) -> Rule:
    """Accept True and False, or 1 and 0; with ``unset`` also None, which leaves the choice to the network."""
    check = lambda value: (unset and value is None) or (isinstance(value, Integral) and value in (0, 1))  # noqa: E731
    return Rule(check, 'true, false' + (' and none' if unset else ''))


def one_of(words: Sequence[str]) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in words, ', '.join(map(repr, words)))


def _is_reduction(value: Any) -> bool:
    two = isinstance(value, (list, tuple)) and len(value) == 2
    return all(_is_whole(one, 1) for one in (value if two else [value]))


def _are_widths(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(_is_whole(one, 4) for one in value)


def _are_module_units(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(_is_whole(one, 1) for one in value)


_SWITCHES = (
    'act_relu act_global act_mxnet_gradient act_batch_stats act_sample_variance sample_variance use_global_stats '
    'zero_bias bottleneck shortcuts merge_bias through_stages adapter_bias unit_bias inside doubled sk_split '
    'original_init deep_stem tiered_stem conv_bias avg_down dilated last_gamma '
    'update_input_norm mask_additions '
    'input_norm stem_norm stem_relu activated_shortcut expand_first classifier_bias scaled_stem'
)

#: The rules of ``get_model``'s arguments. Those of ``norm`` and of ``act_type`` are with what makes them.
RULES: Dict[str, Rule] = {
    'classes': whole(1),
    'act_reduction': whole(1),
    'act_kernel': whole(1),
    'act_dilation': whole(1),
    'act_placement': one_of(PLACEMENTS),
    'act_layers': whole(0),
    'act_order': one_of(('bac', 'pre')),
    'reduction': Rule(
        _is_reduction, 'a whole number from 1, or two (in the first block of each stage, and in the others)'
    ),
    'reduction_divisor': whole(1),
    'gate': one_of(GATES),
    'norm_epsilon': positive(),
    'adapter': one_of(ADAPTERS),
    'merge': one_of(MERGES),
    'connected': one_of(CONNECTED),
    'layers': whole(1),
    'dropout': share(),
    'cell_output': one_of(OUTPUTS),
    'sk_branches': one_of(BRANCHES),
    'hand_on': one_of(HANDED_ON),
    'sge_groups': whole(1),
    'e_lambda': positive(),
    'first_stage': whole(1),
    'norm_momentum': share(),
    'final_drop': share(),
    'block_drop': share(),
    'outer_norm': one_of(('end', 'start')),
    'width': positive(),
    'width_divisor': whole(1),
    'stem_width': whole(1),
    'stem_pool': one_of(STEM_POOLS),
    'channels': Rule(_are_widths, 'four whole numbers from 4: the widths of the stem and the three stages'),
    'initialization': one_of(INITIALIZATIONS),
    'mask_type': one_of(tuple(MASK_TYPES)),
    'mask_structure': one_of(MASK_STRUCTURES),
    'attention_learning': one_of(LEARNING),
    'residual_unit': one_of(tuple(UNITS)),
    'module_units': Rule(
        _are_module_units, 'three whole numbers from 1: residual units before a module, in its trunk, between pools'
    ),
    'branch_norm': switch(unset=True),
    **{name: switch() for name in _SWITCHES.split()},
}


def check_options(name: str, options: Mapping[str, Any], rules: Mapping[str, Rule] = RULES) -> None:
    """Raise ``ValueError`` with the first of the ``options`` of the network ``name`` that its rule does not allow."""
    for key, value in options.items():
        if key in rules and not rules[key].check(value):
            raise ValueError(f'{name}: {key} is {value!r}; allowed: {rules[key].allowed}')
    for key, other, idle, why in _BESIDE:
        if options.get(key) and idle(options.get(other)):
            raise ValueError(f'{name}: {key} is {options[key]!r}, and {why}; leave {key} out')


#: Options that others leave without effect: option, the other, whether that one's value does so (None: not given), why.
_BESIDE = (
    (
        'dropout',
        'layers',
        lambda layers: layers in (None, 1),
        'it is between the layers of an LSTM of several: layers=2',
    ),
    ('reduction', 'bottleneck', lambda there: there in (False, 0), 'without a bottleneck nothing is reduced'),
    ('merge_bias', 'merge', lambda form: form not in (None, 'learned'), 'only the learned merge has one'),
    ('last_gamma', 'norm', lambda norm: norm == 'none', "norm is 'none', so there is no gamma"),
    ('branch_norm', 'norm', lambda norm: norm == 'none', "norm is 'none', so there is no norm"),
)
