"""Match the categories of COCO files by id, as pycocotools does. Names are for display."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from common.schema import shown
from common.text import brief, printable
from environment import UsageError, UserError

__all__ = ['Classes', 'Id', 'Matched', 'choose', 'is_id', 'listed', 'match', 'read_categories']

Id = Union[int, float, str]  # 1.0 is 1, and '1' is not
SHOWN = 10  # categories that a line names


@dataclass(frozen=True)
class Classes:
    """What a detector's labels mean: the names of the categories and, if known, their ids."""

    names: Tuple[str, ...]
    ids: Optional[Tuple[Id, ...]] = None

    def titles(self) -> Tuple[str, ...]:
        """Return the names, disambiguated where several are equal."""
        several = {name for name in self.names if self.names.count(name) > 1}
        which = [
            f'class {label}' if self.ids is None else f'id {shown(self.ids[label])}' for label in range(len(self.names))
        ]
        return tuple(f'{name} ({own})' if name in several else name for name, own in zip(self.names, which))


class Matched(NamedTuple):
    """How the categories of a file correspond to the classes of a detector.

    Attributes:
        labels: {id in the file: label}.
        ids: in the file, by label; None for a class that it lacks.
        notes: sentences about what the user might not expect.
    """

    labels: Mapping[Id, int]
    ids: Tuple[Optional[Id], ...]
    notes: Tuple[str, ...] = ()


def is_id(value: Any) -> bool:
    """Return whether `value` can be the id of an image or a category: a string or a number."""
    return (
        isinstance(value, (str, int))
        and not isinstance(value, bool)
        or (isinstance(value, float) and math.isfinite(value))
    )


def listed(names: Sequence[str]) -> str:
    """Join the names with commas, or the first of many."""
    more = len(names) - SHOWN
    return ', '.join(map(brief, names[:SHOWN])) + (f' and {more} more' if more > 0 else '')


def read_categories(entries: Sequence[Any], path: Path) -> Dict[Id, str]:
    """Return {id: name} of a file's categories by id, numbers before strings.

    Raises `UserError` for invalid entries.
    """
    named: Dict[Id, str] = {}
    for entry in entries:
        number, name = (entry.get(key) if isinstance(entry, dict) else None for key in ('id', 'name'))
        if not is_id(number) or not is_id(name) or number in named:
            named.clear()
            break
        named[number] = printable(str(name))
    if not named:
        raise UserError(f'{path} is not a COCO file: its categories are not a list of different id, each with a name')
    return dict(sorted(named.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def choose(categories: Mapping[Id, str], wanted: Sequence[str], path: Path) -> Classes:
    """Return the classes that a user asks for by name, or by id if there is no such name, in the user's order.

    Raises:
        UsageError: there is no such category, the name is ambiguous, or it is asked for twice.
    """
    found: List[Id] = []
    for name in wanted:
        numbers = [number for number, own in categories.items() if own == printable(name)]
        numbers = numbers or [number for number in categories if str(number) == name]
        if not numbers:
            raise UsageError(f"{path} has no category '{name}'; it has {listed(list(categories.values()))}")
        if len(numbers) > 1:
            ids = listed([shown(number) for number in numbers])
            raise UsageError(f"{path} has {len(numbers)} categories '{name}'; give the id of one: {ids}")
        if numbers[0] in found:
            raise UsageError(f"the category '{name}' of {path} is asked for twice; name it once")
        found += numbers
    return Classes(tuple(categories[number] for number in found), tuple(found))


def match(categories: Mapping[Id, str], classes: Classes, path: Path) -> Matched:
    """Match the categories of a file with `classes` by id.

    If a name that the detector knows has moved to another id, the file was renumbered, and names decide where they can;
    so they do where no ids are known.

    Raises:
        UserError: names cannot decide, or the file has none of the classes.
    """
    names = tuple(map(printable, classes.names))
    if classes.ids is None and tuple(categories.values()) == names:  # the file that was trained on, or one like it
        classes = Classes(names, tuple(categories))
    places = {number: label for label, number in enumerate(classes.ids or ())}
    labels = {number: places[number] for number in categories if number in places}
    if _numbered_anew(categories, names, labels):
        labels, ids = _by_name(categories, names, labels, path)
        note = 'its ids of categories are not those that the detector was trained with: taken by name'
        notes = [note] if classes.ids is not None else []
    else:
        ids = classes.ids or ()
        others = [(number, name, names[labels[number]]) for number, name in categories.items() if number in labels]
        renamed = [f"{shown(number)} is '{name}' and was '{old}'" for number, name, old in others if name != old]
        notes = [f'categories with another name than in training are taken by id: {listed(renamed)}'] if renamed else []
    if not labels:
        raise UserError(
            f'{path} has the categories {listed(list(categories.values()))}, and the detector knows {listed(names)}; '
            'give the data set it was trained for'
        )
    unknown = [name for number, name in categories.items() if number not in labels]
    if unknown:
        notes.append(f'objects of categories that the detector does not know do not count: {listed(unknown)}')
    return Matched(labels, ids, tuple(notes))


def _numbered_anew(categories: Mapping[Id, str], names: Sequence[str], by_id: Mapping[Id, int]) -> bool:
    """Return whether a category has a class's name but not its id, and no other category of the file has both."""
    in_place = {name for number, name in categories.items() if number in by_id and names[by_id[number]] == name}
    return any(
        name in names and (name not in in_place or names[by_id.get(number, names.index(name))] != name)
        for number, name in categories.items()
    )


def _by_name(
    categories: Mapping[Id, str], names: Sequence[str], by_id: Mapping[Id, int], path: Path
) -> Tuple[Dict[Id, int], Tuple[Optional[Id], ...]]:
    """Return {id in the file: label}, and the id of each label, by the names that file and detector share."""
    own = list(categories.values())
    unclear = [name for name in own if name in names and max(own.count(name), names.count(name)) > 1]
    unclear += [name for number, name in categories.items() if name not in names and number in by_id]
    if unclear:
        raise UserError(
            f'the ids of categories in {path} are not those that the detector was trained with, and the name of '
            f"'{brief(unclear[0])}' does not tell its class; give the categories the ids that they had in training"
        )
    numbers = {name: number for number, name in categories.items()}
    labels = {number: names.index(name) for number, name in categories.items() if name in names}
    return labels, tuple(numbers.get(name) for name in names)
