"""The flag that says where public weights are, of all scripts that take them by name."""

from typing import Any

from training.config.fields import flag

__all__ = ['weights_dir_flag']


def weights_dir_flag(given: str) -> Any:
    """Declare the field of --weights-dir; `given` is what names the weights."""
    return flag(
        '--weights-dir',
        metavar='PLACE',
        help=f'for {given}: a folder with the files, or the URL of a mirror (default: ATTENTION_WEIGHTS in the '
        'environment, else the files are downloaded from their authors)',
    )
