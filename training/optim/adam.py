"""AdamW and LAMB: steps by the first moment of the gradient over the root of the second.

AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101, as `torch.optim.AdamW` defines
it. LAMB: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", arXiv 1904.00962, as
timm's `Lamb` defines it, but that the gradient's norm is clipped where --clip-norm says so and not to 1.
"""

from typing import Any, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

__all__ = ['AdamW', 'TimmLamb']

TOGETHER = 45  # parameters in one call, of which MXNet's kernels have as many places


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
        gradients = [one.astype(master.dtype, copy=False) for one, master in zip(grad, masters)]
        by_count = {}  # parameters that joined later are at an earlier step
        for place, number in enumerate(index):
            by_count.setdefault(self._index_update_count[number], []).append(place)
        rates, decays = self._get_lrs(index), self._get_wds(index)
        for count, places in by_count.items():
            columns = masters, gradients, [own[0] for own in state], [own[1] for own in state], rates, decays
            self._step(count, *([column[place] for place in places] for column in columns))
        for one, master in zip(weight, masters):
            if master is not one:
                mx.nd.cast(master, dtype=one.dtype, out=one)

    def _step(
        self,
        count: int,
        weights: Sequence[Any],
        gradients: Sequence[Any],
        means: Sequence[Any],
        variances: Sequence[Any],
        rates: Sequence[float],
        decays: Sequence[float],
    ) -> None:
        """Update weights and moments, which are in step `count`."""
        raise NotImplementedError


@mx.optimizer.register
class AdamW(_Moments):
    """Adam with decoupled weight decay.

    With moments m, v as in `_Moments`, corrected to M, V, rate lr and decay wd:

        w <- (1 - lr wd) w - lr M / (sqrt(V) + epsilon)
    """

    def _step(
        self,
        count: int,
        weights: Sequence[Any],
        gradients: Sequence[Any],
        means: Sequence[Any],
        variances: Sequence[Any],
        rates: Sequence[float],
        decays: Sequence[float],
    ) -> None:
        # The operator does not correct the moments: that goes into its rate and its epsilon. Its decay is by itself.
        root = (1 - self.beta2**count) ** 0.5
        correction = root / (1 - self.beta1**count)
        mx.nd.contrib.multi_adamw_update(
            weights,
            gradients,
            means,
            variances,
            mx.nd.full((1,), self.rescale_grad, ctx=weights[0].context),
            out=list(weights),
            size=len(weights),
            lrs=[rate * correction for rate in rates],
            wds=[rate * decay for rate, decay in zip(rates, decays)],
            etas=[1.0] * len(weights),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * root,
            **({'clip_gradient': self.clip_gradient} if self.clip_gradient else {}),
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

    def _step(
        self,
        count: int,
        weights: Sequence[Any],
        gradients: Sequence[Any],
        means: Sequence[Any],
        variances: Sequence[Any],
        rates: Sequence[float],
        decays: Sequence[float],
    ) -> None:
        clip: Optional[float] = self.clip_gradient
        for weight, gradient, mean, variance, rate, decay in zip(weights, gradients, means, variances, rates, decays):
            update = mx.nd.lamb_update_phase1(
                weight,
                gradient,
                mean,
                variance,
                t=count,
                wd=decay,
                beta1=self.beta1,
                beta2=self.beta2,
                epsilon=self.epsilon,
                rescale_grad=self.rescale_grad,
                **({'clip_gradient': clip} if clip else {}),
            )
            length = mx.nd.norm(update).reshape(1)
            own = mx.nd.norm(weight).reshape(1) if decay else length
            if self.trust_clip:
                own = mx.nd.minimum(own, length)
            mx.nd.lamb_update_phase2(weight, update, own, length, lr=rate, out=weight)
