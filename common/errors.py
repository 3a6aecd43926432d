"""Errors that a user can put right."""

__all__ = ['SetupError', 'UsageError', 'UserError']


class UserError(Exception):
    """What the user can put right. The message is one sentence: the flag or file, the value, what is
    allowed, the next step. Entry points print it without a traceback and exit with `status`."""

    status = 1


class UsageError(UserError):
    """The command line asks for something that does not exist or does not go together."""

    status = 2


class SetupError(UserError):
    """This Python cannot run MXNet; the message ends with the command that mends it."""
