"""Networks by name."""

from __future__ import annotations

import difflib
import warnings
from contextlib import ExitStack
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from mxnet import gluon

from model.activation import activation_factory
from model.activation.factory import canonical
from model.attention import attention_factory, attention_options
from model.backbone.classifier import lacking
from model.grammar import ModelName, split_name
from model.layers.factories import AttentionFactory, batch_norm
from model.layers.group_norm import group_norm
from model.layers.input_norm import InputNorm
from model.layers.no_norm import no_norm
from model.layers.norm_momentum import set_norm_momentum
from model.options import check_options
from model.parameters.by_name import find_pretrained
from model.parameters.load import load_params
from model.plugins import blamed, recorded
from model.registry import ACTIVATIONS, ATTENTIONS, Activation, Attention
from model.renamed import renamed

__all__ = ['allowed_options', 'get_model', 'unread_options']


# Keyword arguments of get_model that set up the activation unit: ours -> the unit's.
ACT_OPTIONS = {
    'act_reduction': 'reduction',
    'act_relu': 'relu',
    'act_global': 'global_context',
    'act_kernel': 'kernel',
    'act_placement': 'placement',
    'act_dilation': 'dilation',
    'act_mxnet_gradient': 'mxnet_gradient',
    'act_sample_variance': 'sample_variance',
}
NORMS = {'batch': batch_norm, 'group': group_norm, 'none': no_norm}
COMMON_OPTIONS = ('classes', 'act_type', 'use_global_stats', 'act_batch_stats', 'norm', 'norm_momentum', *ACT_OPTIONS)


def act_options(rows: Iterable[Activation]) -> Dict[str, str]:
    """Return the keyword arguments of get_model that set up activation units of these rows: ours -> the unit's."""
    known = {*ACT_OPTIONS.values(), 'use_global_stats'}
    own = {f'act_{option}': option for row in rows for option in row.options if option not in known}
    return {**ACT_OPTIONS, **own}


def _attention_options(parsed: ModelName, unit: Any) -> Tuple[Tuple[str, ...], Dict[str, Any]]:
    """Return the names of the attention's options, and the published values that this backbone has of them."""
    if unit is not None and not isinstance(unit, str):
        return (), {}
    names = attention_options(unit, parsed.connection)
    published: Dict[str, Any] = {}
    for key in (unit or parsed.connection, f'{parsed.connection}_{unit}'):
        published.update(parsed.row.attention.get(key, {}))
    return names, {key: value for key, value in published.items() if key in names}


def allowed_options(name: str) -> Tuple[str, ...]:
    """Return which keyword arguments ``get_model(name)`` takes, its own parameters aside."""
    parsed = split_name(name)
    return _allowed(parsed, _attention_options(parsed, parsed.unit)[0])


def _allowed(parsed: ModelName, of_attention: Iterable[str]) -> Tuple[str, ...]:
    return (*COMMON_OPTIONS, *act_options(ACTIVATIONS.values()), *parsed.row.options, *of_attention)


def get_model(
    name: str,
    pretrained: Union[None, bool, str] = None,
    attention: Optional[Callable[..., Any]] = None,
    activation: Optional[Callable[[int], gluon.HybridBlock]] = None,
    **overrides: Any,
) -> gluon.HybridBlock:
    """Return the network called ``name``, uninitialised: ``(N, 3, H, W) -> (N, classes)``.

    With ``pretrained`` it has parameters, on the current device: a data set such as ``'cifar10'`` names those that come
    with the project (:mod:`model.parameters.pretrained`); a source, ``'timm'``, or one of its trainings,
    ``'timm:a1_in1k'``, public weights, which are downloaded (:mod:`model.parameters.weights`, ``docs/pretrained.md``);
    True means the former, else the best of the latter. Their classes and options are the default then. Other
    ``classes`` start a new classifier; the other arguments must be those that they were trained with, save dropout's,
    ``norm_momentum`` and ``use_global_stats``. The network then has attributes ``pretrained``, what they are, and
    ``preprocessing``, of images; both go into the manifest of :func:`model.save_params`.

    ``attention`` and ``activation`` are units of one's own, for names without a unit: a class or a function ``channels
    -> block``, or for ``attention`` an :class:`model.layers.factories.AttentionFactory`. A unit with a name, which DCA
    may connect, comes by :func:`model.register_attention`, or :func:`model.register_activation`.

    Defaults are the published network's. Keyword arguments override them:

    classes : outputs
    act_type : activation unit, ``'relu'``, ``'prelu'``, ``'elu'``, ``'selu'``, ``'gelu'``, ``'swish'``, ``'xunit'``,
        ``'atac'``, ``'atac_spatial'``, ``'atac_sequential'`` (or open-atac's ``'ChaATAC'``, ``'xUnit'``, ...)
    act_reduction, act_relu, act_global : the ATAC unit's r (2), inner ReLU (yes) and global context (no)
    act_kernel, act_dilation : of the depth-wise convolutions in xUnit (kernel) and the spatial ATAC units (3, 1);
        act_kernel also of the ATAC unit's convolutions (1)
    act_placement : ATAC ``'instead'`` of the ReLU, or as attention ``'after'`` or ``'before'`` it
    act_mxnet_gradient : SELU with MXNet's wrong gradient, as open-atac trained it (no)
    act_layers, act_order : how many places, from the end (``'bac'``) or the start (``'pre'``), take the unit; the rest
        keep ReLU
    use_global_stats : all batch norms use their running statistics in training too
    act_batch_stats : but not those in the activation units (open-atac, where the option never reaches them)
    reduction : of the attention unit's hidden width, or the DIA-LSTM's; two numbers (not for what the blocks of a stage
        share): in the first block of each stage and in the others
    adapter : ``'linear'`` or ``'bottleneck'``: how DCA meets another width (:func:`model.attention.dca.adapter`)
    zero_bias, layers, dropout, cell_output, bottleneck : of the DIA-LSTM: whether its biases start at zero; its layers
        (1) and the dropout rate between them (0.1); its output's function, ``'sigmoid'`` or ``'tanh'``; whether its
        first layer has a bottleneck (yes); see :class:`model.attention.dia.LightLSTM`
    merge : how DCA merges two vectors (SE, GE, ECA, SK, CBAM's channel attention): ``'learned'``, or by the paper's
        formulas ``'sum'``, ``'weighted'`` or ``'softmax'`` (:class:`model.attention.dca.ScaledMerge`)
    through_stages : whether DCA connects across stages (yes)
    connected : which of CBAM's attentions DCA connects, ``'both'``, ``'channel'`` or ``'spatial'``
    merge_bias, adapter_bias : biases of DCA's layers, which some published networks have
    sk_branches : SK's second branch, ``'dilated'`` or ``'grouped'``
    hand_on : what SK hands on with DCA, ``'contexts'`` or ``'weights'``
    sge_groups : groups of SGE (64)
    e_lambda : SimAM's lambda (0.1 on ImageNet's networks, 1e-4 on CIFAR's)
    reduction_divisor : the hidden width of SE, GC and SK is rounded to multiples of it (1; timm: 8 and more)
    unit_bias, gate : whether SE's and CBAM's layers have biases (yes); SE's last function, ``'sigmoid'`` or
        ``'hard_sigmoid'``
    norm_epsilon : of GC's layer norm (1e-5)
    sk_split : each of SK's convolutions sees half of the channels (no; timm)
    inside : a unit that has this option within the branch, at its spatial convolution, in place of on
        the branch's output (published so, and the default: SimAM on ResNet-v1b and MobileNetV2, coordinate attention on
        the latter)
    first_stage : the first stage whose sums AFF and iAFF fuse (3 in ResNet-v1b, else 1)
    doubled : AFF's and iAFF's results times 2 (no; open-aff's AFF: yes)
    sample_variance, act_sample_variance : running variances of SK's norm of vectors, and of the ATAC units' norms, over
        n - 1 as PyTorch keeps them (no: MXNet's, over n)
    original_init : initial values as DCANet's code leaves them, against its papers (GC, CBAM and MnasNet, see there)
    norm : ``'batch'`` (default), ``'group'``, ``'none'`` or a factory ``(channels, **kwargs) -> layer``: the network's
        own norms, not those in the activation units or of the images
    shortcuts : False leaves out the shortcuts and their sums (CIFAR's ResNets, ResNet-v1b and its kin)
    norm_momentum : of every batch norm's running statistics, those in the units included (0.9; MnasNet's 0.9997 and
        CBAM's spatial norm's 0.99 are the published ones, for runs of many steps)
    final_drop : dropout rate before the classifier

    ResNet-v1b, -v1, ResNeXt and Wide ResNet also take ``deep_stem``, ``stem_width``, ``tiered_stem``, ``stem_pool``,
    ``avg_down``, ``dilated``, ``last_gamma`` (:class:`model.backbone.resnet_v1b.ResNetV1b`) and ``initialization``
    (``'he'``, or with CBAM ``'he_dense'``: initial values of DCANet's ResNets, see
    :func:`model.layers.initialization.initialize`), ResNet-v1 ``conv_bias``; MobileNetV2 ``width``, ``width_divisor``,
    ``expand_first`` and ``classifier_bias``, MnasNet ``scaled_stem`` (see there); the CIFAR ResNet-v2 ``channels``
    (widths of stem and stages), ``input_norm``, ``activated_shortcut``, ``outer_norm``
    (:class:`model.backbone.cifar_resnet_v2.CifarResNetV2`) and ``update_input_norm`` (False: open-atac's behaviour on a
    CPU); the CIFAR ResNet-v1 ``channels`` and ``stem_relu`` (no: GluonCV's has none behind the stem).
    The Residual Attention Network takes ``mask_additions`` (True: as its PyTorch port, see there), and
    ``residual_unit``, ``module_units``, ``mask_type``, ``mask_structure`` and ``attention_learning``: see
    :class:`model.backbone.attention_module.ModuleForm`.
    Of DIANet's CIFAR networks all but WRN take ``channels``; PreResNet and WRN ``branch_norm`` (a batch norm at the end
    of each branch; default None: where a unit follows); PreResNet ``activated_shortcut`` and ``outer_norm``; WRN
    ``block_drop`` (dropout in the blocks, 0.3 published), ``input_norm`` and ``stem_norm`` (GluonCV's).

    ``ValueError`` names the part of the name, or the argument, that is at fault, and the nearest valid ones; and says
    for which networks there are parameters, where there are none. ``UserError`` for a file of them that is damaged.
    """
    if pretrained:
        if attention is not None or activation is not None:
            raise ValueError(f'{name}: there are no parameters for a unit of your own; leave pretrained out')
        return _pretrained(name, pretrained, overrides)
    now = renamed(name)
    if now:
        warnings.warn(f'{name} is called {now} now; use this name', FutureWarning, stacklevel=2)
    parsed = split_name(name)
    row = parsed.row
    unit = parsed.unit if attention is None else own_attention(parsed, name, attention)
    attention_names, published = _attention_options(parsed, unit)
    of_activation = act_options(ACTIVATIONS.values())
    allowed = _allowed(parsed, attention_names)
    for key in overrides:
        if key not in allowed:
            near = difflib.get_close_matches(key, sorted(set(allowed)), 3, 0.4) or sorted(set(allowed))
            raise ValueError(f'{name} takes no argument {key!r}; did you mean {", ".join(near)}?')
    check_options(name, overrides)
    options = {**row.defaults, **published, **overrides}
    act_type = canonical(options.pop('act_type', parsed.act_type))
    if parsed.act_type == 'atac' and not act_type.startswith('atac'):
        raise ValueError(f"{name} and act_type={act_type!r} contradict each other; drop 'atac_' from the name")
    acting: Activation = ACTIVATIONS[act_type]
    if activation is not None:
        acting = own_activation(parsed, name, activation, overrides)
    norm = options.pop('norm', 'batch')
    if not callable(norm):
        if norm not in tuple(NORMS):
            raise ValueError(f'{name}: norm is {norm!r}; allowed: {", ".join(NORMS)}, or a factory')
        norm = NORMS[norm]
    use_global_stats = options.pop('use_global_stats', False)
    activation_options = {own: options.pop(ours) for ours, own in of_activation.items() if ours in options}
    act_batch_stats = options.pop('act_batch_stats', False)
    if use_global_stats:
        norm = partial(norm, use_global_stats=True)
        activation_options['use_global_stats'] = not act_batch_stats
    # What the backbone reads too is the backbone's: it sets its units' initial values.
    of_units = {key: options[key] for key in attention_names if key in options and key not in row.options}
    if of_units.get('inside') and 'inside' not in row.places:
        raise ValueError(f'{name}: inside is True, and its blocks have no place for units within their branches')
    with ExitStack() as stack:
        parts = [(parsed.backbone, row), (act_type, acting)]
        if unit is not None and not isinstance(unit, AttentionFactory):
            parts.append((str(unit), ATTENTIONS[unit] if isinstance(unit, str) else unit))
        for _, part in parts:
            if part.plugin is not None:
                stack.enter_context(blamed(part.plugin))
        making = unit
        if not isinstance(unit, AttentionFactory):
            making = attention_factory(unit, parsed.connection, norm, **of_units)
        if making is not None and making.place == 'sum' and not options.get('shortcuts', True):
            raise ValueError(f'{name}: shortcuts is False, and its units fuse a branch with its shortcut')
        net = row.build(
            *parsed.numbers,
            activation=activation_factory(acting, **activation_options),
            default_activation=activation_factory(row.act_type),
            attention=making,
            norm=norm,
            **{key: value for key, value in options.items() if key in row.options or key == 'classes'},
        )
    if lacking(net):
        raise ValueError(
            f'{name}: {type(net).__name__} has no {", ".join(lacking(net))}; a backbone is a '
            'model.backbone.classifier.Classifier'
        )
    net.plugins = recorded(parts)
    if 'norm_momentum' in overrides:
        set_norm_momentum(net, overrides['norm_momentum'])
    if use_global_stats:
        net.apply(lambda block: block.use_running_statistics() if isinstance(block, InputNorm) else None)
    return net


def own_attention(parsed: ModelName, name: str, attention: Any) -> Union[str, Attention, AttentionFactory]:
    """Return what ``get_model(name, attention=attention)`` makes units of: a registered name, a row or a factory."""
    if parsed.unit or parsed.connection:
        raise ValueError(
            f'{name} has the attention {parsed.unit or parsed.connection} by its name; leave one of both out'
        )
    if isinstance(attention, str) or not callable(attention):
        raise ValueError(
            f'{name}: attention is {attention!r}; allowed: a class or a function channels -> block, or an '
            'AttentionFactory; a registered unit stands in the name, as in se_resnet50_v1b'
        )
    place = getattr(attention, 'place', 'branch')
    unit = attention
    if not isinstance(attention, AttentionFactory):
        unit = next((key for key, row in ATTENTIONS.items() if row.build is attention), None)
        place = ATTENTIONS[unit].place if unit else place
        unit = unit or Attention(attention, place=place, connects=False)
    if place not in parsed.row.places:
        raise ValueError(f'{name} has no place {place!r} for attention units (it has: {", ".join(parsed.row.places)})')
    return unit


def own_activation(parsed: ModelName, name: str, activation: Any, overrides: Mapping[str, Any]) -> Activation:
    """Return the row of ``get_model(name, activation=activation)``."""
    if parsed.act_type == 'atac' or 'act_type' in overrides:
        raise ValueError(f'{name} has an activation unit by its name or act_type, and by activation; leave one out')
    if isinstance(activation, str) or not callable(activation):
        raise ValueError(
            f'{name}: activation is {activation!r}; allowed: a class or a function channels -> block; a registered '
            "unit comes by its name, as in act_type='swish'"
        )
    return next((row for row in ACTIVATIONS.values() if row.build is activation), Activation(activation))


def activation_of(name: str, options: Mapping[str, Any]) -> str:
    """Return what kind of activation unit the network ``name`` has with these ``options``."""
    return canonical(options.get('act_type', split_name(name).act_type))


def unread_options(name: str, options: Mapping[str, Any]) -> List[str]:
    """Return which of the ``options`` set up activation units of another kind than the network ``name`` has with them.

    ``get_model`` lets them pass, so that one set serves a sweep over units.
    """
    read = ACTIVATIONS[activation_of(name, options)].options
    known = act_options(ACTIVATIONS.values())
    return [key for key in options if key in known and known[key] not in read]


def _pretrained(name: str, wanted: Union[bool, str], overrides: Dict[str, Any]) -> gluon.HybridBlock:
    get_model(name, **overrides)  # what is wrong with the name or an argument goes first
    found = find_pretrained(get_model, name, overrides, wanted)
    net = get_model(name, **{**found.options, **overrides})
    classes = found.options['classes']
    load_params(net, found.path, new_classifier=overrides.get('classes', classes) != classes)
    net.pretrained, net.preprocessing = found.facts, found.preprocessing
    return net
