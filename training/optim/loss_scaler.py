"""The loss scale of float16: as large as gradients allow, so that small ones do not vanish.

The scale is a power of two, so multiplying by it and dividing the update by it changes no bit of a gradient that
float16 can hold either way (Micikevicius et al., arXiv 1710.03740).
"""

from typing import Any, Dict, List

__all__ = ['SCALE', 'LossScaler']

LARGEST, SMALLEST = 2.0**24, 2.0**-10
SCALE = {'scale': float, 'streak': int, 'grow_at': [int]}  # what `LossScaler.tree` returns, as a schema


class LossScaler:
    """A scale that is halved after a step that overflowed, and doubled after `window` good ones in a row.

    What happened in a step is known `lag` steps later. The doubling always waits that long, so that the scale of a step
    is the same whether the run was interrupted before it or not.
    """

    def __init__(self, scale: float = 2.0**16, window: int = 2000, lag: int = 0) -> None:
        self.scale, self.window, self.lag = scale, window, lag
        self.streak = 0
        self.grow_at: List[int] = []  # steps from which the scale is to be twice as large

    def of(self, step: int) -> float:
        """Return the scale for this step; all earlier steps must have been asked for before."""
        while self.grow_at and step >= self.grow_at[0]:
            self.scale = min(2 * self.scale, LARGEST)
            del self.grow_at[0]
        return self.scale

    def good(self, step: int) -> None:
        """Record that the step was finite."""
        self.streak += 1
        if self.streak == self.window:
            self.streak = 0
            self.grow_at.append(step + self.lag + 1)

    def bad(self, scale: float) -> bool:
        """Record that a step with this scale was not finite; return whether a smaller scale may help."""
        self.streak, self.grow_at = 0, []
        self.scale = max(scale / 2, SMALLEST)
        return self.scale < scale

    def tree(self) -> Dict[str, Any]:
        """Return the scale's state for a checkpoint."""
        return {'scale': self.scale, 'streak': self.streak, 'grow_at': list(self.grow_at)}

    def set(self, tree: Dict[str, Any]) -> None:
        self.scale, self.streak, self.grow_at = tree['scale'], tree['streak'], list(tree['grow_at'])
