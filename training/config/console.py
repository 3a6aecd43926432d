"""The flags -q and -v, which all printing commands share."""

from typing import Any, Dict

from common.console import heed
from training.config.fields import switch

__all__ = ['add_console_flags', 'heed_flags', 'quiet_flag', 'verbose_flag']

QUIET = 'print errors alone: no results, remarks or bars'
VERBOSE = "print more: versions, how long each stage takes, MXNet's own messages, and where an error arose"


def quiet_flag() -> Any:
    """Declare the field of -q."""
    return switch('-q', '--quiet', help=f'{QUIET}; the log has all of it')


def verbose_flag() -> Any:
    """Declare the field of -v."""
    return switch('-v', '--verbose', help=f'{VERBOSE}; of training, the settings and each checkpoint too')


def add_console_flags(parser: Any) -> None:
    """Add -q and -v to a parser."""
    group = parser.add_argument_group('output')
    group.add_argument('-q', '--quiet', action='store_true', help=QUIET)
    group.add_argument('-v', '--verbose', action='store_true', help=VERBOSE)


def heed_flags(values: Dict[str, Any]) -> None:
    """Print as the flags of `add_console_flags` ask. Raises `UsageError` if both are given."""
    heed(values['quiet'], values['verbose'])
