"""The loss of one device's batch, with smoothed and mixed labels, and its figures.

Everything is float32, whatever the network computes in.
"""

from typing import Any, Callable, Optional

from mxnet import gluon, nd

from training.mixup import mix

__all__ = ['Criterion', 'figures']


class Criterion:
    """`criterion(logits, labels, share)` -> losses (N,): softmax cross-entropy, or what `kind` is.

    Logits (N, K), labels (N,) class indices or (N, K) 0 and 1 where there may be several, share: mixup's lambda; `kind`
    is one of `training.class_loss`. With the opinion `soft` (N, K) of a `teacher` it is
    `(1 - w) T^2 CE(logits / T, soft) + w loss(logits, label)`, w its weight of labels, T its temperature.

    With smoothing `eta` the target is `1 - eta + eta / K` for the label and `eta / K` elsewhere; targets
    are mixed after smoothing.
    """

    def __init__(
        self,
        classes: int,
        smoothing: float = 0.0,
        teacher: Any = None,
        kind: Optional[Callable[[Any, Any], Any]] = None,
    ) -> None:
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f'the label smoothing is {smoothing}; allowed: 0 up to but not including 1')
        self.classes, self.smoothing, self.teacher, self.kind = classes, smoothing, teacher, kind
        self._hard = gluon.loss.SoftmaxCrossEntropyLoss()
        self._soft = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)

    def targets(self, labels: Any, share: float = 1.0) -> Any:
        """Return the target distribution (N, K) of every image."""
        if labels.ndim == 2:
            return mix(labels, share)
        off = self.smoothing / self.classes
        return mix(nd.one_hot(labels, self.classes, on_value=1.0 - self.smoothing + off, off_value=off), share)

    def __call__(self, logits: Any, labels: Any, share: float = 1.0, soft: Any = None) -> Any:
        loss = self._by_labels(logits, labels, share)
        if soft is None:
            return loss
        weight, temperature = self.teacher.hard_weight, self.teacher.temperature
        return (1 - weight) * temperature**2 * self._soft(logits / temperature, soft) + weight * loss

    def _by_labels(self, logits: Any, labels: Any, share: float) -> Any:
        if self.kind is not None:
            return self.kind(logits, self.targets(labels, share))
        if self.smoothing == 0.0 and share == 1.0:
            return self._hard(logits, labels)
        return self._soft(logits, self.targets(labels, share))


class _Figures(gluon.HybridBlock):
    def hybrid_forward(self, F: Any, losses: Any, logits: Any, labels: Any) -> Any:
        correct = F.sum(F.broadcast_equal(F.argmax(logits, axis=1), labels))
        return F.concat(F.sum(losses).reshape(1), correct.reshape(1), dim=0)


_figures = _Figures()
_figures.hybridize()  # one call, as each takes longer than what there is to compute


def figures(losses: Any, logits: Any, labels: Any, share: float = 1.0) -> Any:
    """Return [sum of losses, correct predictions] (2,) on the device.

    A mixed image counts with the label of its larger part.

    If an image may have several labels (N, K), no prediction counts as correct.
    """
    if labels.ndim == 2:
        return nd.concat(losses.sum().reshape(1), nd.zeros((1,), ctx=losses.context), dim=0)
    return _figures(losses, logits, labels.flip(axis=0) if share < 0.5 else labels)
