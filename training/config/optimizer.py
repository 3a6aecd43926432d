"""The flags of the optimizer, and of the gradients that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from training.config.fields import Group, Idle, flag, switch
from training.config.flags import number

__all__ = ['GradientSettings', 'OptimizerSettings']


@dataclass(frozen=True)
class OptimizerSettings(Group):
    """How gradients change the parameters, apart from the learning rate."""

    title = 'optimizer'

    optimizer: str = flag(
        '--optimizer',
        choices=('nag', 'sgd', 'muon', 'adamw', 'lamb'),
        default='nag',
        help="gradient descent with Nesterov's or plain momentum, or with the steps of convolutions made orthogonal; "
        'adamw: steps by the moments of the gradient; lamb: such steps, as long for each parameter as suits its length',
    )
    muon_scale: float = flag(
        '--muon-scale',
        type=number(float, 0, open_low=True),
        default=0.2,
        help='of --lr, for the orthogonal steps of --optimizer muon: of convolutions without bias or groups, of 8 '
        'filters and 8 channels or more; a learning rate R of the original Muon is --lr R / SCALE',
    )
    momentum: float = flag(
        '--momentum',
        type=number(float, 0, 1, open_high=True),
        default=0.9,
        help='momentum; of adamw and lamb the first beta',
    )
    beta2: float = flag(
        '--beta2',
        type=number(float, 0, 1, open_high=True),
        default=0.999,
        help='of the second moment of adamw and lamb',
    )
    epsilon: Optional[float] = flag(
        '--epsilon',
        type=number(float, 0, open_low=True),
        help='added to the square root of that moment (default: 1e-8 for adamw, 1e-6 for lamb)',
    )
    trust_clip: bool = switch('--trust-clip', help='lamb lengthens no step, it only shortens them')
    wd: float = flag(
        '--wd',
        type=number(float, 0),
        default=0.0001,
        help='weight decay; it goes through the momentum, with --optimizer muon too, so that a decay D of the original '
        'Muon is --wd D * SCALE * (1 - MOMENTUM), with --muon-scale SCALE; that of adamw is by itself, and usually '
        'larger, such as 0.05',
    )
    no_wd: bool = switch('--no-wd', help='no weight decay for biases and for gamma and beta of norms')
    no_wd_depthwise: bool = switch(
        '--no-wd-depthwise', help='no weight decay for convolutions with groups, depth-wise ones'
    )
    wd_layer_norm: bool = switch('--wd-layer-norm', help='with --no-wd: nonetheless for gamma of layer norms')

    def idle(self) -> Idle:
        if not self.no_wd:
            yield ['wd_layer_norm'], '--no-wd, from which it excepts layer norms'
        if self.optimizer != 'muon':
            yield ['muon_scale'], f'--optimizer muon, and it is {self.optimizer}'
        if self.optimizer not in ('adamw', 'lamb'):
            yield ['beta2', 'epsilon'], f'--optimizer adamw or lamb, and it is {self.optimizer}'
        if self.optimizer != 'lamb':
            yield ['trust_clip'], f'--optimizer lamb, and it is {self.optimizer}'


@dataclass(frozen=True)
class GradientSettings(Group):
    """The number of images per gradient, and the largest norm of a gradient."""

    title = 'gradient'

    accumulate: int = flag(
        '--accumulate',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='a step is by the mean gradient of N batches, one computed after the other, and an epoch of as many fewer '
        'steps; the last may be of fewer',
    )
    clip_norm: float = flag(
        '--clip-norm',
        type=number(float, 0),
        default=0.0,
        help='largest gradient norm (L2 over all parameters) of a step; larger ones are clipped; 0: no clipping',
    )
