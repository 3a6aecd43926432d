"""Networks by name."""

from __future__ import annotations

import difflib
import warnings
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from mxnet import gluon

from model.activation import activation_factory
from model.activation.factory import canonical
from model.attention import attention_factory, attention_options
from model.backbone.classifier import lacking
from model.grammar import ModelName, split_name
from model.layers.drop_path import set_drop_path
from model.layers.factories import ActivationFactory, AttentionFactory, NormFactory, batch_norm
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
COMMON_OPTIONS = (
    'classes',
    'act_type',
    'use_global_stats',
    'act_batch_stats',
    'norm',
    'norm_momentum',
    'drop_path',
    *ACT_OPTIONS,
)


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
    """Return the network called `name`, uninitialised: `(N, 3, H, W) -> (N, classes)`.

    Args:
        name: what the network is made of, such as `dca_se_resnet50_v1b`; `docs/networks.md` gives the grammar.
        pretrained: whose parameters to load, on the current device. A data set such as `'cifar10'` selects those that
            come with the project (:mod:`model.parameters.pretrained`); a source, `'timm'`, or one of its trainings,
            `'timm:a1_in1k'`, public weights, which are downloaded (:mod:`model.parameters.weights`); True the former
            if there are any, else the best of the latter. Their classes and options become the defaults. Other
            `classes` start a new classifier; all other arguments must be those of their training, except for dropout,
            `norm_momentum` and `use_global_stats`. The network then has the attributes `pretrained`, which describes
            the parameters, and `preprocessing`, for images; :func:`model.save_params` writes both to the manifest.
        attention: an attention unit of your own, for a name without one: a class or function `channels -> block`, or an
            :class:`model.layers.factories.AttentionFactory`. To give a unit a name, and to connect it with DCA, use
            :func:`model.register_attention`.
        activation: an activation unit of your own, in the same way; :func:`model.register_activation` gives it a name.
        **overrides: changes to the published network; :mod:`model.options` describes each of them.

    Raises:
        ValueError: a part of the name or an argument is wrong, or there are no such parameters; the message lists the
            nearest valid ones.
        UserError: a parameter file is damaged.
    """
    if pretrained:
        if attention is not None or activation is not None:
            raise ValueError(f'{name}: there are no parameters for a unit of your own; leave pretrained out')
        return _pretrained(name, pretrained, overrides)
    now = renamed(name)
    if now:
        warnings.warn(f'{name} is called {now} now; use this name', FutureWarning, stacklevel=2)
    parsed = split_name(name)
    unit = parsed.unit if attention is None else own_attention(parsed, name, attention)
    attention_names, published = _attention_options(parsed, unit)
    _check_overrides(name, overrides, _allowed(parsed, attention_names))
    options = {**parsed.row.defaults, **published, **overrides}
    act_type, acting = _activation_row(parsed, name, options, activation, overrides)
    norm = _norm_factory(name, options)
    use_global_stats, act_batch_stats = (options.pop(key, False) for key in ('use_global_stats', 'act_batch_stats'))
    of_activation = act_options(ACTIVATIONS.values()).items()
    activation_options = {own: options.pop(ours) for ours, own in of_activation if ours in options}
    if use_global_stats:
        norm = partial(norm, use_global_stats=True)
        activation_options['use_global_stats'] = not act_batch_stats
    parts = [(parsed.backbone, parsed.row), (act_type, acting)]
    if unit is not None and not isinstance(unit, AttentionFactory):
        parts.append((str(unit), ATTENTIONS[unit] if isinstance(unit, str) else unit))
    with _blamed_parts(parts):
        activation = activation_factory(acting, **activation_options)
        net = _built(parsed, name, unit, activation, norm, options, attention_names)
    net.plugins = recorded(parts)
    _set_up(net, overrides, use_global_stats)
    return net


def _set_up(net: gluon.HybridBlock, overrides: Mapping[str, Any], use_global_stats: bool) -> None:
    """Give the layers of a network, wherever they are, what these options say of them."""
    if 'norm_momentum' in overrides:
        set_norm_momentum(net, overrides['norm_momentum'])
    if 'drop_path' in overrides:
        set_drop_path(net, overrides['drop_path'])
    if use_global_stats:
        net.apply(lambda block: block.use_running_statistics() if isinstance(block, InputNorm) else None)


def _check_overrides(name: str, overrides: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in overrides:
        if key not in allowed:
            near = difflib.get_close_matches(key, sorted(set(allowed)), 3, 0.4) or sorted(set(allowed))
            raise ValueError(f'{name} takes no argument {key!r}; did you mean {", ".join(near)}?')
    check_options(name, overrides)


def _activation_row(
    parsed: ModelName, name: str, options: Dict[str, Any], activation: Any, overrides: Mapping[str, Any]
) -> Tuple[str, Activation]:
    """Return the activation unit's name and row; takes `act_type` out of the options."""
    act_type = canonical(options.pop('act_type', parsed.act_type))
    if parsed.act_type == 'atac' and not act_type.startswith('atac'):
        raise ValueError(f"{name} and act_type={act_type!r} contradict each other; drop 'atac_' from the name")
    if activation is not None:
        return act_type, own_activation(parsed, name, activation, overrides)
    return act_type, ACTIVATIONS[act_type]


def _norm_factory(name: str, options: Dict[str, Any]) -> NormFactory:
    """Return the factory of the network's own norms; takes `norm` out of the options."""
    norm = options.pop('norm', 'batch')
    if callable(norm):
        return norm
    if norm not in tuple(NORMS):
        raise ValueError(f'{name}: norm is {norm!r}; allowed: {", ".join(NORMS)}, or a factory')
    return NORMS[norm]


@contextmanager
def _blamed_parts(parts: Iterable[Tuple[str, Any]]) -> Iterator[None]:
    """Let an error in a part that came from a plugin name the plugin's file."""
    with ExitStack() as stack:
        for _, part in parts:
            if part.plugin is not None:
                stack.enter_context(blamed(part.plugin))
        yield


def _built(
    parsed: ModelName,
    name: str,
    unit: Any,
    activation: ActivationFactory,
    norm: NormFactory,
    options: Mapping[str, Any],
    attention_names: Iterable[str],
) -> gluon.HybridBlock:
    """Return the backbone with its units.

    Raises `ValueError` if a registered one does not have a backbone's interface.
    """
    row = parsed.row
    # An option that the backbone reads too goes to the backbone, which sets its units' initial values.
    of_units = {key: options[key] for key in attention_names if key in options and key not in row.options}
    if of_units.get('inside') and 'inside' not in row.places:
        raise ValueError(f'{name}: inside is True, but its blocks have no place for a unit within their branches')
    if not isinstance(unit, AttentionFactory):
        unit = attention_factory(unit, parsed.connection, norm, **of_units)
    if unit is not None and unit.place == 'sum' and not options.get('shortcuts', True):
        raise ValueError(f'{name}: shortcuts is False, but its units fuse a branch with its shortcut')
    net = row.build(
        *parsed.numbers,
        activation=activation,
        default_activation=activation_factory(row.act_type),
        attention=unit,
        norm=norm,
        **{key: value for key, value in options.items() if key in row.options or key == 'classes'},
    )
    if lacking(net):
        raise ValueError(
            f'{name}: {type(net).__name__} has no {", ".join(lacking(net))}; a backbone is a '
            'model.backbone.classifier.Classifier'
        )
    return net


def own_attention(parsed: ModelName, name: str, attention: Any) -> Union[str, Attention, AttentionFactory]:
    """Return what ``get_model(name, attention=attention)`` makes units of: a registered name, a row or a factory."""
    if parsed.unit or parsed.connection:
        raise ValueError(
            f'{name} has the attention {parsed.unit or parsed.connection} by its name; leave one of the two out'
        )
    if isinstance(attention, str) or not callable(attention):
        raise ValueError(
            f'{name}: attention is {attention!r}; allowed: a class or a function channels -> block, or an '
            'AttentionFactory; a registered unit is part of the name, as in se_resnet50_v1b'
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
