"""Settings that are typed from the parser on: a field of a frozen dataclass is declared together with its flag."""

from __future__ import annotations

from dataclasses import field as dataclass_field
from dataclasses import fields, replace
from typing import Any, ClassVar, Dict, Iterator, Mapping, Sequence, Tuple, Type, TypeVar

from training.config.settings import Parser

__all__ = [
    'Group',
    'Groups',
    'Idle',
    'SettingsParser',
    'add_flags',
    'add_section',
    'again',
    'flag',
    'group',
    'switch',
    'typed',
]

Idle = Iterator[Tuple[Sequence[str], str]]  # fields without effect, and what they would be for
AnySettings = TypeVar('AnySettings', bound='Groups')
Anything = TypeVar('Anything')
_FLAG, _GROUP = 'flag', 'group'  # keys of a field's metadata


def flag(*names: str, default: Any = None, **options: Any) -> Any:
    """Declare a field and the flag `names` that sets it; `options` are those of `argparse.add_argument`."""
    return dataclass_field(default=default, metadata={_FLAG: (names, options)})


def switch(*names: str, help: str) -> Any:
    """Declare a field that is true if one of the flags `names` is given."""
    return flag(*names, action='store_true', default=False, help=help)


def again(kind: Type[Group], name: str, *names: str, **changes: Any) -> Any:
    """Declare the field `name` of another group again, with other `names`, `default` or options of argparse."""
    (known,) = (each for each in fields(kind) if each.name == name)
    before, options = known.metadata[_FLAG]
    return flag(*(names or before), **{'default': known.default, **options, **changes})


def group(kind: Type[Group]) -> Any:
    """Declare a field of a run's settings that contains a group with flags."""
    return dataclass_field(default_factory=kind, metadata={_GROUP: kind})


def _declared(kind: Type[Any]) -> Dict[str, Any]:
    """Return {field: the options of its flag} of a group, in their order."""
    return {each.name: each for each in fields(kind) if _FLAG in each.metadata}


def add_flags(section: Any, kind: Type[Any]) -> None:
    """Add the flags of a group to a parser, or to a section of its --help."""
    for name, each in _declared(kind).items():
        names, options = each.metadata[_FLAG]
        section.add_argument(*names, dest=name, default=each.default, **options)


def add_section(parser: Parser, kind: Type[Group]) -> Any:
    """Add the flags of a group to a section of a parser's --help, and return the section."""
    section = parser.add_argument_group(kind.title)
    add_flags(section, kind)
    return section


def typed(kind: Type[Anything], values: Mapping[str, Any]) -> Anything:
    """Return the dataclass `kind`, filled from those of a parser's `values` that have the names of its fields."""
    return kind(**{each.name: values[each.name] for each in fields(kind) if each.name in values})


class Group:
    """Some settings of a run. A subclass is a frozen dataclass of fields that are declared with `flag`.

    A field with a plain default has no flag: its value is the same in every run of a script.
    """

    title: ClassVar[str]  # of its section of --help

    def idle(self) -> Idle:
        """Yield fields that have no effect given the values of the others, and what they are for."""
        yield from ()


class Groups:
    """All settings of a run. A subclass is a frozen dataclass of fields that are declared with `group`.

    A field with a plain default is a group without flags.
    """

    def values(self) -> Dict[str, Any]:
        """Return {field: value} for all fields with a flag, in the order of the flags."""
        held = ((each.metadata[_GROUP], getattr(self, each.name)) for each in fields(self) if _GROUP in each.metadata)
        return {name: getattr(one, name) for kind, one in held for name in _declared(kind)}

    def every(self) -> Iterator[Group]:
        """Yield the groups."""
        for each in fields(self):
            yield getattr(self, each.name)

    def with_values(self: AnySettings, values: Mapping[str, Any]) -> AnySettings:
        """Return these settings with other `values` of fields, in whatever groups they are."""
        changed = {}
        for each in fields(self):
            if _GROUP in each.metadata:
                own = {name: values[name] for name in _declared(each.metadata[_GROUP]) if name in values}
                changed[each.name] = replace(getattr(self, each.name), **own)
        return replace(self, **changed)

    def changed(self: AnySettings, held: str, **changes: Any) -> AnySettings:
        """Return these settings with other values in the group `held`."""
        return replace(self, **{held: replace(getattr(self, held), **changes)})


class SettingsParser(Parser):
    """A parser that returns `kind`, a frozen dataclass whose fields are declared with `group`.

    Flags are in the order of the groups and of their fields. Groups of the same title share a section of --help.
    """

    def __init__(self, kind: Type[AnySettings], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        sections: Dict[str, Any] = {}
        for held in fields(kind):
            if _GROUP not in held.metadata:
                continue
            declared = held.metadata[_GROUP]
            if declared.title not in sections:
                sections[declared.title] = self.add_argument_group(declared.title)
            add_flags(sections[declared.title], declared)

    def parse_args(self, words: Sequence[str]) -> AnySettings:
        """Return the settings that a command line gives; `parse` also reads the file of --config."""
        values, held = vars(super().parse_args(words)), {}
        for each in fields(self.kind):
            if _GROUP in each.metadata:
                kind = each.metadata[_GROUP]
                held[each.name] = kind(**{name: values[name] for name in _declared(kind)})
        return self.kind(**held)
