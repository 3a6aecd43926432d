"""Data, schedule, optimizer, loop, checkpoints and records of training."""

import environment  # noqa: F401
