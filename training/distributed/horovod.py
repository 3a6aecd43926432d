"""Several processes that train together through Horovod, one for each GPU, or for a share of the cores.

In every step all ranks exchange one array: the gradients and figures, summed, and the running statistics, averaged. So
the ranks stay equal in everything (if updates depend on the machine, see `require_alike`), any of them can write the
checkpoint, and, as a single array is always divided and summed in the same way, a run ends with the same bits each
time.
"""

import json
import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import mxnet as mx
import numpy as np

from environment import UsageError, UserError, import_extra
from kernels.multi_tensor import copying
from training.config.optimizer import OptimizerSettings
from training.distributed.arithmetic import arithmetic, in_words
from training.distributed.ranks import Ranks

__all__ = ['HorovodRanks', 'join', 'require_alike', 'require_flag', 'require_same_plugins']

_PRECISIONS = ('float16', 'float32')
# Variables that launchers set for their processes: Horovod with Gloo, Open MPI, Intel MPI and MPICH.
LAUNCHED = ('HOROVOD_RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK')


def require_flag(horovod: bool) -> None:
    """Raise `UsageError` in a process that a launcher started without --horovod.

    Otherwise each would train by itself, in one folder.
    """
    name = next((name for name in LAUNCHED if name in os.environ), None)
    if name is not None and not horovod:
        raise UsageError(
            f'this is one of the processes that a launcher started ({name} is {os.environ[name]}), and --horovod is '
            'missing; add it to train together'
        )


def join(horovod: bool) -> Ranks:
    """Return the ranks of a run, with or without --horovod. Raises `SetupError` if Horovod is missing."""
    return HorovodRanks() if horovod else Ranks()


def require_alike(settings: OptimizerSettings, ranks: Ranks) -> None:
    """Raise `UserError` on a rank whose updates would differ in last bits from rank 0's, so that they drift apart.

    Muon's are matrix products, and LAMB's contain norms of parameters, which depend on the processor and the number of
    threads.
    """
    if settings.optimizer not in ('muon', 'lamb'):
        return
    own = arithmetic()
    del own['kernels']  # which do not affect these
    first = ranks.agree(own)
    if own != first:
        raise UserError(
            f'rank {ranks.rank} computes with {in_words(own, first)}, and rank 0 with {in_words(first, own)}; '
            f'--optimizer {settings.optimizer} needs ranks that compute alike: set OMP_NUM_THREADS to the same on all, '
            'or take nag'
        )


def require_same_plugins(plugins: Sequence[Any], ranks: Ranks) -> None:
    """Raise `UserError` on a rank whose --plugin files differ from rank 0's."""
    own = [plugin.sha256 for plugin in plugins]
    if ranks.size > 1 and ranks.agree(own) != own:
        names = ', '.join(plugin.path for plugin in plugins) or 'none'
        raise UserError(
            f'--plugin: rank {ranks.rank} reads other files than rank 0 ({names}); give all ranks the same ones'
        )


class HorovodRanks(Ranks):
    """The processes of one `horovodrun`, or of another of Horovod's launchers; a single process without one."""

    def __init__(self) -> None:
        # Arrays that are sent together are cut and summed in other places than each by itself.
        os.environ.setdefault('HOROVOD_FUSION_THRESHOLD', '0')
        self._horovod = import_extra('horovod.mxnet')
        self._horovod.init()
        self.rank, self.size = self._horovod.rank(), self._horovod.size()
        self.local_rank = self._horovod.local_rank()

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except mx.MXNetError as error:
            if 'horovod' not in str(error).lower() and 'gloo' not in str(error).lower():
                raise
            raise UserError(
                f'rank {self.rank} cannot go on, as another rank has ended; see what it said, and start all again '
                'with --resume'
            ) from error

    def agree(self, value: Any) -> Any:
        return json.loads(self.share(json.dumps(value).encode()))

    def share(self, content: bytes) -> bytes:
        length = mx.nd.array([len(content)], dtype=np.int64)
        length = int(self._horovod.broadcast(length, 0, name='length').asnumpy()[0])
        if length == 0:
            return b''
        array = np.frombuffer(content, np.uint8) if self.first else np.zeros(length, np.uint8)
        shared = self._horovod.broadcast(mx.nd.array(array, dtype=np.uint8), 0, name='content')
        return content if self.first else shared.asnumpy().tobytes()

    def total(self, values: Sequence[float]) -> np.ndarray:
        array = mx.nd.array(values, dtype=np.float64)
        return self._horovod.allreduce_(array, op=self._horovod.Sum, name='total').asnumpy()

    def sum_up(self, array: Any, name: str) -> None:
        self._horovod.allreduce_(array, op=self._horovod.Sum, name=name)

    def reduction(self, gradients: List[Any], statistics: List[Any]) -> Callable[[Any, bool], Any]:
        return _Reduction(self._horovod, gradients, statistics, self.fp16)


class _Reduction:
    """Sums gradients and figures over all ranks and averages statistics, as one array for each precision.

    The arrays stay the same from step to step. Packing and unpacking are one call to the engine for each kind. With
    `fp16`, gradients in float32 are exchanged in float16, divided by a power of two that is at least the number of
    ranks: where the gradients of each rank are in its range, so are their sums.
    """

    def __init__(self, horovod: Any, gradients: List[Any], statistics: List[Any], fp16: bool = False) -> None:
        self._horovod, context = horovod, gradients[0].context
        half = 2.0 ** -(horovod.size() - 1).bit_length() if fp16 else 1.0
        of = {name: [array for array in gradients if np.dtype(array.dtype).name == name] for name in _PRECISIONS}
        self._figures = mx.nd.empty((3,), ctx=context)
        # (arrays, the precision they are exchanged in, a factor before, a factor after)
        kinds = [
            (of['float16'], 'float16', 1.0, 1.0),
            (of['float32'], 'float16' if fp16 else 'float32', half, 1.0 / half),
            (statistics, 'float32', 1.0, 1.0 / horovod.size()),
            ([self._figures], 'float32', 1.0, 1.0),
        ]
        self._pack: List[Callable[[], Any]] = []
        self._unpack: List[Callable[[], Any]] = []
        self._flat: Dict[str, Any] = {}
        for precision in _PRECISIONS:
            own = [kind for kind in kinds if kind[0] and kind[1] == precision]
            if not own:
                continue
            shapes = [[array.shape for array in arrays] for arrays, *_ in own]
            self._flat[precision], views = _parts(shapes, precision, context)
            for (arrays, _, before, after), shares in zip(own, views):
                self._pack.append(copying(arrays, shares, before))
                self._unpack.append(copying(shares, arrays, after))

    def __call__(self, figures: Any, asked: bool) -> Any:
        mx.nd.concat(figures, mx.nd.full((1,), float(asked), ctx=figures.context), dim=0, out=self._figures)
        for pack in self._pack:
            pack()
        for precision, flat in self._flat.items():
            self._horovod.allreduce_(flat, op=self._horovod.Sum, name=f'step {precision}')
        for unpack in self._unpack:
            unpack()
        return self._figures.copy()


def _parts(kinds: Sequence[Sequence[Tuple[int, ...]]], precision: str, context: Any) -> Tuple[Any, List[List[Any]]]:
    """Return a vector, and for each kind views of it in the shapes, which follow one another in it."""
    flat = mx.nd.zeros(sum(int(np.prod(shape)) for shapes in kinds for shape in shapes), context, precision)
    views: List[List[Any]] = []
    begin = 0
    for shapes in kinds:
        views.append([])
        for shape in shapes:
            end = begin + int(np.prod(shape))
            views[-1].append(flat[begin:end].reshape(shape))
            begin = end
    return flat, views
