"""Knowledge distillation: a trained network whose opinion of each image counts beside the label.

Hinton, Vinyals and Dean, arXiv 1503.02531; temperature and weights as in open-atac.
"""

import argparse
import os
from typing import Any, Sequence

import mxnet as mx
from mxnet import autograd, nd

from environment import UsageError, UserError
from training.learning.precision import Precision

__all__ = ['Teacher', 'load_teacher']


class Teacher:
    """`teacher(images)` is softmax(logits / temperature), (N, K) float32, without a gradient."""

    def __init__(self, program: Any, temperature: float, hard_weight: float) -> None:
        self.program, self.temperature, self.hard_weight = program, temperature, hard_weight

    def __call__(self, images: Any) -> Any:
        with autograd.pause(train_mode=False):
            return nd.softmax(self.program(images) / self.temperature)


def load_teacher(settings: argparse.Namespace, contexts: Sequence[Any], size: int, classes: int) -> Any:
    """The teacher that the flags name, or None. Without --teacher, and with a hard weight of 1 or more, there is none.

    `UsageError` and `UserError` for one that does not exist, cannot be had, or knows other classes.
    """
    if not settings.teacher or settings.hard_weight >= 1:
        return None
    net = _network(settings, list(contexts), classes)
    precision = Precision(settings.dtype)
    precision.prepare(net)
    program = precision.program(net)
    program.hybridize(static_alloc=True, static_shape=True)
    outputs = program(mx.nd.zeros((1, 3, size, size), ctx=contexts[0]))
    if isinstance(outputs, (list, tuple)) or outputs.shape[1:] != (classes,):
        shape = 'several arrays' if isinstance(outputs, (list, tuple)) else f'{outputs.shape[-1]} classes'
        raise UsageError(f'--teacher {settings.teacher} gives {shape} for an image; the data have {classes} classes')
    return Teacher(program, settings.temperature, settings.hard_weight)


def _network(settings: argparse.Namespace, contexts: Sequence[Any], classes: int) -> Any:
    from inference.network import load_network
    from model import get_model, load_params

    name, params = settings.teacher, settings.teacher_params
    if os.path.isfile(name):
        return load_network(name, ctx=contexts).net
    if params is not None:
        try:
            net = get_model(name, classes=classes)
        except ValueError as error:
            net = _gluoncv(name, str(error), pretrained=False, classes=classes)
        load_params(net, params, ctx=contexts)
        return net
    return _gluoncv(name, 'of that name there are no parameters here', pretrained=True, ctx=contexts)


def _gluoncv(name: str, otherwise: str, **options: Any) -> Any:
    """A network of GluonCV's zoo."""
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
