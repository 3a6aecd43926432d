"""Run servers in a thread, with networks whose answers the tests hold back, and send them requests byte by byte."""

import io
import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from PIL import Image

from data.preprocessing import Preprocessing
from inference.predict import Prediction, best

for package in ('uvicorn', 'starlette', 'python_multipart'):
    pytest.importorskip(package, reason=f'{package} is not installed (bash scripts/setup.sh --serve)')

from inference.serving.application import Service  # noqa: E402
from inference.serving.limits import Limits  # noqa: E402
from inference.serving.server import Server, listen  # noqa: E402

PATIENCE = 60  # seconds, for what should happen at once


def photo(kind='JPEG', size=(40, 30), colour=(200, 30, 30)):
    file = io.BytesIO()
    Image.new('RGB', size, colour).save(file, kind)
    return file.getvalue()


class Held:
    """A network that answers with the mean colour, but only when it is allowed to."""

    name, task, class_names = 'held', 'classification', ('red', 'green', 'blue')
    preprocessing = Preprocessing(8, (0, 0, 0), (1, 1, 1))

    def __init__(self):
        self.may, self.asked, self.failing = threading.Event(), [], False
        self.may.set()

    def titles(self, count):
        return self.class_names

    def answers(self, names, images, top, threshold, ctx):
        assert self.may.wait(PATIENCE)
        self.asked.append(len(images))
        if self.failing:
            raise RuntimeError('out of order')
        shares = [image.mean(axis=(0, 1)) / max(image.mean() * 3, 1) for image in images]
        return [Prediction('', best(share, self.class_names, top)) for share in shares]


@contextmanager
def serving(network, looked_into=None, **limits):
    """Yield (port, service, server) of a server that runs in a thread."""
    service = Service(network, Limits(**limits), 5, 0.3, looked_into)
    bound = listen('127.0.0.1', 0)
    port, server = bound.getsockname()[1], Server(service)
    thread = threading.Thread(target=server.run, kwargs={'sockets': [bound]})
    thread.start()
    try:
        until(lambda: server.started)
        yield port, service, server
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def head(method='POST', path='/predict', length=None, *more):
    lines = [f'{method} {path} HTTP/1.1', 'Host: here', *more]
    return '\r\n'.join(lines + ([] if length is None else [f'Content-Length: {length}']) + ['', '']).encode('latin-1')


def post(body, path='/predict', *more):
    return head('POST', path, len(body), 'Connection: close', *more) + body


def form(*files, boundary='b0undary'):
    """Return (body, header) of a form with these files."""
    parts = b''
    for name, content in files:
        parts += f'--{boundary}\r\nContent-Disposition: form-data; name="i"; filename="{name}"\r\n\r\n'.encode()
        parts += content + b'\r\n'
    return parts + f'--{boundary}--\r\n'.encode(), f'Content-Type: multipart/form-data; boundary={boundary}'


class Reply:
    """A response: its status (None if the connection was just closed), headers and JSON."""

    def __init__(self, received):
        first, _, rest = received.partition(b'\r\n')
        lines, _, self.body = rest.partition(b'\r\n\r\n')
        self.status = int(first.split()[1]) if first.startswith(b'HTTP/') else None
        self.headers = dict(line.decode().lower().split(': ', 1) for line in lines.split(b'\r\n') if b': ' in line)

    @property
    def json(self):
        return json.loads(self.body)


def ask(port, *pieces, half_close=False):
    """Send the pieces on a new connection, and read until the server closes it."""
    with socket.create_connection(('127.0.0.1', port), PATIENCE) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has already closed it
        return Reply(rest_of(connection))


def rest_of(connection):
    received = b''
    try:
        while True:
            piece = connection.recv(1 << 16)
            if not piece:
                return received
            received += piece
    except ConnectionResetError:
        return received


def in_threads(work, count):
    """Start ``work(0)``, ``work(1)``, ... in threads; return a function that waits for the results."""
    results = [None] * count

    def one(number):
        results[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join(PATIENCE)
        return results

    return join
