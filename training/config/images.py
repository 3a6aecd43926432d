"""The image flag that all three training scripts share."""

from typing import Any, Dict

from data.choices import INTERPOLATIONS
from training.config.fields import flag

__all__ = ['add_interpolation_flag', 'interpolation_flag']


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


def add_interpolation_flag(group: Any, what: str) -> None:
    """Add --interpolation to a group of a parser's flags."""
    group.add_argument('--interpolation', **_options(what))
