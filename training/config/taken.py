"""The flags that say which of the images are taken: damaged ones, how many, and what suits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from data.bad import Tolerance
from training.config.fields import Group, flag, switch
from training.config.flags import number

__all__ = ['ImagesSettings', 'OwnImages']


@dataclass(frozen=True)
class ImagesSettings(Group):
    """How many of the images are used, and how many may be damaged."""

    title = 'data'

    max_bad: int = flag(
        '--max-bad',
        type=number(int, 0),
        default=Tolerance().number,
        help='unreadable images that are skipped and reported; more end the run',
    )
    max_bad_share: float = flag(
        '--max-bad-share',
        type=number(float, 0, 1),
        default=Tolerance().share,
        help='and their largest share of all images; one is always tolerated, unless --max-bad is 0',
    )
    limit_train: Optional[int] = flag(
        '--limit-train', type=number(int, 1), help='train on only this many images, for a trial'
    )
    limit_val: Optional[int] = flag(
        '--limit-val', type=number(int, 1), help='validate on only this many images, for a trial'
    )

    @property
    def tolerance(self) -> Tolerance:
        """Return how many damaged images are put up with."""
        return Tolerance(self.max_bad, self.max_bad_share)


@dataclass(frozen=True)
class OwnImages(ImagesSettings):
    """`ImagesSettings`, and whether the settings are to suit a user's own images."""

    original_defaults: bool = switch(
        '--original-defaults',
        help="leave all flags at the original's defaults for images of your own, too; otherwise the network, trained "
        'parameters to start from, input size, batch, epochs, learning rate and augmentation suit their number and '
        'size where no flag says, and the log says how',
    )
