"""scripts/serve.py: starting, asking and stopping it."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.scripts.conftest import path_of

servers = pytest.importorskip('tests.inference.serving.server')


def start(*arguments):
    command = [sys.executable, str(path_of('serve.py')), *map(str, arguments), '--port', '0']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = process.stdout.readline()
    port = re.search(r'http://127\.0\.0\.1:(\d+)/', told)
    if port is None:
        raise AssertionError(told + process.communicate(timeout=60)[1])
    return process, int(port.group(1))


@pytest.mark.usefixtures('own_handlers')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_when_all_is_answered(digits_params, number):
    process, port = start(digits_params, '--wait', 1000, '--batch-size', 16)
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/health') as reply:
            assert json.load(reply)['task'] == 'classification'
        join = servers.in_threads(lambda _: servers.ask(port, servers.post(servers.photo())).status, 5)

        def all_are_there():
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics') as reply:
                waiting = re.search(r'^queue_images (\d+)$', reply.read().decode(), re.MULTILINE)
            return int(waiting.group(1)) == 5

        servers.until(all_are_there)
        process.send_signal(number)
        if number == signal.SIGHUP:
            process.send_signal(number)  # as the shell does after the kernel
        assert join() == [200] * 5
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, 'Traceback' in err) == (0, False)
    assert '5 with 200' in out or 'with 200' in out


def test_mistakes_of_the_command_line(in_process, digits_params, tmp_path):
    for flags, told in (
        ((tmp_path / 'none.params',), 'none.params'),
        ((digits_params, '--memory', 10), '--memory 10: memory must hold one request of the largest size'),
        ((digits_params, '--gpus', '0,1'), '--gpus 0,1: a server runs its network on one device'),
        ((digits_params, '--precision', 'int8'), '--precision int8 and --calibration belong together'),
    ):
        status, _, err = in_process('serve.py', *flags)
        assert (status != 0, told in err, 'Traceback' in err) == (True, True, False), err
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = in_process('serve.py', digits_params, '--port', port)
        assert (status, f'--port {port}: cannot listen there' in err) == (1, True)
