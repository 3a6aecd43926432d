"""Fixtures for the tests of several folders of training."""

import signal

import pytest


@pytest.fixture
def own_handlers():
    """Restore Python's own signal handlers around a test: a runner in the background may ignore Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
