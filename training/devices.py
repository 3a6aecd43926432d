"""The devices a run trains on."""

import argparse
from typing import Any, List, Optional, Tuple

import mxnet as mx

from environment import UsageError

__all__ = ['chosen_devices', 'contexts']


def chosen_devices(settings: argparse.Namespace) -> Tuple[List[Any], str]:
    """What --gpus or --num-gpus ask for, see `contexts`."""
    if 'num_gpus' in settings:
        return contexts(','.join(map(str, range(settings.num_gpus))), flag=f'--num-gpus {settings.num_gpus}')
    return contexts(settings.gpus)


def contexts(gpus: str, visible: Optional[int] = None, flag: Optional[str] = None) -> Tuple[List[Any], str]:
    """'0,1' as [gpu(0), gpu(1)]; '' or a machine without a GPU: [cpu()]. With it one line that says what
    was chosen. `flag` is what the user gave, with its value.
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
        return [mx.cpu()], 'training on the CPU'
    if visible == 0:
        return [mx.cpu()], f'{flag}: no GPU is visible, training on the CPU'
    absent = [n for n in wanted if not 0 <= n < visible]
    if absent or len(set(wanted)) != len(wanted):
        name, _, value = flag.partition(' ')
        raise UsageError(f'{name} is {value}; this machine has the GPUs 0 to {visible - 1}, each may be named once')
    return [mx.gpu(n) for n in wanted], f'training on {", ".join(f"GPU {n}" for n in wanted)}'
