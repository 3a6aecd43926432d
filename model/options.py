"""The keyword arguments of `get_model`, and a rule for each that is checked before anything is built.

Defaults are those of the published network. Arguments that belong to a unit have an effect only if the network has it.

All networks:
    classes: number of outputs.
    final_drop: dropout rate before the classifier.
    drop_path: stochastic depth, the rate of the last block (0); see `model.layers.drop_path`.
    norm: `'batch'` (default), `'group'`, `'none'` or a factory `(channels, **kwargs) -> layer`, for the network's own
        norms but not for those in activation units or of the images.
    shortcuts: False leaves out the shortcuts and their sums (CIFAR ResNets, ResNet-v1b and its relatives).
    norm_momentum: momentum of the running statistics of every batch norm, including those in the units (0.9; published
        are 0.9997 for MnasNet and 0.99 for CBAM's spatial norm, which suit runs of many steps).
    use_global_stats: batch norms use their running statistics in training too.
    act_batch_stats: exempt the norms in activation units from that, as open-atac does, where the option never reaches
        them.
    act_type: activation unit: `'relu'`, `'prelu'`, `'elu'`, `'selu'`, `'gelu'`, `'swish'`, `'xunit'`, `'atac'`,
        `'atac_spatial'` or `'atac_sequential'`; open-atac's `'ChaATAC'`, `'xUnit'` and so on work too.
    act_layers, act_order: how many stages use the unit, counted from the end (`'bac'`) or from the start (`'pre'`); the
        others keep ReLU.

Activation units:
    act_reduction, act_relu, act_global: the ATAC unit's reduction r (2), inner ReLU (True) and global context (False).
    act_kernel, act_dilation: kernel and dilation of the depth-wise convolutions in xUnit (kernel only) and in the
        spatial ATAC units (3, 1); act_kernel also sets the kernel of the ATAC unit's convolutions (1).
    act_placement: use ATAC `'instead'` of the ReLU (default), or as attention `'after'` or `'before'` it.
    act_mxnet_gradient: give SELU the wrong gradient that it has in MXNet, with which open-atac trained (False).
    act_sample_variance: running variances of the ATAC units' norms over n - 1, as in PyTorch (False: over n, as in
        MXNet).

Attention units:
    reduction: divides the width to give the unit's hidden width, or the DIA-LSTM's. Two numbers (not for
        what the blocks of a stage share) are for the first block of each stage and for the others.
    reduction_divisor: the hidden width of SE, GC and SK is rounded to multiples of it (1; timm has 8 and more).
    unit_bias: whether the layers of SE and CBAM have biases (True).
    gate: the function at the end of SE, `'sigmoid'` or `'hard_sigmoid'`.
    norm_epsilon: epsilon of GC's layer norm (1e-5).
    sk_branches: SK's second branch, `'dilated'` or `'grouped'`.
    sk_split: each of SK's convolutions sees half of the channels, as in timm (False).
    sample_variance: running variance of SK's norm of vectors over n - 1, as in PyTorch (False: over n, as in MXNet).
    sge_groups: number of groups of SGE (64).
    e_lambda: SimAM's lambda (0.1 on networks for ImageNet, 1e-4 on those for CIFAR).
    inside: place the unit within the branch, at its spatial convolution, instead of on the branch's output. This is the
        default where it was published so: SimAM on ResNet-v1b and MobileNetV2, coordinate attention on MobileNetV2.
    first_stage: the first stage whose sums AFF and iAFF fuse (3 in ResNet-v1b, else 1).
    doubled: multiply the results of AFF and iAFF by 2 (False; open-aff does so for AFF).
    original_init: initial values as in DCANet's code rather than in its papers (GC, CBAM and MnasNet).

Connections:
    adapter: how DCA passes from one width to another, `'linear'` or `'bottleneck'`; see `model.attention.dca.adapter`.
    merge_bias, adapter_bias: whether DCA's layers have biases, as some published networks do.
    hand_on: what SK passes on with DCA, `'contexts'` or `'weights'`.
    merge: how DCA merges vectors (all units but GC, SGE and CBAM's spatial attention): `'learned'`, or with the paper's
        formulas `'sum'`, `'weighted'` or `'softmax'`; see `model.attention.dca.ScaledMerge`.
    through_stages: whether DCA connects across stages (True).
    connected: which of CBAM's attentions DCA connects, `'both'`, `'channel'` or `'spatial'`.
    zero_bias, layers, dropout, cell_output, bottleneck: for the DIA-LSTM, whether its biases start at zero; its number
        of layers (1) and the dropout rate between them (0.1); the function of its output, `'sigmoid'` or `'tanh'`; and
        whether its first layer has a bottleneck (True). See `model.attention.dia.LightLSTM`.

ResNet-v1b, ResNet-v1, ResNeXt, Wide ResNet (see `model.backbone.resnet_v1b.ResNetV1b`):
    deep_stem, stem_width, tiered_stem, stem_pool, avg_down, dilated, last_gamma, initialization;
    conv_bias: biases in the 1x1 convolutions of ResNet-v1, as in GluonCV.

MobileNetV2 and MnasNet (see `model.backbone.inverted_residual` and the two networks):
    width, width_divisor, expand_first, classifier_bias: of MobileNetV2;
    scaled_stem: of MnasNet.

CIFAR networks:
    channels: widths of the stem and the stages, of all but Wide ResNet and the Residual Attention Network.
    input_norm: a norm of the images (ResNet-v2, Wide ResNet).
    update_input_norm: whether that norm's running statistics are updated (False, as in open-atac on a CPU; ResNet-v2).
    activated_shortcut, outer_norm: what the shortcuts of pre-activation blocks project, and where the last norm stands
        (ResNet-v2, PreResNet).
    branch_norm: a batch norm at the end of each branch; None means only where a unit follows (PreResNet, Wide ResNet).
    stem_relu: a ReLU behind the stem (ResNet-v1; GluonCV's has none).
    stem_norm: a norm behind the stem, as in GluonCV (Wide ResNet).
    block_drop: dropout rate within the blocks, 0.3 as published (Wide ResNet).

Residual Attention Network:
    mask_additions: the additions of its PyTorch port (True).
    residual_unit, module_units, mask_type, mask_structure, attention_learning: the form of its attention modules; see
        `model.backbone.attention_module.ModuleForm`.
"""

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
    """Return a rule for whole numbers from ``low``."""
    return Rule(lambda value: _is_whole(value, low), f'whole numbers from {low}')


def positive() -> Rule:
    """Return a rule for numbers above 0."""
    return Rule(lambda value: _is_real(value) and 0 < value < float('inf'), 'numbers above 0')


def share(with_one: bool = False) -> Rule:
    """Return a rule for numbers from 0 to 1, without 1 or ``with_one``."""
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
    'drop_path': share(),
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
    ('drop_path', 'shortcuts', lambda there: there in (False, 0), 'it is for networks with shortcuts'),
    ('last_gamma', 'norm', lambda norm: norm == 'none', "norm is 'none', so there is no gamma"),
    ('branch_norm', 'norm', lambda norm: norm == 'none', "norm is 'none', so there is no norm"),
)
