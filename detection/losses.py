"""The losses of the detectors, each a sum: what to divide by is the detector's to say."""

from __future__ import annotations

from mxnet import nd

__all__ = ['binary_cross_entropy', 'cross_entropy', 'focal', 'smooth_l1']


def binary_cross_entropy(logits: nd.NDArray, targets: nd.NDArray) -> nd.NDArray:
    """Return ``-t log p - (1 - t) log(1 - p)`` of ``p = sigmoid(logits)`` by element, exact for any logit."""
    return nd.relu(logits) - logits * targets + nd.Activation(-nd.abs(logits), act_type='softrelu')


def focal(logits: nd.NDArray, targets: nd.NDArray, alpha: float = 0.25, gamma: float = 2.0) -> nd.NDArray:
    """Return ``-alpha_t (1 - p_t)^gamma log(p_t)`` for each element; ``targets`` are 0 or 1, in the logits' shape.

    Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", arXiv 1708.02002, equation 5: ``p_t`` is
    the probability given to what is true, ``alpha_t`` is alpha for ones and 1 - alpha for zeros. GluonCV's FocalLoss
    takes the logarithm of a sigmoid plus 1e-12, which has no gradient where a confident answer is wrong.
    """
    wrong = nd.sigmoid(logits * (1 - 2 * targets))  # 1 - p_t
    balance = targets * (2 * alpha - 1) + (1 - alpha)
    return balance * wrong**gamma * binary_cross_entropy(logits, targets)


def smooth_l1(predicted: nd.NDArray, targets: nd.NDArray, beta: float) -> nd.NDArray:
    """Return ``d^2 / (2 beta)`` for ``d = |predicted - targets|`` below ``beta``, else ``d - beta / 2``, by element."""
    return nd.smooth_l1(predicted - targets, scalar=beta**-0.5)


def cross_entropy(logits: nd.NDArray, labels: nd.NDArray) -> nd.NDArray:
    """Return ``-log softmax(logits)[label]``, (R,), of logits (R, C) and labels (R,)."""
    return -nd.pick(nd.log_softmax(logits, axis=-1), labels, axis=-1)
