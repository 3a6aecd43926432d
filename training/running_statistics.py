"""Running statistics that have something to say by the time they are used."""

from typing import Any, Mapping, Optional

from model.layers.norm_momentum import limit_norm_momentum

__all__ = ['fit_norm_momentum', 'fitting_momentum']

USUAL = 0.9  # Gluon's batch norms; no run is so short that less would help
SHARE = 0.1  # of a run's steps, after which the initial values are to be forgotten
LEFT = 0.01  # of the initial values then


def fitting_momentum(steps: int) -> float:
    """Return the highest momentum of batch norms that suits a run of so many steps.

    With it, a tenth of the run leaves one hundredth of the initial running statistics, which are not statistics of
    anything: as long as they weigh in, a network validates at chance, whatever its training loss.
    """
    return max(USUAL, LEFT ** (1 / (SHARE * steps)))


def fit_norm_momentum(net: Any, options: Mapping[str, Any], steps: int) -> Optional[str]:
    """Lower what is too high of the momentum of `net`'s batch norms for a run of so many steps.

    Returns a line for the log where something was; None otherwise, and for a network whose `options` say its momentum.
    """
    if 'norm_momentum' in options:
        return None
    limit = fitting_momentum(steps)
    highest = limit_norm_momentum(net, limit)
    if highest <= limit:
        return None
    return (
        f'batch norms have the momentum {limit:.4g} in place of {highest:g}, whose running statistics need longer than '
        f'the {steps} steps of this run to settle; --option norm_momentum=VALUE sets another'
    )
