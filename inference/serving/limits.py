"""Limit what a server accepts: sizes, counts, times, and the memory of all requests together."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ['Lease', 'Limits', 'Memory', 'Refused']

BYTES_PER_PIXEL = 3


class Refused(Exception):
    """A request that is refused with a status and a sentence.

    Attributes:
        status: the HTTP status.
        retry: after an overload, the seconds to wait before another attempt; else 0.
        close: whether to close the connection after the answer, because the request was not read to its end.
        limit: for the metrics: after an overload, the limit that was reached; else ''.
    """

    def __init__(self, status: int, sentence: str, retry: int = 0, close: bool = False, limit: str = '') -> None:
        super().__init__(sentence)
        self.status, self.retry, self.close, self.limit = status, retry, close, limit


@dataclass(frozen=True)
class Limits:
    """What requests may ask of the server, at most.

    Attributes:
        body: bytes in a request.
        pixels: pixels in an image.
        images: images in a request.
        queue: images waiting for the network; further ones are refused.
        memory: bytes of all waiting bodies and images.
        connections: simultaneous connections.
        batch: images that the network processes together.
        wait: seconds that an image waits for others to share its batch.
        head_seconds, body_seconds: time for a request's head and body to arrive.
        answer_seconds: time to answer a request that has arrived.
    """

    body: int = 20 << 20
    pixels: int = 50_000_000
    images: int = 16
    queue: int = 64
    memory: int = 512 << 20
    connections: int = 256
    batch: int = 8
    wait: float = 0.005
    head_seconds: float = 10
    body_seconds: float = 20
    answer_seconds: float = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0 and field.name != 'wait':
                raise ValueError(f'{field.name} must be above 0, not {getattr(self, field.name)}')
        one = self.body + BYTES_PER_PIXEL * self.pixels
        if self.memory < one:
            raise ValueError(f'memory must hold one request of the largest size, {one} bytes, not {self.memory}')


class Memory:
    """The number of bytes that requests hold. Only to be used in the thread of the event loop."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0

    def lease(self) -> Lease:
        return Lease(self)


class Lease:
    """The share of the memory that one request holds until its context ends."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._held = memory, 0

    def add(self, count: int) -> None:
        """Hold `count` more bytes, or fewer if it is negative. Raises `Refused` if the memory is used up."""
        memory = self._memory
        if count > 0 and memory.used + count > memory.most:
            sentence = 'the memory for requests is used up; try again later'
            raise Refused(503, sentence, retry=1, close=True, limit='memory')
        memory.used += count
        self._held += count

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *error: object) -> None:
        self.add(-self._held)
