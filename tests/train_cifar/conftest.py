"""Train networks that several tests look at."""

import pytest

from tests.train_cifar.runs import Run

__all__ = ['run']


@pytest.fixture(scope='package')
def run(tmp_path_factory):
    """Return `run(flags)`, which trains with them, once for each set of flags."""
    known = {}

    def once(flags):
        if flags not in known:
            known[flags] = Run(tmp_path_factory.mktemp('runs') / 'run', flags)
        return known[flags]

    return once
