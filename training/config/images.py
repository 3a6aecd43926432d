"""The image flags that all three training scripts share."""

from typing import Any, Dict

from data.bad import Tolerance
from data.choices import INTERPOLATIONS
from training.config.fields import flag
from training.config.flags import number

__all__ = ['add_interpolation_flag', 'interpolation_flag', 'max_bad_flag', 'max_bad_share_flag']


def _options(what: str) -> Dict[str, Any]:
    return {
        'choices': INTERPOLATIONS,
        'default': INTERPOLATIONS[0],
        'help': f'how {what} are scaled, in training, validation and prediction alike: antialiased; plain, which '
        'overlooks pixels where it shrinks, as MXNet and mmdetection do; or bicubic, antialiased and sharper, as timm '
        'does',
    }


def interpolation_flag(what: str) -> Any:
    """Declare the field of --interpolation; `what` names the images."""
    return flag('--interpolation', **_options(what))


def max_bad_flag() -> Any:
    """Declare the field of --max-bad."""
    return flag(
        '--max-bad',
        type=number(int, 0),
        default=Tolerance().number,
        help='images that cannot be read and are left out, which is told; more end the run',
    )


def max_bad_share_flag() -> Any:
    """Declare the field of --max-bad-share."""
    return flag(
        '--max-bad-share',
        type=number(float, 0, 1),
        default=Tolerance().share,
        help='and the largest share of all that they may be; one is put up with in any case, unless --max-bad is 0',
    )


def add_interpolation_flag(group: Any, what: str) -> None:
    """Add --interpolation to a group of a parser's flags."""
    group.add_argument('--interpolation', **_options(what))
