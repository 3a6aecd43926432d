"""Flags that have no effect beside the others: refused on the command line, told where they come from elsewhere."""

import argparse
from typing import List, Sequence

from data.classification.by_name import DATASETS
from data.classification.cifar import CIFAR
from environment import UsageError
from model.zoo import activation_of, unread_options
from training.config.settings import Parser, refuse
from training.optim.schedule import parse_epochs
from training.task import Network

__all__ = ['refuse_idle', 'refuse_unread', 'unreached']

# Options of activation units, and the attributes of the flags that set them.
UNITS = {'act_reduction': 'r', 'act_global': 'useGlobal', 'act_relu': 'useReLU'}


def refuse_idle(parser: Parser, settings: argparse.Namespace, argv: Sequence[str]) -> None:
    """`UsageError` for a flag in `argv` about the run that does nothing.

    What comes from a file of flags or from the run that is resumed stays: a recipe with another schedule is none the
    worse for the steps that it no longer makes.
    """
    given = parser.given(argv)

    def idle(names: Sequence[str], why: str) -> None:
        refuse(parser, settings, [name for name in names if name in given], why)

    if not settings.no_wd:
        idle(['wd_layer_norm'], '--no-wd, from which it excepts layer norms')
    if settings.optimizer != 'muon':
        idle(['muon_scale'], f'--optimizer muon, and it is {settings.optimizer}')
    if not getattr(settings, 'teacher', None):
        idle(['teacher_params', 'temperature', 'hard_weight'], '--teacher, which is not given')
    if settings.lr_mode != 'step':
        idle(['lr_decay', 'lr_decay_epoch', 'lr_decay_period'], f'--lr-mode step, and it is {settings.lr_mode}')
    elif settings.lr_decay_period:
        idle(['lr_decay_epoch'], f'other steps than those of --lr-decay-period {settings.lr_decay_period}')
    if getattr(settings, 'dataset', 'cifar10') not in CIFAR:
        idle(['data_dir'], f'the archives of CIFAR, and --dataset is {settings.dataset}')
    if getattr(settings, 'dataset', None) in DATASETS:
        idle(['interpolation'], f'image files of any size, and --dataset is {settings.dataset}')
    for warmup, start in (('warmup_epochs', 'warmup_lr'), ('warmup_steps', 'warmup_ratio')):
        if not getattr(settings, warmup, True):
            idle([start], f'a warm-up, and {parser.spelled(warmup)} is 0')
    if not getattr(settings, 'mixup', True):
        idle(['mixup_alpha', 'mixup_off_epoch'], '--mixup, which is not given')
    if not getattr(settings, 'use_rec', True):
        idle(['rec_train', 'rec_train_idx', 'rec_val', 'rec_val_idx'], '--use-rec, which is not given')


def refuse_unread(parser: Parser, settings: argparse.Namespace, argv: Sequence[str], chosen: Network) -> None:
    """`UsageError` for a flag in `argv` about activation units that the network has none of."""
    given = parser.given(argv)
    for option in unread_options(chosen.name, chosen.options):
        name = UNITS.get(option)
        if name in given or 'option' in given:
            flag = parser.spelled(name) if name in given else f'--option {option}={chosen.options[option]}'
            raise UsageError(f'{flag} is for other activation units than those of {chosen.name}; leave it out')
    if 'act_layers' in given and activation_of(chosen.name, chosen.options) == 'relu':
        refuse(parser, settings, ['act_layers'], f'units in the place of ReLU, and {chosen.name} has ReLU everywhere')


def unreached(parser: Parser, settings: argparse.Namespace, steps_per_epoch: int) -> List[str]:
    """Return a line for each part of the schedule that this run ends before, or never leaves.

    They are told and not refused: a trial of a few epochs is made with the settings of the whole run.
    """
    epochs, lines = settings.num_epochs, []
    length = f'the {epochs} epochs of this run' if epochs > 1 else 'the one epoch of this run'

    def tell(name: str, what: str) -> None:
        lines.append(f'{parser.spelled(name)} {getattr(settings, name)}: {what}')

    if settings.lr_mode == 'step':
        if settings.lr_decay_period:
            if settings.lr_decay_period >= epochs:
                tell('lr_decay_period', f'the learning rate never falls within {length}')
        else:
            steps = parse_epochs(settings.lr_decay_epoch)
            late = [str(step) for step in steps if step >= epochs]
            if steps and len(late) == len(steps):
                tell('lr_decay_epoch', f'the learning rate never falls within {length}')
            elif late:
                tell('lr_decay_epoch', f'the falls at {", ".join(late)} are not within {length}')
    warmup = getattr(settings, 'warmup_epochs', 0)
    if warmup and warmup == epochs:
        tell('warmup_epochs', f'the learning rate only warms up within {length}')
    steps = epochs * steps_per_epoch
    if getattr(settings, 'warmup_steps', 0) >= steps:
        tell('warmup_steps', f'the learning rate only warms up within the {steps} steps of this run')
    if getattr(settings, 'mixup', False) and settings.mixup_off_epoch >= epochs:
        tell('mixup_off_epoch', f'mixup is off throughout {length}')
    return lines
