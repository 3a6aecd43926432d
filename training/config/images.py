"""The flag about images that all three training scripts have."""

from typing import Any

from data.choices import INTERPOLATIONS

__all__ = ['add_interpolation_flag']


def add_interpolation_flag(group: Any, what: str) -> None:
    """`what` says which images are scaled so."""
    group.add_argument(
        '--interpolation',
        choices=INTERPOLATIONS,
        default=INTERPOLATIONS[0],
        help=f'how {what} are scaled, in training, validation and prediction alike: antialiased; or plain, which '
        'overlooks pixels where it shrinks, as MXNet and mmdetection do',
    )
