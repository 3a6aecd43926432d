"""Resolve ``pretrained``: parameters that come with the project, or public weights, for a network by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Union

from model.parameters import pretrained
from model.parameters.fetched import converted
from model.parameters.pretrained import Build, Trained, find_trained, trained_in
from model.parameters.weights import Weights, choose, sources

__all__ = ['Pretrained', 'find_pretrained']


class Pretrained(NamedTuple):
    """Parameters for a network.

    Attributes:
        path: their file, with its manifest.
        options: of ``get_model``, with the classes.
        preprocessing: of images, as :meth:`data.preprocessing.Preprocessing.to_dict` has it; None if unknown.
        facts: what they are, for a manifest.
    """

    path: Path
    options: Dict[str, Any]
    preprocessing: Optional[Dict[str, Any]]
    facts: Dict[str, Any]


def _shipped(run: Trained) -> Pretrained:
    facts = {'source': 'attention-networks', 'model': run.model, 'tag': f'{run.path.parent.name}/{run.path.stem}'}
    top1 = run.manifest['accuracy'].get('top1')
    facts.update(dataset=run.dataset, accuracy=None if top1 is None else round(100 * top1, 4))
    options = {**run.manifest['model_kwargs'], 'classes': run.manifest['classes']}
    return Pretrained(run.path, options, run.manifest.get('preprocessing'), facts)


def _public(weights: Weights, build: Build) -> Pretrained:
    return Pretrained(converted(weights, build), weights.options, weights.preprocessing, weights.facts())


def find_pretrained(
    build: Build, name: str, options: Mapping[str, Any], wanted: Union[bool, str], exact: bool = False
) -> Pretrained:
    """Return the parameters that ``get_model(name, pretrained=wanted, **options)`` takes, fetched if need be.

    ``wanted`` is a data set of those that come with the project, what :func:`model.parameters.weights.choose` takes, or
    True: those that come with the project, else the best public ones. With ``exact`` they need no further options.
    Raises ``ValueError`` if there are none.
    """
    if wanted is not True and not isinstance(wanted, str):
        raise ValueError(f"pretrained is {wanted!r}; allowed: True, a data set such as 'cifar10', or {_listed()}")
    if wanted is not True and wanted.partition(':')[0] in sources():
        return _public(choose(build, name, options, wanted, exact), build)
    if wanted is not True:
        datasets = dict.fromkeys(run.dataset for run in trained_in(pretrained.SHIPPED) if run.path.exists())
        if datasets and wanted not in datasets:
            raise ValueError(
                f'pretrained is {wanted!r}; there are parameters trained on {", ".join(datasets)}, and public weights '
                f'of {_listed()}'
            )
        return _shipped(find_trained(build, name, options, wanted))
    try:
        return _shipped(find_trained(build, name, options))
    except ValueError as unshipped:
        try:
            weights = choose(build, name, options, True, exact)
        except ValueError as error:
            raise ValueError(f'{unshipped}; {error}') from error
    return _public(weights, build)


def _listed() -> str:
    return ', '.join(map(repr, sources()))
