"""The devices a run trains on."""

import argparse
from typing import Any, List, Optional, Tuple

import mxnet as mx

from environment import UsageError
from training.distributed.ranks import Ranks

__all__ = ['chosen_devices', 'contexts']


def chosen_devices(settings: argparse.Namespace, ranks: Ranks) -> Tuple[List[Any], str]:
    """What --gpus or --num-gpus ask for, see `contexts`; with several ranks one GPU for each."""
    if settings.horovod:
        return own_device(settings, ranks)
    if 'num_gpus' in settings:
        return contexts(','.join(map(str, range(settings.num_gpus))), flag=f'--num-gpus {settings.num_gpus}')
    return contexts(settings.gpus)


def own_device(settings: argparse.Namespace, ranks: Ranks) -> Tuple[List[Any], str]:
    """The device of a rank: the CPU, or the GPU with its number among the ranks of this machine."""
    count = settings.num_gpus if 'num_gpus' in settings else len([n for n in settings.gpus.split(',') if n.strip()])
    if count > 1:
        flag = f'--num-gpus {count}' if 'num_gpus' in settings else f'--gpus {settings.gpus}'
        raise UsageError(f'{flag} is more than one, and --horovod has a process for each GPU; give one or none')
    devices, line = contexts(str(ranks.local_rank) if count else '')
    return devices, f'{line}, in {ranks.size} processes'


def contexts(
    gpus: str, visible: Optional[int] = None, flag: Optional[str] = None, doing: str = 'training'
) -> Tuple[List[Any], str]:
    """'0,1' as [gpu(0), gpu(1)]; '' or a machine without a GPU: [cpu()]. With it one line that says what
    was chosen for `doing`. `flag` is what the user gave, with its value.
    """
    flag = f'--gpus {gpus}' if flag is None else flag
    try:
        wanted = [int(part) for part in gpus.split(',') if part.strip()]
    except ValueError:
        raise UsageError(
            f"--gpus is '{gpus}'; allowed: device numbers with commas, such as 0,1; '' for the CPU"
        ) from None
    if visible is None:
        visible = mx.context.num_gpus()
    if not wanted:
        return [mx.cpu()], f'{doing} on the CPU'
    if visible == 0:
        return [mx.cpu()], f'{flag}: no GPU is visible, {doing} on the CPU'
    absent = [n for n in wanted if not 0 <= n < visible]
    if absent or len(set(wanted)) != len(wanted):
        name, _, value = flag.partition(' ')
        raise UsageError(f'{name} is {value}; this machine has the GPUs 0 to {visible - 1}, each may be named once')
    return [mx.gpu(n) for n in wanted], f'{doing} on {", ".join(f"GPU {n}" for n in wanted)}'
