"""The flags of the machine: devices, precision, and how a network is computed there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from training.config.fields import Group, Idle, flag, switch
from training.config.flags import number

__all__ = ['MachineSettings']


@dataclass(frozen=True)
class MachineSettings(Group):
    """Where and how the network is computed, and the seed of all random numbers."""

    title = 'machine'

    gpus: str = flag(
        '--gpus', default='0', help="numbers of the GPUs, separated by commas; the CPU if none is visible, or for ''"
    )
    num_gpus: Optional[int] = None  # in the place of `gpus`
    horovod: bool = switch(
        '--horovod',
        help='one of several processes that train together, started by horovodrun; each takes --batch-size images of a '
        'step, and one GPU or the CPU',
    )
    sync_bn: bool = switch(
        '--sync-bn', help='with --horovod: batch norms take the statistics of the images of all processes'
    )
    fp16_allreduce: bool = switch(
        '--fp16-allreduce',
        help='with --horovod: processes exchange gradients in float16, which pays on networks of 1 Gbit/s and less',
    )
    dtype: str = flag(
        '--dtype',
        choices=('float32', 'float16', 'bfloat16'),
        default='float32',
        help='number format of the network: float16 on GPUs, bfloat16 on CPUs that have it',
    )
    mode: str = flag(
        '--mode',
        choices=('auto', 'imperative', 'hybrid', 'static'),
        default='auto',
        help='how the network runs: op by op, as a graph, as a graph with fixed memory, or what is fastest here',
    )
    recompute: bool = switch(
        '--recompute',
        help='train in less memory: keep what goes into the first blocks of the network, and compute the rest again '
        'for the backward pass; the same gradients, but longer steps; float32 alone',
    )
    max_skipped: int = flag(
        '--max-skipped',
        type=number(int, 0),
        default=5,
        help='steps whose loss or gradient is not finite are skipped; more than this many in a row stop the run',
    )
    seed: int = flag(
        '--seed', type=number(int, 0, 2**31 - 1), default=0, help='determines every random number of a run'
    )

    def idle(self) -> Idle:
        if not self.horovod:
            yield ['sync_bn', 'fp16_allreduce'], '--horovod, which is not given'

    @property
    def wanted(self) -> str:
        """Return the numbers of the GPUs, with commas."""
        return self.gpus if self.num_gpus is None else ','.join(map(str, range(self.num_gpus)))

    @property
    def told(self) -> str:
        """Return the flag that selects the devices, with its value."""
        return f'--gpus {self.gpus}' if self.num_gpus is None else f'--num-gpus {self.num_gpus}'
