"""The registry of networks' parts: attention units, activation units and backbones, by name.

The grammar of names reads it, so a registered part has its place in the names of all networks. The project's own parts
register through the same calls as anybody else's::

    from model import register_attention

    @register_attention('mine', options=('sharpness',), connects=False)
    class Mine(gluon.HybridBlock):          # channels -> (N, C, H, W) -> (N, C, H, W)
        ...

    get_model('mine_resnet50_v1b', sharpness=2)
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from mxnet import gluon

__all__ = [
    'ACTIVATIONS',
    'ATTENTIONS',
    'BACKBONES',
    'CONNECTIONS',
    'Activation',
    'Attention',
    'Backbone',
    'Plugin',
    'register_activation',
    'register_attention',
    'register_backbone',
    'registering',
]

#: Words of names, and the connections between units that they stand for.
CONNECTIONS = {'dca': 'dca', 'dia': 'dia', 'share': 'shared'}
RESERVED = ('cifar', 'atac', *CONNECTIONS)  # the other words that stand before a backbone


class Plugin(NamedTuple):
    """The file outside the project that a part came from."""

    path: str
    sha256: str


class Attention(NamedTuple):
    """A registered attention unit, see :func:`register_attention`."""

    build: Callable[..., gluon.HybridBlock]
    options: Tuple[str, ...] = ()
    connection_options: Tuple[str, ...] = ('reduction', 'adapter', 'merge', 'merge_bias')
    place: str = 'branch'
    connects: bool = True
    shares: bool = True
    plugin: Optional[Plugin] = None


class Activation(NamedTuple):
    """A registered activation unit, see :func:`register_activation`."""

    build: Callable[..., gluon.HybridBlock]
    options: Tuple[str, ...] = ()
    alias: str = ''
    plugin: Optional[Plugin] = None


class Backbone(NamedTuple):
    """A registered family of backbones, see :func:`register_backbone`."""

    build: Callable[..., gluon.HybridBlock]
    pattern: str
    cifar: bool
    size: int
    listed: Tuple[str, ...]
    options: Tuple[str, ...] = ()
    defaults: Mapping[str, Any] = {}
    act_type: str = 'relu'
    places: Tuple[str, ...] = ('branch',)
    attention: Mapping[str, Mapping[str, Any]] = {}
    widens: bool = False
    plugin: Optional[Plugin] = None


ATTENTIONS: Dict[str, Attention] = {}
ACTIVATIONS: Dict[str, Activation] = {}
BACKBONES: Dict[str, Backbone] = {}
_TABLES = (ATTENTIONS, ACTIVATIONS, BACKBONES)
_plugin: Optional[Plugin] = None  # whose file is being run


@contextmanager
def registering(plugin: Optional[Plugin]) -> Iterator[None]:
    """Note ``plugin`` as the origin of what is registered within; on an exception nothing of it stays registered."""
    global _plugin
    before, _plugin = _plugin, plugin
    tables = [dict(table) for table in _TABLES]
    try:
        yield
    except BaseException:
        for table, rows in zip(_TABLES, tables):
            table.clear()
            table.update(rows)
        raise
    finally:
        _plugin = before


def _check_name(kind: str, name: Any, table: Mapping[str, Any], pattern: str, allowed: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise ValueError(f'{kind} {name!r}: a name is {allowed}')
    if name in table:
        build, plugin = table[name].build, table[name].plugin
        origin = f'the plugin {plugin.path}' if plugin else getattr(build, '__module__', 'this project')
        raise ValueError(f'{kind} {name!r} is registered already, by {origin}; choose another name')


def register_attention(
    name: str,
    cls: Optional[Callable[..., gluon.HybridBlock]] = None,
    *,
    options: Sequence[str] = (),
    connects: bool = True,
    connection_options: Sequence[str] = ('reduction', 'adapter', 'merge', 'merge_bias'),
    place: str = 'branch',
    shares: bool = True,
) -> Any:
    """Register an attention unit: ``{name}_*`` on all backbones with the place for it, ``dca_{name}_*`` if it connects.

    Without ``cls`` it is a decorator. Either way it returns ``cls``.

    Args:
        name: small letters and digits.
        cls: ``(channels, **options) -> unit``, the unit ``(N, C, H, W) -> (N, C, H, W)``; a class or a function.
        options: the keyword arguments of ``get_model`` that ``cls`` reads. Two are read for it: ``first_stage``, before
            which there are no units, and ``inside``, see :mod:`model.attention.inside`.
        connects: whether it can be deeply connected: an :class:`model.attention.unit.AttentionUnit` with ``remember``
            and ``connection_to``, or a block with a method ``chain`` of the same meaning. ``dca_`` with a unit that
            does not connect is refused.
        connection_options: the keyword arguments of ``get_model`` that its connection reads.
        place: ``'branch'``, ``'convolution'``, ``'inside'``, ``'sum'`` or ``'entry'``, see
            :class:`model.layers.factories.AttentionFactory`.
        shares: whether there are ``share_{name}_*`` too, one unit for the blocks of a stage; not of the place
            ``'entry'``, and of ``'convolution'`` those with a method ``take_layers_of``, as SK.

    Raises:
        ValueError: the name is taken or has another meaning in the grammar, or the unit lacks what connecting needs.
    """
    if cls is None:
        return lambda decorated: register_attention(
            name,
            decorated,
            options=options,
            connects=connects,
            connection_options=connection_options,
            place=place,
            shares=shares,
        )
    _check_name('attention unit', name, ATTENTIONS, '[a-z][a-z0-9]*', 'small letters and digits, such as simam2')
    if name in RESERVED:
        raise ValueError(f'attention unit {name!r}: the word has another meaning in names; choose another name')
    for backbone in _listed():
        if backbone.startswith(f'{name}_'):
            raise ValueError(f'attention unit {name!r}: the backbone {backbone} begins so; choose another name')
    if connects and isinstance(cls, type):
        missing = getattr(cls, 'unwritten_for_chains', lambda: [] if hasattr(cls, 'chain') else ['chain'])()
        if missing:
            raise ValueError(
                f'attention unit {name!r}: {cls.__name__} has no {" and no ".join(missing)}, which connecting it to '
                'others (DCA) needs; write it, or register the unit with connects=False'
            )
    shares = shares and place != 'entry' and (place != 'convolution' or hasattr(cls, 'take_layers_of'))
    ATTENTIONS[name] = Attention(
        cls, tuple(options), tuple(connection_options) if connects else (), place, connects, shares, _plugin
    )
    return cls


def register_activation(
    name: str,
    cls: Optional[Callable[..., gluon.HybridBlock]] = None,
    *,
    options: Sequence[str] = (),
    alias: str = '',
) -> Any:
    """Register an activation unit, for ``act_type=name``. Without ``cls`` it is a decorator; it returns ``cls``.

    Args:
        name: small letters, digits and underscores.
        cls: ``(channels, **options) -> unit``, the unit ``(N, C, H, W) -> (N, C, H, W)``; a class or a function.
        options: the keyword arguments that it reads; ``get_model`` has each with ``act_`` before its name.
        alias: another name of it (open-atac's).

    Raises:
        ValueError: the name or the alias is taken.
    """
    if cls is None:
        return lambda decorated: register_activation(name, decorated, options=options, alias=alias)
    known = {**ACTIVATIONS, **{row.alias: row for row in ACTIVATIONS.values() if row.alias}}
    _check_name('activation unit', name, known, '[a-z][a-z0-9_]*', 'small letters, digits and underscores')
    if alias in known:
        raise ValueError(f'activation unit {name!r}: its alias {alias!r} is registered already; choose another')
    ACTIVATIONS[name] = Activation(cls, tuple(options), alias, _plugin)
    return cls


def _listed() -> Iterator[str]:
    for row in BACKBONES.values():
        yield from row.listed


def register_backbone(
    name: str,
    build: Optional[Callable[..., gluon.HybridBlock]] = None,
    *,
    pattern: Optional[str] = None,
    listed: Sequence[str] = (),
    cifar: bool = False,
    size: Optional[int] = None,
    options: Sequence[str] = (),
    defaults: Optional[Mapping[str, Any]] = None,
    act_type: str = 'relu',
    places: Sequence[str] = ('branch',),
    attention: Optional[Mapping[str, Mapping[str, Any]]] = None,
    widens: bool = False,
) -> Any:
    """Register a backbone, or a family of them. Without ``build`` it is a decorator; it returns ``build``.

    Args:
        name: of the family; the backbone's own if there is no ``pattern``.
        build: ``(*numbers, activation=, default_activation=, attention=, norm=, classes=, **options) -> network``, a
            class or a function; :mod:`model.layers.factories` says what these factories are.
        pattern: regular expression of the last part of the names, its groups the ``numbers`` (default: ``name``).
        listed: members that ``list_models`` shows (default: ``name``).
        cifar: whether the names begin with ``cifar_``.
        size: pixels of its usual input (default: 32 with ``cifar``, else 224).
        options: the keyword arguments of ``get_model`` that it reads beside ``classes``.
        defaults: of keyword arguments (default: 10 ``classes`` with ``cifar``, else 1000).
        act_type: activation in the plugged places where the name has none.
        places: of the attention units that it takes.
        attention: published options of the units where they differ here.
        widens: whether the blocks of a stage have several widths within, so that what stands there cannot be shared.

    Raises:
        ValueError: the name is taken, or the names of members would be read as another network's.
    """
    members = tuple(listed) or ((name,) if pattern is None else ())

    def register(build: Callable[..., gluon.HybridBlock]) -> Callable[..., gluon.HybridBlock]:
        _check_name('backbone', name, BACKBONES, '[a-z][a-z0-9_]*', 'small letters, digits and underscores')
        _check_members(members, cifar)
        BACKBONES[name] = Backbone(
            build,
            re.escape(name) if pattern is None else pattern,
            cifar,
            size or (32 if cifar else 224),
            members,
            tuple(options),
            {'classes': 10 if cifar else 1000, **(defaults or {})},
            act_type,
            tuple(places),
            attention or {},
            widens,
            _plugin,
        )
        return build

    return register if build is None else register(build)


def _check_members(members: Sequence[str], cifar: bool) -> None:
    """Raise `ValueError` for a member whose name is taken or would be read as another network's."""
    for member in members:
        word = member.split('_')[0]
        if member != word and word in (*RESERVED, *ATTENTIONS):
            raise ValueError(f'backbone {member!r}: {word!r} has a meaning in front of a backbone; choose another name')
        for other, row in BACKBONES.items():
            if row.cifar == cifar and re.fullmatch(row.pattern, member):
                raise ValueError(f'backbone {member!r} is registered already, as {other!r}; choose another name')
