"""Make the table of other projects' networks that exist here too."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple

from model.convert import counterpart
from model.convert.tables import SOURCES, table
from model.parameters.weights import public_weights

__all__ = ['peers_table']

GOLDEN = Path(__file__).parents[1] / 'tests' / 'model' / 'golden'

# Why some networks in the tests have no public weights, as of timm 1.0.31, pytorchcv 0.0.74, GluonCV 0.10.5.
UNTRAINED = 'timm lists it as untrained'
COMPOSED = 'timm composes it from arguments, and lists no weights for it'
UNLISTED = 'not among the files that the project lists'
WITHOUT = {
    ('timm', 'resnet50[cbam]'): COMPOSED,
    ('timm', 'resnet50[gca]'): COMPOSED,
    ('timm', 'seresnet18'): UNTRAINED,
    ('timm', 'skresnet50'): UNTRAINED,
    ('pytorchcv', 'resattnet56'): UNLISTED,
    ('gluoncv', 'cifar_residualattentionnet56'): UNLISTED,
    ('gluoncv', 'cifar_resnext29_32x4d'): UNLISTED,
    ('gluoncv', 'residualattentionnet56'): UNLISTED,
    ('gluoncv', 'se_resnet50_v1'): UNLISTED,
}


class Network(NamedTuple):
    """A network of another project, identified by its own name."""

    source: str
    model: str


def _golden_networks() -> Iterator[Network]:
    """Yield the networks whose outputs the tests know, by the names that `counterpart` takes."""
    for source in SOURCES:
        if hasattr(table(source), 'counterpart'):
            for path in sorted((GOLDEN / source).glob('*.json.gz')):
                with gzip.open(path, 'rt', encoding='utf-8') as file:
                    golden = json.load(file)
                unit = golden['config'].get('block_args', {}).get('attn_layer')
                yield Network(source, golden['model'] + (f'[{unit}]' if unit else ''))


def _here(network: Network) -> str:
    name, options = counterpart(*network)
    given = (f'`{key}={value!r}`' for key, value in options.items() if key != 'classes')
    return ' '.join([f'`{name}`', *given])


def peers_table() -> str:
    """Return a Markdown table of the other projects' networks that are tested or have public weights."""
    trainings: Dict[Network, List[str]] = {}
    for weights in public_weights():
        if hasattr(table(weights.source), 'counterpart'):
            trainings.setdefault(Network(weights.source, weights.model), []).append(weights.tag)
    golden = set(_golden_networks())
    order = list(SOURCES)
    lines = [
        '| source | model there | network here | tested | public weights |',
        '| --- | --- | --- | --- | --- |',
    ]
    for network in sorted({*trainings, *golden}, key=lambda each: (order.index(each.source), each.model)):
        tested = 'logits' if network in golden else 'names'
        weights = len(trainings[network]) if network in trainings else f'none: {WITHOUT[network]}'
        lines.append(f'| {network.source} | `{network.model}` | {_here(network)} | {tested} | {weights} |')
    return '\n'.join(lines)
