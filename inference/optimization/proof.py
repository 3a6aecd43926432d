"""Compare an optimized network's answers with those of the network it was made from."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UserError

__all__ = ['INT8_LIMIT', 'TOLERANCE', 'Proof', 'by_rounding', 'difference', 'first_layer_or_not']

# Beyond this difference int8 is not inaccurate but wrong.
INT8_LIMIT = 1.0
#: Largest allowed difference of a logit, relative to the largest logit, from the network's own. int8 has no bound here:
#: what it costs depends on the images, so it is measured as accuracy (scripts/validate.py).
TOLERANCE = {'float32': 1e-4, 'float16': 2e-2, 'bfloat16': 0.5}


def _differences(ours: mx.nd.NDArray, theirs: mx.nd.NDArray) -> np.ndarray:
    """Return each image's largest difference of a logit, relative to the largest logit; infinite if one is NaN."""
    ours, theirs = ours.asnumpy(), theirs.asnumpy()
    largest = np.abs(ours - theirs).max(axis=1) / max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
    return np.where(np.isfinite(largest), largest, np.inf)


def difference(ours: mx.nd.NDArray, theirs: mx.nd.NDArray) -> float:
    """Return the largest difference of a logit, relative to the largest logit; infinite if any is NaN."""
    return float(_differences(ours, theirs).max())


def by_rounding(net: gluon.HybridBlock, data: mx.nd.NDArray, expected: mx.nd.NDArray) -> np.ndarray:
    """Return how far rounding alone may move each image's answer, relative to the largest logit.

    In deep networks with untrained gates some images sit on a tipping point, where the last bit of a pixel moves the
    answer by a thousandth. A graph that sums in another order rounds differently in every layer; this is modelled as
    ten such bits, taking the worst of three draws.
    """
    random, found = np.random.RandomState(0), []
    for _ in range(3):
        bits = random.choice([-1, 1], data.shape).astype(np.float32) * np.finfo(np.float32).eps
        found.append(_differences(net(data * mx.nd.array(1 + bits, ctx=data.context)), expected))
    return 10 * np.max(found, axis=0)


class Proof:
    """A network's own answers to random images, which each optimized form of it must give as well."""

    def __init__(self, net: gluon.HybridBlock, input_shape: Sequence[int], precision: str, ctx: mx.Context) -> None:
        self.net, self.precision = net, precision
        self.data = mx.nd.random.normal(shape=tuple(input_shape), ctx=ctx)
        self._expected: Optional[mx.nd.NDArray] = net(self.data) if precision in TOLERANCE else None

    def check(self, network: Any) -> None:
        """Raise `UserError` if the answers of `network` differ by more than the precision's tolerance."""
        if self._expected is None:
            return
        away, allowed = _differences(network(self.data), self._expected), TOLERANCE[self.precision]
        if np.isfinite(away).all():
            if away.max() <= allowed:
                return
            if (away <= np.maximum(by_rounding(self.net, self.data, self._expected), allowed)).all():
                return
        raise UserError(
            f'the {self.precision} form of this network differs by {away.max():.1e} of the largest logit, and '
            f'{allowed} is allowed; choose another precision, and report this network'
        )


def first_layer_or_not(
    make: Callable[[bool], Any], some: mx.nd.NDArray, expected: mx.nd.NDArray
) -> Tuple[Any, bool, float]:
    """Choose whether an int8 network keeps its first layer in float32: only if that halves the error.

    Args:
        make: takes whether the first layer is float32 and returns the network.
        some: images to compare on.
        expected: the float32 network's answers to them.

    Returns:
        The network, whether its first layer is float32, and its difference from `expected`.

    Raises:
        UserError: both differ by more than `INT8_LIMIT`.
    """
    made = [make(first_layer) for first_layer in (False, True)]
    differences = [difference(one(some), expected) for one in made]
    if not min(differences) <= INT8_LIMIT:
        raise UserError(
            f'the int8 form of this network differs by {min(differences):.1e} of the largest logit on the calibration '
            f'images, and {INT8_LIMIT} is allowed; choose bfloat16 or float32'
        )
    first_layer = differences[1] < differences[0] / 2
    return made[first_layer], first_layer, differences[first_layer]
