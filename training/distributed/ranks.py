"""The processes that train together.

`Ranks` is a process that trains alone; Horovod's are in `training.distributed.horovod`.
"""

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, List, Sequence

import numpy as np

__all__ = ['Ranks']


class Ranks:
    """`rank` is this process among `size`, `local_rank` among those on this machine; rank 0 writes files.

    With `fp16`, gradients in float32 are rounded to float16 to be summed.
    """

    rank, size, local_rank, fp16 = 0, 1, 0, False

    @property
    def first(self) -> bool:
        return self.rank == 0

    def together(self) -> ContextManager[None]:
        """Return a context for what the ranks do together: `UserError` if another rank has ended meanwhile."""
        return nullcontext()

    def agree(self, value: Any) -> Any:
        """Return rank 0's `value`, which JSON can express, on every rank."""
        return value

    def share(self, content: bytes) -> bytes:
        """Return rank 0's bytes on every rank."""
        return content

    def total(self, values: Sequence[float]) -> np.ndarray:
        """Return the sums of float64 figures over all ranks."""
        return np.asarray(values, np.float64)

    def sum_up(self, array: Any, name: str) -> None:
        """Sum an array over all ranks, in place and without waiting; `name` is another for each array under way."""

    def reduction(self, gradients: List[Any], statistics: List[Any]) -> Callable[[Any, bool], Any]:
        """Return `reduce(figures (2,), asked)`, which sums gradients and averages statistics over all ranks.

        It works in place and without waiting, and returns the sums (3,) of the figures and of how many ranks were
        `asked` to stop.
        """
        raise NotImplementedError('a single rank has nothing to reduce')
