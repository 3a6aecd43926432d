"""The devices a run trains on."""

from typing import Any, List, Optional, Tuple

import mxnet as mx

from environment import UsageError
from environment.native_log import without_lines
from training.config.machine import MachineSettings
from training.distributed.ranks import Ranks

__all__ = ['chosen_devices', 'contexts', 'without_notices']

NOTICE = r'Running performance tests to find the best convolution algorithm'


def chosen_devices(settings: MachineSettings, ranks: Ranks) -> Tuple[List[Any], str]:
    """Return the devices that --gpus or --num-gpus select, see `contexts`; with several ranks one GPU for each."""
    return own_device(settings, ranks) if settings.horovod else contexts(settings.wanted, flag=settings.told)


def own_device(settings: MachineSettings, ranks: Ranks) -> Tuple[List[Any], str]:
    """Return the device of a rank: the CPU, or the GPU with its number among the ranks of this machine."""
    count = len([number for number in settings.wanted.split(',') if number.strip()])
    if count > 1:
        raise UsageError(f'{settings.told} is more than one, but --horovod uses one process per GPU; give one or none')
    devices, line = contexts(str(ranks.local_rank) if count else '')
    return devices, f'{line}, in {ranks.size} processes'


def without_notices(devices: List[Any]) -> List[Any]:
    """Return the devices, after suppressing MXNet's notice about the first convolution on a GPU.

    The notice, that cuDNN is looking for the fastest algorithm, would interrupt the progress bar. Other output is kept.
    """
    if devices[0].device_type == 'gpu':
        with without_lines(NOTICE):
            image = mx.nd.ones((1, 1, 8, 8), ctx=devices[0])
            mx.nd.Convolution(image, image[:, :, :3, :3], no_bias=True, num_filter=1, kernel=(3, 3)).wait_to_read()
    return devices


def contexts(
    gpus: str, visible: Optional[int] = None, flag: Optional[str] = None, doing: str = 'training'
) -> Tuple[List[Any], str]:
    """Convert '0,1' to [gpu(0), gpu(1)]; '' or a machine without a GPU gives [cpu()].

    Also return a line that says what was chosen for `doing`. `flag` is what the user gave, with its value.
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
        raise UsageError(f'{name} is {value}; this machine has the GPUs 0 to {visible - 1}, and each may be named once')
    return [mx.gpu(n) for n in wanted], f'{doing} on {", ".join(f"GPU {n}" for n in wanted)}'
