"""Initialise a network from parameters of another run or another task, and freeze stages."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from data.preprocessing import Preprocessing
from environment import UsageError, UserError
from model import get_model
from model.attention.unit import AttentionUnit
from model.grammar import split_name
from model.layers.input_norm import InputNorm
from model.parameters.by_name import find_pretrained
from model.parameters.load import read_manifest, read_params, set_params, value_of
from model.zoo import allowed_options
from training.checkpoints.checkpoint import DamagedCheckpoint, read_checkpoint, require_schema
from training.checkpoints.state import LEARNER
from training.config.groups import Settings

__all__ = ['freeze_stages', 'load_start', 'only_one', 'optimizer_state', 'preparation', 'pretrained_file']


def only_one(sources: Mapping[str, Any]) -> Optional[str]:
    """Return which of the flags {flag: value} says what to start from, if any. Raises `UsageError` if several do."""
    given = [flag for flag, value in sources.items() if value]
    if len(given) > 1:
        raise UsageError(f'{given[0]} and {given[1]} both say what to start from; give one of them')
    return given[0] if given else None


def preparation(
    settings: Settings,
    name: str,
    options: Mapping[str, Any],
    devices: List[Any],
    log: Optional[Callable[[str], None]],
    preprocessing: Preprocessing,
) -> Optional[Callable[[Any], None]]:
    """Return the function that prepares every new network `get_model(name, **options)`, if anything is to be done.

    It loads what the flags name, and freezes stages. Without `log`, which receives a line on each new part, nothing is
    loaded, because the parameters come from a checkpoint or another rank.

    Raises:
        UsageError: flags exclude each other.
        UserError: a file cannot be fetched.
    """
    start, resumed, load = settings.start, settings.run.resume_from, log is not None
    given = only_one(
        {
            '--resume-params or --resume-from': resumed,
            '--init-params': start.init_params,
            '--use-pretrained': start.use_pretrained,
        }
    )
    if start.freeze_stages and not given and load:
        raise UsageError(
            f'--freeze-stages {start.freeze_stages} keeps initial parameters, but there are none to load: '
            'these stages would keep random values; give --use-pretrained or --init-params FILE'
        )
    path = resumed or start.init_params
    if start.use_pretrained and load:
        path = str(pretrained_file(name, options, start.use_pretrained))
    if not start.freeze_stages and not (load and path):
        return None

    def prepare(net: Any) -> None:
        if path and load:
            if start.use_pretrained:
                log(f'--use-pretrained {start.use_pretrained} is {path}')
            for line in (*load_start(net, path, devices, other_parts=not resumed), *other_scale(path, preprocessing)):
                log(line)
        if start.freeze_stages:
            freeze_stages(net, start.freeze_stages)

    return prepare


def load_start(net: Any, path: str, devices: List[Any], other_parts: bool = False) -> List[str]:
    """Load parameters from a parameter file or a checkpoint, and return a line on each part that is newly initialised.

    With `other_parts` these are a classifier with another number of outputs, and attention units, or the connections
    between them, that the file's network lacks: DCA and DIA networks can start from the plain or unconnected network.
    """
    arrays = read_part(path, 'parameters') if path.endswith('.ckpt') else read_params(net, path)
    told = []
    if other_parts:
        own = net._collect_params_with_prefix()
        left = [n for n in net.classifier_parameters() if n in arrays and arrays[n].shape[0] != own[n].shape[0]]
        if left:
            told.append(f'{path} has another number of classes: {" and ".join(left)} are newly initialised')
        new = new_attention(net, arrays)
        if new:
            told.append(f'{path} is of the network without its {_summary(new)}, which are newly initialised')
        arrays.update({name: value_of(own[name]) for name in (*left, *new)})
    set_params(net, arrays, path, devices)
    return told


def other_scale(path: str, preprocessing: Preprocessing) -> List[str]:
    """Return a line if, by the manifest beside the parameters, their images had another scale than these; else None."""
    manifest = None if path.endswith('.ckpt') else read_manifest(path)
    if not manifest or 'preprocessing' not in manifest:
        return []
    try:
        theirs = Preprocessing.from_dict(manifest['preprocessing'])
    except ValueError as error:
        raise UserError(f'the manifest beside {path} is wrong: {error}; restore it') from error
    (there, here) = ((known.mean, known.std) for known in (theirs, preprocessing))
    if np.allclose(there, here, atol=0.01):
        return []
    return [
        f'{path} is for images with mean {there[0]} and standard deviation {there[1]}, and these have {here[0]} and '
        f'{here[1]}, to which the network has to adapt'
    ]


def new_attention(net: Any, arrays: Mapping[str, Any]) -> List[str]:
    """Return the parameters of attention units that `arrays` lack, shared ones once.

    Returns none if `arrays` also lack others, or contain unknown ones.
    """
    own = net._collect_params_with_prefix()
    names = {id(own[name]): name for name in reversed(list(own))}
    there = {id(own[name]) for name in arrays if name in own}
    missing = [name for key, name in names.items() if key not in there]
    prefixes = tuple(f'{prefix}.' for prefix in _attention_units(net))
    if not all(name in own for name in arrays) or not all(name.startswith(prefixes) for name in missing):
        return []
    return missing[::-1]


def _attention_units(block: Any, prefix: str = '') -> Iterator[str]:
    for name, child in block._children.items():
        if name == 'attention' or isinstance(child, AttentionUnit):
            yield prefix + name
        else:
            yield from _attention_units(child, f'{prefix}{name}.')


def _summary(new: Sequence[str]) -> str:
    """Return a description of the parameters: 'connections (15 arrays, from A to B)'."""
    what = 'connections' if all('.connection.' in name for name in new) else 'attention units'
    return f'{what} ({len(new)} arrays, from {new[0]} to {new[-1]})'


def read_part(path: str, part: str) -> Dict[str, Any]:
    """Return a part of the learner in a checkpoint.

    Raises `UserError` if the file is not a checkpoint, or has no such part.
    """
    advice = 'name another checkpoint or a .params file'
    try:
        state = read_checkpoint(path)
    except (DamagedCheckpoint, OSError) as error:
        reason = f'cannot be read ({error.strerror})' if isinstance(error, OSError) else str(error)
        raise UserError(f'{path} {reason}; {advice}') from error
    require_schema(state, {'learner': {part: LEARNER[part], ...: object}, ...: object}, path, advice)
    return state['learner'][part]


def optimizer_state(path: str) -> Dict[str, Any]:
    """Return the optimizer's part of a checkpoint. MXNet's own .states files are pickles, which are never opened."""
    if not path.endswith('.ckpt'):
        raise UsageError(
            f"--resume-states is {path}; allowed: a checkpoint (.ckpt); MXNet's .states files are pickles, "
            'which can run any program and are therefore not opened'
        )
    return read_part(path, 'optimizer')


def pretrained_file(
    name: str,
    options: Optional[Mapping[str, Any]] = None,
    wanted: str = 'best',
    flag: str = '--init-params',
    others: bool = True,
) -> Path:
    """Return the file of the parameters that --use-pretrained names for a network with any classes.

    With `others`, if there are none for the network itself, those of the network without connections, or without
    attention, are used. `flag` is the one that takes files. Raises `UsageError` if there are none, and `UserError` if
    they cannot be fetched.
    """
    options = {key: value for key, value in (options or {}).items() if key != 'classes'}
    first: Optional[ValueError] = None
    for other in without_attention(name) if others else [name]:
        allowed = allowed_options(other)
        theirs = {key: value for key, value in options.items() if other == name or key in allowed}
        try:
            return find_pretrained(get_model, other, theirs, wanted == 'best' or wanted, exact=True).path
        except ValueError as error:
            first = first or error
    raise UsageError(f'--use-pretrained {wanted}: {first}; {flag} takes any file') from first


def without_attention(name: str) -> List[str]:
    """Return the name of a network, and of those without its connections and without its units.

    Units that replace a convolution are part of the network.
    """
    parsed = split_name(name)
    names = [name]
    unit = parsed.unit
    if parsed.connection and unit:
        names.append(name.replace(f'{parsed.connection}_{unit}_', f'{unit}_', 1))
    if parsed.connection or unit:
        words = '_'.join(filter(None, (parsed.connection, unit)))
        names.append(name.replace(f'{words}_', '', 1))
    return names


def freeze_stages(net: Any, count: int) -> None:
    """Freeze the first `count` stages, and everything before them.

    They get no gradients, and batch norms use running statistics in training too. Raises `UsageError` if there are
    fewer stages.
    """
    every = list(net.stages)
    if count > len(every):
        raise UsageError(f'--freeze-stages is {count}; this network has {len(every)} stages')
    graph = net(mx.sym.var('data'))
    graph = graph[0] if isinstance(graph, (list, tuple)) else graph
    order = {name: place for place, name in enumerate(node for node in _names(graph))}
    if count < len(every):
        end = min(order[name] for name in every[count].collect_params() if name in order)
    else:
        end = 1 + max(order[name] for name in every[-1].collect_params() if name in order)
    parameters = net.collect_params()
    frozen = {name for name in parameters if order.get(name, end) < end}
    for name in frozen:
        parameters[name].grad_req = 'null'

    def fix(block: Any) -> None:
        if not isinstance(block, (gluon.nn.BatchNorm, InputNorm)) or block.gamma.name not in frozen:
            return
        if isinstance(block, InputNorm):
            block.use_running_statistics()
        else:
            block._kwargs['use_global_stats'] = True

    net.apply(fix)


def _names(graph: Any) -> List[str]:
    """Return the names of parameters in the order in which the computation uses them."""
    return [node['name'] for node in json.loads(graph.tojson())['nodes'] if node['op'] == 'null']
