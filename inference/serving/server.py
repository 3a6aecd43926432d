"""Run a service on a socket until a signal arrives."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from typing import Iterator

import uvicorn

from environment import UserError
from inference.serving.application import Service
from inference.serving.protocol import bounded_protocol

__all__ = ['Server', 'listen']

BACKLOG = 1024  # connections that wait to be accepted
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free port. Raises `UserError`."""
    bound = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Without its protocol, asyncio does not see that it is TCP, and leaves Nagle's algorithm on: the body of an
        # answer would wait for the client's delayed acknowledgement of the head, 40 ms.
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        if bound is not None:
            bound.close()
        reason = error.strerror or str(error)
        raise UserError(f'--host {host} --port {port}: cannot listen there ({reason}); choose another port') from error
    return bound


class Server(uvicorn.Server):
    """A Uvicorn server that ends gracefully after SIGINT, SIGTERM or SIGHUP (a closed terminal; `nohup` keeps it away).

    It accepts no more requests, answers those that it has, and returns. A second signal ends it at once.
    """

    def __init__(self, service: Service) -> None:
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                service.app,
                http=bounded_protocol(limits, service.metrics),
                ws='none',
                lifespan='on',
                loop='asyncio',
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=int(limits.body_seconds + limits.answer_seconds) + 1,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without Uvicorn's raising them again at the end, as if the process had failed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kept_away = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        numbers = [number for number in SIGNALS if not (kept_away and number == signal.SIGHUP)]
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: object) -> None:
        if self.should_exit:  # the second one
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        if sig == signal.SIGHUP:  # of a terminal that closes, both the kernel and the shell tell
            signal.signal(sig, signal.SIG_IGN)
        self.should_exit = True
