"""The networks there are, by name, with what was published of them and which public weights they have."""

from __future__ import annotations

import fnmatch
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Optional, Tuple

from model.grammar import all_names
from model.parameters import pretrained as shipped
from model.parameters.weights import Weights, public_weights
from model.published import PUBLISHED, Published

__all__ = ['ListedModel', 'list_models']


@lru_cache(maxsize=None)
def _weights() -> Dict[str, Tuple[Weights, ...]]:
    """Return the public weights by the network's name, the best first."""
    found: Dict[str, List[Weights]] = {}
    for row in public_weights():
        found.setdefault(row.network, []).append(row)
    return {name: tuple(sorted(rows, key=lambda row: -(row.accuracy or 0))) for name, rows in found.items()}


class ListedModel(str):
    """A network's name that also says what was published of it (``published`` is None where nothing was)."""

    published: Optional[Published]
    weights: Tuple[Weights, ...]

    def __new__(cls, name: str) -> ListedModel:
        listed = super().__new__(cls, name)
        listed.published = PUBLISHED.get(name)
        listed.weights = _weights().get(name, ())
        return listed

    @property
    def paper(self) -> Optional[str]:
        return self.published and self.published.paper

    @property
    def options(self) -> Dict[str, Any]:
        """Return what ``get_model`` is to be given for the published numbers, where its defaults are not enough."""
        return dict(self.published.options) if self.published else {}

    @property
    def params(self) -> Optional[int]:
        return self.published and self.published.params

    @property
    def macs(self) -> Optional[int]:
        return self.published and self.published.macs

    @property
    def accuracy(self) -> Optional[Dict[str, float]]:
        return self.published and self.published.accuracy


def _with_parameters() -> Iterator[str]:
    yield from (run.model for run in shipped.trained_in(shipped.SHIPPED) if run.path.exists())
    yield from _weights()


def list_models(pattern: str = '*', pretrained: bool = False) -> List[ListedModel]:
    """Return the names that match ``pattern`` (``'*atac*'``), in the order of the tables.

    Families without end (``resnet{6n+2}_v2``) are listed as far as they were published; get_model takes all of them.
    With ``pretrained`` only those are listed that have parameters, all of them. A name is a string with the attributes
    ``paper``, ``params``, ``macs`` and ``accuracy``, None where not published; ``options``, with which ``get_model``
    builds what these are of (most need none); and ``weights``, the public ones: each a
    :class:`model.parameters.weights.Weights` with ``source``, ``tag``, ``url``, ``checksum``, ``licence``,
    ``accuracy``, ``preprocessing`` and the ``options`` that the network needs for them.
    """
    names = all_names()
    if pretrained:
        having = dict.fromkeys(_with_parameters())
        names = [
            *(name for name in names if name in having),
            *(name for name in having if name not in set(all_names())),
        ]
    return [ListedModel(name) for name in names if fnmatch.fnmatchcase(name, pattern)]
