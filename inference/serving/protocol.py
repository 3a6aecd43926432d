"""Limit the number of connections, and the time that each has for the head of a request and for the whole of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Optional, Type

from uvicorn.protocols.http.h11_impl import H11Protocol

from inference.serving.limits import Limits
from inference.serving.metrics import Metrics

__all__ = ['bounded_protocol']

GRACE = 0.5  # seconds in which a request that is on its way may still arrive when the server stops
SLACK = 15.0  # seconds for the client to read its answer


def _plain_answer(status: str, sentence: str, retry: int = 0) -> bytes:
    body = json.dumps({'error': sentence}).encode()
    lines = [
        f'HTTP/1.1 {status}',
        'Content-Type: application/json',
        f'Content-Length: {len(body)}',
        'Connection: close',
    ]
    if retry:
        lines.append(f'Retry-After: {retry}')
    return '\r\n'.join([*lines, '', '']).encode() + body


def bounded_protocol(limits: Limits, metrics: Metrics) -> Type[H11Protocol]:
    """Return uvicorn's protocol for HTTP/1.1 with these limits; connections that are refused are recorded.

    Uvicorn itself waits for ever for the head of a request, and refuses too many connections without saying when to try
    again.
    """
    whole = limits.body_seconds + limits.answer_seconds + SLACK

    class Bounded(H11Protocol):
        timer: Optional[asyncio.TimerHandle] = None
        timed: Any = None  # the request that the timer is for; None while its head has not arrived
        stopping = False

        @property
        def busy(self) -> bool:
            """Return whether a request is being answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                metrics.refused('connections')
                transport.write(_plain_answer('503 Service Unavailable', 'too many connections; try again later', 1))
                transport.close()
            else:
                self.set_timer(limits.head_seconds)

        def connection_lost(self, error: Optional[Exception]) -> None:
            self.unset_timer()
            super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.watch()

        def on_response_complete(self) -> None:
            self.unset_timer()
            super().on_response_complete()
            self.watch()  # if requests are pipelined, the next may have begun
            if self.stopping and not self.busy:
                self.transport.close()

        def watch(self) -> None:
            """Start the timer for the current phase of the connection, unless it is running."""
            if self.busy:
                if self.timed is not self.cycle:
                    self.set_timer(whole, self.cycle)
                if self.stopping:
                    self.cycle.keep_alive = False
            elif self.timer is None and self.timeout_keep_alive_task is None:
                self.set_timer(limits.head_seconds)

        def set_timer(self, seconds: float, timed: Any = None) -> None:
            self.unset_timer()
            self.timer, self.timed = self.loop.call_later(seconds, self.expire), timed

        def unset_timer(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
            self.timer = self.timed = None

        def expire(self) -> None:
            if self.busy:
                self.transport.abort()
                return
            sentence = f'the head of the request did not arrive within {limits.head_seconds:g} seconds'
            self.transport.write(_plain_answer('408 Request Timeout', sentence))
            self.transport.close()

        def send_400_response(self, msg: str) -> None:
            if self.busy:  # the answer that has begun cannot be taken back
                self.transport.abort()
                return
            sentence = f'this is not an HTTP/1.1 request ({msg.rstrip(".")})'
            self.transport.write(_plain_answer('400 Bad Request', sentence))
            self.transport.close()

        def shutdown(self) -> None:
            """Answer the current request, and one that is on its way, then close."""
            self.stopping = True
            if self.busy:
                self.cycle.keep_alive = False
            else:
                self.loop.call_later(GRACE, self.close_unless_busy)

        def close_unless_busy(self) -> None:
            if not self.busy and not self.transport.is_closing():
                self.transport.close()

    return Bounded
