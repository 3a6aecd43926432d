"""The trained parameters that come with the project, found by network and data set.

    params/DATASET/FOLDER/seed-N.json      manifest of a run: network, options, seed, accuracy, command, ...
    params/DATASET/FOLDER/seed-N.params    its parameters, in float16; of one seed in each folder
    params/DATASET/FOLDER/seed-N.csv       and its history, log and settings (.log, .yaml)

FOLDER is the network's name, and what its options are where they are not the published network's. All runs of a folder
differ only in their seed, so that their accuracies have a mean and a spread. `tools/ship_params.py` writes all this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional

import mxnet as mx
from mxnet import gluon

from environment import UserError
from model.parameters.load import read_manifest

__all__ = ['SHIPPED', 'Trained', 'find_trained', 'folder_name', 'same_network', 'trained_in']

SHIPPED = Path(__file__).resolve().parents[2] / 'params'
NEEDED = ('model', 'model_kwargs', 'classes', 'seed', 'accuracy', 'sha256')  # in a manifest
# Options that do not change the parameters, because they only matter in training.
IN_TRAINING = frozenset(
    ['final_drop', 'block_drop', 'drop_path', 'use_global_stats', 'act_batch_stats', 'norm_momentum']
)

Build = Callable[..., gluon.HybridBlock]


class Trained(NamedTuple):
    """A run that is shipped: its manifest, and where its parameters are, or would be."""

    path: Path
    manifest: Dict[str, Any]

    @property
    def dataset(self) -> str:
        return self.path.parent.parent.name

    @property
    def model(self) -> str:
        return self.manifest['model']

    @property
    def options(self) -> Dict[str, Any]:
        """Return those of the network, without the classes."""
        return {key: value for key, value in self.manifest['model_kwargs'].items() if key != 'classes'}

    @property
    def described(self) -> str:
        return described(self.model, self.options)


def described(name: str, options: Mapping[str, Any]) -> str:
    """Return a network as one says it: ``cifar_atac_resnet14_v2 (act_global=True)``."""
    listed = ', '.join(f'{key}={value!r}' for key, value in options.items())
    return f'{name} ({listed})' if listed else name


def folder_name(name: str, options: Mapping[str, Any]) -> str:
    """Return the folder of a network.

    ``cifar_atac_resnet14_v2-act_global``, ``resnet50_v1b-act_type_swish-act_layers_4``.
    """
    words = [key if value is True else f'{key}_{value}' for key, value in options.items() if key != 'classes']
    return '-'.join([name, *words]).replace('/', '_').replace(' ', '')


def trained_in(root: Path) -> List[Trained]:
    """Return every run that is shipped below ``root``, in the order of their files.

    Raises ``UserError`` for a damaged manifest.
    """
    found = []
    for path in sorted(root.glob('*/*/seed-*.json')):
        params = path.with_suffix('.params')
        manifest = read_manifest(params) or {}  # a link that leads nowhere has none
        missing = [key for key in NEEDED if key not in manifest]
        if missing:
            raise UserError(f'{path}: it lacks {", ".join(missing)}; write it again with tools/ship_params.py')
        found.append(Trained(params, manifest))
    return found


def _structure(net: gluon.HybridBlock) -> List[Any]:
    """Return the computation, without the names in it."""
    nodes = json.loads(net(mx.sym.var('data')).tojson())['nodes']
    attributes = [{k: v for k, v in node.get('attrs', {}).items() if not k.startswith('__')} for node in nodes]
    return [(node['op'], attrs, node['inputs']) for node, attrs in zip(nodes, attributes)]


def same_network(build: Build, name: str, options: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Return whether parameters of the network with these options are ones of that with the ``others``.

    Whether they compute the same, however that is put.
    """
    first, second = ({k: v for k, v in each.items() if k not in IN_TRAINING} for each in (options, others))
    return first == second or _structure(build(name, **first)) == _structure(build(name, **second))


def _listed(runs: Iterable[Trained]) -> str:
    return ', '.join(dict.fromkeys(run.described for run in runs)) or 'none'


def find_trained(
    build: Build,
    name: str,
    options: Mapping[str, Any],
    dataset: Optional[str] = None,
    root: Optional[Path] = None,
) -> Trained:
    """Return the run whose parameters are shipped for the network ``build(name, **options)``, trained on ``dataset``.

    The number of classes does not matter, since a classifier can be replaced; runs with the same number come first.
    Without a data set, any is accepted.

    Raises:
        ValueError: there is none; the message says what there is.
    """
    root = SHIPPED if root is None else root
    shipped = [run for run in trained_in(root) if run.path.exists()]
    if not shipped:
        raise ValueError(f'there are no trained parameters in {root}; the whole repository has them in params/')
    if dataset is not None:
        datasets = dict.fromkeys(run.dataset for run in shipped)
        if dataset not in datasets:
            raise ValueError(f'pretrained is {dataset!r}; there are parameters trained on {", ".join(datasets)}')
        shipped = [run for run in shipped if run.dataset == dataset]
    where = f' trained on {dataset}' if dataset is not None else ''
    named = [run for run in shipped if run.model == name]
    if not named:
        raise ValueError(f'there are no parameters{where} of {name}; there are those of {_listed(shipped)}')
    wanted = options.get('classes')
    for run in sorted(named, key=lambda run: wanted not in (None, run.manifest['classes'])):
        classes = run.manifest['classes']
        if same_network(build, name, {**options, 'classes': classes}, run.manifest['model_kwargs']):
            return run
    raise ValueError(
        f'there are no parameters{where} of {described(name, options)}; there are those of {_listed(named)}'
    )
