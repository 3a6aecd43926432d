"""The first signal is a request, the second takes effect at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from training.distributed.signals import StopRequest

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = [signal.SIGINT, signal.SIGTERM]
pytestmark = pytest.mark.usefixtures('own_handlers')


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_request(number, status, capfd):
    with StopRequest() as stop:
        assert not stop.requested
        assert stop.status == 0
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.status == status
        assert [signal.getsignal(other) for other in NUMBERS] == [signal.SIG_DFL] * 2
    output = capfd.readouterr()
    assert output.out == ''
    assert output.err == f'{signal.Signals(number).name}: finishing the batch and saving; repeat to stop at once\n'
    assert stop.status == status


def test_a_terminal_that_closes_is_a_request_however_often_it_is_told():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert (stop.status, stop.by) == (129, ' by SIGHUP')
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_afterwards_everything_is_as_before():
    with StopRequest() as stop:
        pass
    assert [signal.getsignal(number) for number in NUMBERS] == [signal.default_int_handler, signal.SIG_DFL]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert not stop.requested


def test_an_error_inside_restores_the_handlers_too():
    with pytest.raises(KeyError), StopRequest():
        raise KeyError
    assert [signal.getsignal(number) for number in NUMBERS] == [signal.default_int_handler, signal.SIG_DFL]


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.status == 143
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_in_another_thread_it_does_nothing():
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.default_int_handler)]


def test_nobody_reading_stderr_does_not_matter():
    """Closing a terminal removes the reader and sends a signal at the same time."""
    reading, writing = os.pipe()
    saved = os.dup(2)
    try:
        os.dup2(writing, 2)
        os.close(reading)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writing)
    assert stop.status == 143


STUBBORN = """
import sys, time
from training.distributed.signals import StopRequest
with StopRequest() as stop:
    print('ready', flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print('requested', flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize('first', NUMBERS)
@pytest.mark.parametrize('second', NUMBERS)
def test_the_second_signal_ends_the_process(first, second):
    command = [sys.executable, '-c', STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout.readline() == b'ready\n'
            process.send_signal(first)
            assert process.stdout.readline() == b'requested\n'
            time.sleep(0.05)
            assert process.poll() is None
            process.send_signal(second)
            assert process.wait(timeout=300) == -second
        finally:
            process.kill()
