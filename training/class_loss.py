"""Losses of a batch against a target for each class: softmax, binary and focal cross-entropy.

Each is `loss(logits, targets)` -> (N,), both (N, K), of which targets are shares from 0 to 1; `weights` (K,) are those
of the classes, None for 1 each. Weights count where the target does, as in PyTorch's `cross_entropy(weight=...)` and
`binary_cross_entropy_with_logits(pos_weight=...)`.
"""

from typing import Any, Dict, Optional, Sequence

from mxnet import nd

__all__ = ['BinaryLoss', 'BinaryFocalLoss', 'FocalLoss', 'SoftmaxLoss']

SMALLEST = 1e-7  # the least value of 1 - p that is used, since a power below 1 has no gradient at 0


class ClassLoss:
    """A loss with weights of the classes, which are copied to each device once."""

    def __init__(self, weights: Optional[Sequence[float]] = None) -> None:
        self.weights = weights
        self._copies: Dict[Any, Any] = {}

    def weighted(self, array: Any) -> Any:
        """Return `array` (N, K) times the weights of the classes."""
        if self.weights is None:
            return array
        place = array.context
        if place not in self._copies:
            self._copies[place] = nd.array(self.weights, ctx=place).reshape((1, -1))
        return nd.broadcast_mul(array, self._copies[place])


class SoftmaxLoss(ClassLoss):
    """Cross-entropy of the softmax, the sum over classes of `-w t log(p)`."""

    def __call__(self, logits: Any, targets: Any) -> Any:
        return -(self.weighted(targets) * nd.log_softmax(logits)).sum(axis=1)


class FocalLoss(ClassLoss):
    """The sum over classes of `-w t (1 - p)^gamma log(p)`, p the softmax (Lin et al., arXiv 1708.02002, equation 5)."""

    def __init__(self, gamma: float = 2.0, weights: Optional[Sequence[float]] = None) -> None:
        super().__init__(weights)
        self.gamma = gamma

    def __call__(self, logits: Any, targets: Any) -> Any:
        logs = nd.log_softmax(logits)
        return -(self.weighted(targets) * _away(nd.exp(logs), self.gamma) * logs).sum(axis=1)


class BinaryLoss(ClassLoss):
    """Cross-entropy of each class's sigmoid, averaged over classes (Wightman et al., arXiv 2110.00476).

    Args:
        threshold: targets above it become 1 and all others 0; None leaves mixed and smoothed ones unchanged.
        summed: sum over classes instead.
    """

    def __init__(
        self, threshold: Optional[float] = None, summed: bool = False, weights: Optional[Sequence[float]] = None
    ) -> None:
        super().__init__(weights)
        self.threshold, self.summed = threshold, summed

    def __call__(self, logits: Any, targets: Any) -> Any:
        if self.threshold is not None:
            targets = targets > self.threshold
        losses = self.by_class(logits, targets)
        return losses.sum(axis=1) if self.summed else losses.mean(axis=1)

    def by_class(self, logits: Any, targets: Any) -> Any:
        """Return the losses (N, K): `-w t log(p) - (1 - t) log(1 - p)`."""
        return self.weighted(targets) * _softplus(-logits) + (1 - targets) * _softplus(logits)


class BinaryFocalLoss(BinaryLoss):
    """`BinaryLoss` whose parts are multiplied by `(1 - p)^gamma` and `p^gamma`, as in RetinaNet."""

    def __init__(self, gamma: float = 2.0, summed: bool = False, weights: Optional[Sequence[float]] = None) -> None:
        super().__init__(None, summed, weights)
        self.gamma = gamma

    def by_class(self, logits: Any, targets: Any) -> Any:
        p = nd.sigmoid(logits)
        there = self.weighted(targets) * _softplus(-logits) * _away(p, self.gamma)
        return there + (1 - targets) * _softplus(logits) * _away(1 - p, self.gamma)


def _softplus(x: Any) -> Any:
    """Return `log(1 + exp(x))` with the gradient 1/2 at 0, unlike a sum with a ReLU, whose gradient there is 0."""
    return nd.Activation(x, act_type='softrelu')


def _away(p: Any, gamma: float) -> Any:
    """Return `(1 - p)^gamma`."""
    return nd.clip(1 - p, SMALLEST, 1) ** gamma
