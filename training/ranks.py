"""The processes that train together. `Ranks` is a process that trains alone; Horovod's are in
`training.horovod`.
"""

from typing import Any, List, Sequence

import numpy as np

__all__ = ['Ranks']


class Ranks:
    """`rank` is this process among `size`, `local_rank` among those on this machine; rank 0 writes files."""

    rank, size, local_rank = 0, 1, 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def agree(self, value: Any) -> Any:
        """Rank 0's `value`, of what JSON can say, on every rank."""
        return value

    def share(self, content: bytes) -> bytes:
        """Rank 0's bytes on every rank."""
        return content

    def total(self, values: Sequence[float]) -> np.ndarray:
        """The sums of float64 figures over all ranks."""
        return np.asarray(values, np.float64)

    def reduce(self, gradients: List[Any], figures: Any, asked: bool) -> Any:
        """Sum gradients, in place, and figures over all ranks, without waiting; returns the figures, and after them how
        many ranks were `asked` to stop. Only called where there are several.
        """
        raise NotImplementedError
