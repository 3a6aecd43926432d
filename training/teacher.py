"""Knowledge distillation: a trained network whose opinion of each image counts beside the label.

Hinton, Vinyals and Dean, arXiv 1503.02531; temperature and weights as in open-atac.
"""

import os
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import autograd, nd

from data.preprocessing import Preprocessing
from environment import UsageError, UserError
from training.config.distillation import DistillationSettings
from training.precision import Precision

__all__ = ['Teacher', 'load_teacher']


class Teacher:
    """`teacher(images)` is softmax(logits / temperature), (N, K) float32, without a gradient."""

    def __init__(self, program: Any, temperature: float, hard_weight: float) -> None:
        self.program, self.temperature, self.hard_weight = program, temperature, hard_weight

    def __call__(self, images: Any) -> Any:
        with autograd.pause(train_mode=False):
            return nd.softmax(self.program(images) / self.temperature)


def load_teacher(
    settings: DistillationSettings,
    dtype: str,
    contexts: Sequence[Any],
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    load_network: Callable[..., Any],
) -> Teacher:
    """Return the teacher that the flags name, which computes in `dtype`.

    `load_network(params, ctx=contexts)` gives the network in a file with a manifest, and what that says of it.

    Raises:
        UsageError, UserError: it does not exist, cannot be had, knows other classes than `class_names`, or wants its
            images on another scale than `preprocessing` gives them.
    """
    classes, size = len(class_names), preprocessing.size
    net = _network(settings, list(contexts), preprocessing, class_names, load_network)
    precision = Precision(dtype)
    precision.prepare(net)
    program = precision.program(net)
    program.hybridize(static_alloc=True, static_shape=True)
    outputs = program(mx.nd.zeros((1, 3, size, size), ctx=contexts[0]))
    if isinstance(outputs, (list, tuple)) or outputs.shape[1:] != (classes,):
        shape = 'several arrays' if isinstance(outputs, (list, tuple)) else f'{outputs.shape[-1]} classes'
        raise UsageError(f'--teacher {settings.teacher} gives {shape} for an image; the data have {classes} classes')
    return Teacher(program, settings.temperature, settings.hard_weight)


def _check(network: Any, flag: str, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
    """Raise `UsageError` where what a teacher's manifest says of its data is not so of these."""
    numbers = tuple(map(str, range(len(class_names))))  # stand for names that nobody knows
    names = network.class_names
    if names is not None and len(names) == len(class_names) and numbers not in (tuple(class_names), names):
        differing = next((pair for pair in zip(names, class_names) if pair[0] != pair[1]), None)
        if differing:
            raise UsageError(
                f'{flag} knows other classes: {differing[0]!r} is where the data have {differing[1]!r}; give a teacher '
                'of the same classes in the same order'
            )
    if 'preprocessing' in network.manifest:
        theirs, ours = ((known.mean, known.std) for known in (network.preprocessing, preprocessing))
        if not np.allclose(theirs, ours, atol=1e-4):
            raise UsageError(
                f'{flag} takes images of mean {theirs[0]} and deviation {theirs[1]}, and here they have {ours[0]} and '
                f'{ours[1]}; give a teacher of the same normalisation'
            )


def _network(
    settings: DistillationSettings,
    contexts: Sequence[Any],
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    load_network: Callable[..., Any],
) -> Any:
    from model import get_model, load_params, read_manifest
    from model.parameters.place import params_path

    name, params, classes = settings.teacher, settings.teacher_params, len(class_names)
    if os.path.isfile(name) or any(Path(name).glob('*.params')):  # the second: the folder of a run
        name = params_path(name)
        if 'model' not in (read_manifest(name) or {}):
            raise UsageError(
                f'--teacher {name} has no manifest (a .json file beside it) that says which network it is; give '
                f'--teacher NAME --teacher-params {name}'
            )
        network = load_network(name, ctx=contexts, task='classification')
        _check(network, f'--teacher {name}', preprocessing, class_names)
        return network.net
    if params is not None and (read_manifest(params) or {}).get('model') == name:
        network = load_network(params, ctx=contexts, task='classification')
        _check(network, f'--teacher-params {params}', preprocessing, class_names)
        return network.net
    if params is not None:
        try:
            net = get_model(name, classes=classes)
        except ValueError as error:
            net = _gluoncv(name, str(error), pretrained=False, classes=classes)
        load_params(net, params, ctx=contexts)
        return net
    path = _registered(name, classes)
    if path is None:
        return _gluoncv(name, 'of that name there are no parameters here', pretrained=True, ctx=contexts)
    network = load_network(path, ctx=contexts, task='classification')
    _check(network, f'--teacher {name}', preprocessing, class_names)
    return network.net


def _registered(name: str, classes: int) -> Optional[Path]:
    """Return parameters that come with the project, or public ones, fetched if need be; None where there are none."""
    from model import get_model
    from model.parameters.by_name import find_pretrained
    from model.parameters.fetched import converted
    from model.parameters.weights import network_of, public_weights

    source = ':' in name
    try:
        ours = network_of(name) if source else name
        return find_pretrained(get_model, ours, {'classes': classes}, name if source else True).path
    except ValueError as error:
        if source:
            raise UsageError(f'--teacher {name}: {error}') from None
    theirs = next((row for row in public_weights() if (row.source, row.model) == ('gluoncv', name.lower())), None)
    return None if theirs is None else converted(theirs, get_model)


def _gluoncv(name: str, otherwise: str, **options: Any) -> Any:
    """Return a network of GluonCV's zoo."""
    import gluoncv

    try:
        return gluoncv.model_zoo.get_model(name, **options)
    except ValueError:
        raise UsageError(
            f"--teacher {name} is no .params file, and not in GluonCV's zoo; {otherwise}; name a file, or a "
            'network with --teacher-params FILE'
        ) from None
    except (OSError, RuntimeError, mx.MXNetError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f"--teacher {name}: GluonCV's parameters cannot be downloaded ({reason}); fetch the file by other means "
            'and give it with --teacher-params'
        ) from error
