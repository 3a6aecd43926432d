"""What tests of several rooms of training share."""

import signal

import pytest


@pytest.fixture
def own_handlers():
    """Python's own handlers around a test: a runner that was started in the background may ignore Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
