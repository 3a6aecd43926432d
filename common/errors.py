"""Define the errors that users can fix."""

__all__ = ['SetupError', 'UsageError', 'UserError']


class UserError(Exception):
    """An error that the user can fix.

    The message is one sentence that names the flag or file, the value, what is allowed and the next step. Entry points
    print it without a traceback and exit with `status`.
    """

    status = 1


class UsageError(UserError):
    """An error in how a command was called: an unknown value, or flags that cannot be combined."""

    status = 2


class SetupError(UserError):
    """An installation that cannot run MXNet. The message ends with the command that repairs it."""
