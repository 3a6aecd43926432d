"""Several processes that train together through Horovod, one for each GPU, or for a share of the cores.

In every step all ranks exchange one array: the gradients and figures, summed, and the running statistics, averaged. So
the ranks stay equal in everything (if updates depend on the machine, see `require_alike`), any of them can write the
checkpoint, and, as a single array is always divided and summed in the same way, a run ends with the same bits each
time.
"""

import json
import os
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

from environment import UsageError, UserError, import_extra
from training.config.optimizer import OptimizerSettings
from training.distributed.arithmetic import arithmetic, in_words
from training.distributed.ranks import Ranks

__all__ = ['HorovodRanks', 'join', 'require_alike', 'require_flag', 'require_same_plugins']

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


class _Sent(NamedTuple):
    """What is exchanged as one array: its precision, and of each part the shape, the precision and two factors."""

    precision: str
    arrays: List[Any]
    shapes: List[Tuple[int, ...]]
    precisions: List[str]
    before: List[float]
    after: List[float]


class _Reduction:
    """Sums gradients and figures over all ranks and averages statistics, as one array for each precision.

    The arrays stay the same from step to step. Packing and unpacking are one call to the engine each. With `fp16`,
    gradients in float32 are exchanged in float16, divided by a power of two that is at least the number of ranks: where
    the gradients of each rank are in its range, so are their sums.
    """

    def __init__(self, horovod: Any, gradients: List[Any], statistics: List[Any], fp16: bool = False) -> None:
        self._horovod, self._context = horovod, gradients[0].context
        half = 2.0 ** -(horovod.size() - 1).bit_length()
        sent = {'float16': _Sent('float16', [], [], [], [], []), 'float32': _Sent('float32', [], [], [], [], [])}
        for array in gradients:
            own = np.dtype(array.dtype).name
            factor = half if fp16 and own == 'float32' else 1.0
            _add(sent['float16' if fp16 else own], array, array.shape, own, factor, 1.0 / factor)
        for array in statistics:
            _add(sent['float32'], array, array.shape, 'float32', 1.0, 1.0 / horovod.size())
        _add(sent['float32'], None, (3,), 'float32', 1.0, 1.0)
        parts = [one for one in sent.values() if one.shapes]
        self._parts = [(one.precision, one.arrays, _packing(one), _unpacking(one)) for one in parts]

    def __call__(self, figures: Any, asked: bool) -> Any:
        result = mx.nd.empty((3,), ctx=self._context)
        figures = mx.nd.concat(figures, mx.nd.full((1,), float(asked), ctx=self._context), dim=0)
        for precision, arrays, pack, unpack in self._parts:
            more = precision == 'float32'
            flat = pack(*arrays, *([figures] if more else []))
            self._horovod.allreduce_(flat, op=self._horovod.Sum, name=f'step {precision}')
            unpack(flat, out=[*arrays, *([result] if more else [])])
        return result


def _add(sent: _Sent, array: Any, shape: Sequence[int], precision: str, before: float, after: float) -> None:
    if array is not None:
        sent.arrays.append(array)
    for row, value in zip(sent[2:], (tuple(shape), precision, before, after)):
        row.append(value)


def _packing(sent: _Sent) -> Any:
    """Return a function that packs arrays into one vector."""
    parts = []
    for number, (precision, factor) in enumerate(zip(sent.precisions, sent.before)):
        part = mx.sym.reshape(mx.sym.var(f'array{number}'), shape=(-1,))
        part = part if factor == 1.0 else part * factor
        parts.append(part if precision == sent.precision else mx.sym.cast(part, sent.precision))
    return mx.nd.CachedOp(mx.sym.concat(*parts, dim=0))


def _unpacking(sent: _Sent) -> Any:
    """Return a function that unpacks arrays from one vector."""
    flat, begin, parts = mx.sym.var('flat'), 0, []
    for shape, precision, factor in zip(sent.shapes, sent.precisions, sent.after):
        end = begin + int(np.prod(shape))
        part = mx.sym.reshape(mx.sym.slice_axis(flat, axis=0, begin=begin, end=end), shape=shape)
        part = part if precision == sent.precision else mx.sym.cast(part, precision)
        parts.append(part if factor == 1.0 else part * factor)
        begin = end
    return mx.nd.CachedOp(mx.sym.Group(parts))
