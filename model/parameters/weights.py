"""Public weights of other projects, by our name of the network that they belong to.

``weights.csv`` has a row for each file of weights, with what its authors say of it:

    source, model, tag   the project, its name of the network, and which of several trainings
    url, hub             where the file is; an id of a hub of models stands for the file that all have there
    checksum             of the file behind ``url``, out of its archive if it is in one: KIND:BEGINNING, see
                         :class:`common.download.Checksum`
    dataset, accuracy    what was learned; top-1 in per cent, reported for images prepared as the next columns say
    licence              of the weights, where it is stated
    size, resize, interpolation, mean, std   see :class:`data.preprocessing.Preprocessing`

There are only rows whose network has a counterpart here (:func:`model.convert.counterpart`).
"""

from __future__ import annotations

import csv
import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from common.download import Checksum
from model.convert.counterparts import Found, counterpart
from model.convert.tables import table
from model.parameters.pretrained import Build, described, same_network

__all__ = ['Address', 'Weights', 'choose', 'network_of', 'public_weights', 'sources']

TABLE = Path(__file__).with_name('weights.csv')
CLASSES = {'imagenet': 1000, 'cifar10': 10, 'cifar100': 100}
HUB = 'https://huggingface.co/{}/resolve/main/model.safetensors'


class Address(NamedTuple):
    """A place of the file: its URL, its name in a folder, and its checksum where one is known."""

    url: str
    file: str
    checksum: Optional[Checksum]


class Weights(NamedTuple):
    """A row of the table."""

    source: str
    model: str
    tag: str
    url: str
    hub: str
    checksum: str
    dataset: str
    accuracy: Optional[float]
    licence: Optional[str]
    preprocessing: Dict[str, Any]

    @property
    def name(self) -> str:
        """Return what ``pretrained`` calls it: ``'timm:resnet50.a1_in1k'``."""
        return f'{self.source}:{self.model}.{self.tag}'

    @property
    def network(self) -> str:
        """Our name of the network."""
        return _counterpart(self.source, self.model)[0]

    @property
    def options(self) -> Dict[str, Any]:
        """Return the arguments of ``get_model``, with the classes."""
        return {'classes': CLASSES[self.dataset], **_counterpart(self.source, self.model)[1]}

    @property
    def free(self) -> bool:
        """Return whether the licence, as far as it is stated, allows commercial use."""
        return '-nc' not in (self.licence or '')

    @property
    def addresses(self) -> List[Address]:
        """Return where the file is, the best-known one first."""
        found = []
        if self.url:
            checksum = Checksum(*self.checksum.split(':')) if self.checksum else None
            found.append(Address(self.url, self.url.rpartition('/')[2], checksum))
        if self.hub:
            found.append(Address(HUB.format(self.hub), f'{self.model}.{self.tag}.safetensors', None))
        return found

    def facts(self) -> Dict[str, Any]:
        """Return what a manifest says of the weights."""
        keys = ('source', 'model', 'tag', 'dataset', 'accuracy', 'licence')
        return {**{key: getattr(self, key) for key in keys}, 'url': self.addresses[0].url}


@lru_cache(maxsize=None)
def _counterpart(source: str, model: str) -> Found:
    if hasattr(table(source), 'counterpart'):
        name, options = counterpart(source, model)
    else:
        name, options = model, getattr(table(source), 'OPTIONS', {})
    return name, dict(options)


def _weights(row: Dict[str, str]) -> Weights:
    preprocessing = {
        'size': int(row.pop('size')),
        'mean': [float(part) for part in row.pop('mean').split()],
        'std': [float(part) for part in row.pop('std').split()],
        'resize': int(row.pop('resize') or 0) or None,
        'interpolation': row.pop('interpolation'),
    }
    accuracy, licence = row.pop('accuracy'), row.pop('licence')
    return Weights(
        **row,
        accuracy=float(accuracy) if accuracy else None,
        licence=licence or None,
        preprocessing=preprocessing,
    )


@lru_cache(maxsize=None)
def public_weights() -> Tuple[Weights, ...]:
    """Return all rows of the table."""
    with open(TABLE, encoding='utf-8', newline='') as file:
        return tuple(map(_weights, csv.DictReader(file)))


def sources() -> List[str]:
    """Return the projects that there are weights of."""
    return list(dict.fromkeys(row.source for row in public_weights()))


def _asked(wanted: Union[bool, str]) -> List[Weights]:
    """Return the rows that ``pretrained`` may mean, of any network. Raises ``ValueError`` if it means none."""
    if wanted is True:
        return list(public_weights())
    source, _, rest = wanted.partition(':')
    rows = [row for row in public_weights() if row.source == source]
    if not rest:
        return rows
    found = [row for row in rows if rest in (row.tag, row.model, f'{row.model}.{row.tag}')]
    if not found:
        known = list(dict.fromkeys(word for row in rows for word in (row.tag, row.model, f'{row.model}.{row.tag}')))
        near = difflib.get_close_matches(rest, known, 4, 0.3) or known[:4]
        raise ValueError(
            f'pretrained is {wanted!r}; of {source} there are tags, models and MODEL.TAG: {", ".join(near)}'
        )
    return found


def network_of(wanted: str) -> str:
    """Return our name of the network whose weights ``wanted`` are, ``'timm:seresnet50'``.

    Raises ``ValueError`` if they are those of several, or none.
    """
    rows = _asked(wanted) if wanted.partition(':')[0] in sources() else []
    names = list(dict.fromkeys(row.network for row in rows))
    if len(names) != 1:
        raise ValueError(f'{wanted!r} does not name a single network; give --model NAME too, or SOURCE:MODEL')
    return names[0]


def choose(
    build: Build, name: str, options: Mapping[str, Any], wanted: Union[bool, str], exact: bool = False
) -> Weights:
    """Return the weights that the network ``build(name, **options)`` takes, the best that ``wanted`` allows.

    ``wanted`` is True, a source (``'timm'``), or a source with a tag, a model or both behind a colon. Of several that
    fit, those with as many classes go first; then those that need the fewest options beside the given ones for the
    network to be theirs; then those whose licence does not forbid commercial use; then those of the highest reported
    accuracy. With ``exact`` only weights will do that need no further options. ``ValueError`` says what there is.
    """
    asked = _asked(wanted)
    rows = [row for row in asked if row.network == name]
    changes = _Changes(build, name, options)
    fitting = [row for row in rows if _fits(build, name, options, row) and not (exact and changes(row))]
    if not fitting:
        raise ValueError(_none(name, options, wanted, rows or asked))

    def rank(row: Weights) -> Tuple[Any, ...]:
        other_classes = options.get('classes', row.options['classes']) != row.options['classes']
        return other_classes, changes(row), not row.free, -(row.accuracy or 0)

    return min(fitting, key=rank)


def _structural(options: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in options.items() if key != 'classes'}


def _fits(build: Build, name: str, options: Mapping[str, Any], row: Weights) -> bool:
    theirs, ours = _structural(row.options), _structural(options)
    return ours.items() <= theirs.items() or same_network(build, name, {**theirs, **ours}, theirs)


class _Changes:
    """The number of options not given that make it another network; each set of options is tried once."""

    def __init__(self, build: Build, name: str, options: Mapping[str, Any]) -> None:
        self._build, self._name, self._options = build, name, _structural(options)
        self._known: Dict[str, int] = {}

    def __call__(self, row: Weights) -> int:
        theirs = {**_structural(row.options), **self._options}
        more = len(theirs) - len(self._options)
        key = repr(sorted(theirs.items()))
        if key not in self._known:
            same = not more or same_network(self._build, self._name, theirs, self._options)
            self._known[key] = 0 if same else more
        return self._known[key]


def _none(name: str, options: Mapping[str, Any], wanted: Union[bool, str], rows: Sequence[Weights]) -> str:
    of = '' if wanted is True else f' of {wanted}'
    networks = list(dict.fromkeys(described(row.network, _structural(row.options)) for row in rows))
    near = difflib.get_close_matches(name, networks, 5, 0.3) or networks[:5]
    return (
        f'there are no public weights{of} for {described(name, options)}; there are those for {", ".join(near)}; '
        'list_models(pretrained=True) has all'
    )
