"""AdamW and LAMB: steps by the first moment of the gradient over the root of the second.

AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101, as `torch.optim.AdamW` defines
it. LAMB: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", arXiv 1904.00962, as
timm's `Lamb` defines it, but that the gradient's norm is clipped where --clip-norm says so and not to 1.
"""

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

__all__ = ['AdamW', 'TimmLamb']

TOGETHER = 45  # parameters in one call, of which MXNet's kernels have as many places


class _Own(NamedTuple):
    """A parameter in float32 with what a step takes of it: gradient, both moments, learning rate and weight decay."""

    weight: Any
    gradient: Any
    mean: Any
    variance: Any
    rate: float
    decay: float


class _Moments(mx.optimizer.Optimizer):
    """The first two moments m, v of each parameter's gradient g, in float32 beside a float32 master where it is lower.

        m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2

    Moments that begin at 0 are divided by 1 - b1^t and 1 - b2^t in step t.
    """

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.aggregate_num = TOGETHER

    def create_state(self, index: int, weight: Any) -> Tuple[Any, ...]:
        """Return both moments."""
        return mx.nd.zeros_like(weight), mx.nd.zeros_like(weight)

    def create_state_multi_precision(self, index: int, weight: Any) -> Tuple[Any, ...]:
        """Return both moments and, of a parameter of lower precision, its master."""
        if not self.multi_precision or weight.dtype == np.float32:
            return self.create_state(index, weight)
        master = weight.astype('float32')
        return (*self.create_state(index, master), master)

    def update(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        self.update_multi_precision(index, weight, grad, state)

    def update_multi_precision(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        if not isinstance(index, (list, tuple)):
            index, weight, grad, state = [index], [weight], [grad], [state]
        self._update_count(list(index))
        masters = [own[2] if len(own) == 3 else one for own, one in zip(state, weight)]
        by_count: Dict[int, List[_Own]] = {}  # parameters that joined later are at an earlier step
        for number, master, gradient, own, rate, decay in zip(
            index, masters, grad, state, self._get_lrs(index), self._get_wds(index)
        ):
            row = _Own(master, gradient.astype(master.dtype, copy=False), own[0], own[1], rate, decay)
            by_count.setdefault(self._index_update_count[number], []).append(row)
        for count, rows in by_count.items():
            self._step(count, rows)
        for one, master in zip(weight, masters):
            if master is not one:
                mx.nd.cast(master, dtype=one.dtype, out=one)

    def _step(self, count: int, rows: Sequence[_Own]) -> None:
        """Update weights and moments, which are in step `count`."""
        raise NotImplementedError

    def _clipped(self) -> Dict[str, float]:
        """Return the argument of MXNet's operators that limits a gradient's elements, if there is a limit."""
        return {'clip_gradient': self.clip_gradient} if self.clip_gradient else {}


@mx.optimizer.register
class AdamW(_Moments):
    """Adam with decoupled weight decay.

    With moments m, v as in `_Moments`, corrected to M, V, rate lr and decay wd:

        w <- (1 - lr wd) w - lr M / (sqrt(V) + epsilon)
    """

    def _step(self, count: int, rows: Sequence[_Own]) -> None:
        # The operator does not correct the moments: that goes into its rate and its epsilon. Its decay is by itself.
        root = (1 - self.beta2**count) ** 0.5
        correction = root / (1 - self.beta1**count)
        weights = [row.weight for row in rows]
        mx.nd.contrib.multi_adamw_update(
            weights,
            [row.gradient for row in rows],
            [row.mean for row in rows],
            [row.variance for row in rows],
            mx.nd.full((1,), self.rescale_grad, ctx=weights[0].context),
            out=weights,
            size=len(rows),
            lrs=[row.rate * correction for row in rows],
            wds=[row.rate * row.decay for row in rows],
            etas=[1.0] * len(rows),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * root,
            **self._clipped(),
        )


@mx.optimizer.register
class TimmLamb(_Moments):
    """LAMB as timm implements it.

    With moments m, v as in `_Moments`, corrected to M, V, rate lr and decay wd:

        u = M / (sqrt(V) + epsilon) + wd w,  w <- w - lr r u

    The trust ratio r is |w| / |u|, 1 where either is 0 or there is no decay, and with `trust_clip` 1 at most.
    """

    def __init__(self, trust_clip: bool = False, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)
        self.trust_clip = trust_clip

    def _step(self, count: int, rows: Sequence[_Own]) -> None:
        for row in rows:
            update = mx.nd.lamb_update_phase1(
                row.weight,
                row.gradient,
                row.mean,
                row.variance,
                t=count,
                wd=row.decay,
                beta1=self.beta1,
                beta2=self.beta2,
                epsilon=self.epsilon,
                rescale_grad=self.rescale_grad,
                **self._clipped(),
            )
            length = mx.nd.norm(update).reshape(1)
            own = mx.nd.norm(row.weight).reshape(1) if row.decay else length
            if self.trust_clip:
                own = mx.nd.minimum(own, length)
            mx.nd.lamb_update_phase2(row.weight, update, own, length, lr=row.rate, out=row.weight)
