"""Count and time what a server does, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from typing import Any, Dict, Iterator, List, Sequence, Tuple

__all__ = ['CONTENT_TYPE', 'Histogram', 'Metrics']

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """The number of values up to each bound, and the number and sum of all values."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> Iterator[str]:
        below = 0
        for bound, count in zip((*map(str, self.bounds), '+Inf'), self.counts):
            below += count
            yield f'{name}_bucket{{le="{bound}"}} {below}'
        yield f'{name}_sum {self.total}'
        yield f'{name}_count {below}'


class Metrics:
    """All figures of a server. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers: Counter = Counter()  # (path, status)
        self.limits: Counter = Counter()  # those that were reached
        self.seconds = Histogram(SECONDS)
        self.batches = Histogram(SIZES)
        self.network = Histogram(SECONDS)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Record the answer to a request, and the time that it took."""
        with self._lock:
            self.answers[path, status] += 1
            self.seconds.add(seconds)

    def refused(self, limit: str) -> None:
        """Record the limit for which a request was refused, if it is one of the server as a whole and not ''."""
        if limit:
            with self._lock:
                self.limits[limit] += 1

    def computed(self, images: int, seconds: float) -> None:
        """Record a batch that went through the network, and the time that it took."""
        with self._lock:
            self.batches.add(images)
            self.network.add(seconds)

    def summary(self) -> str:
        """Return a phrase for people: the number of requests answered, by status, and of limits reached."""
        with self._lock:
            by_status: Counter = Counter()
            for (_, status), count in self.answers.items():
                by_status[status] += count
            reached = ', '.join(f'{limit} {count}' for limit, count in sorted(self.limits.items()))
        counts = ', '.join(f'{count} with {status}' for status, count in sorted(by_status.items()))
        told = f'{sum(by_status.values())} requests answered{f": {counts}" if counts else ""}'
        return f'{told}; limits reached: {reached}' if reached else told

    def text(self, now: Dict[str, Tuple[str, Any]]) -> str:
        """Return all figures as text. `now` holds those of this moment: ``{name: (what it is, value)}``."""
        with self._lock:
            lines = list(_head('http_requests_total', 'counter', 'Requests by route and status.'))
            for (path, status), count in sorted(self.answers.items()):
                lines.append(f'http_requests_total{{path="{path}",status="{status}"}} {count}')
            lines += _head('http_refused_total', 'counter', 'Requests refused for lack of capacity, by limit.')
            for limit, count in sorted(self.limits.items()):
                lines.append(f'http_refused_total{{limit="{limit}"}} {count}')
            for name, what, histogram in (
                ('http_request_seconds', 'Seconds from the head of a request to its answer.', self.seconds),
                ('network_batch_images', 'Images that went through the network together.', self.batches),
                ('network_seconds', 'Seconds that the network takes for a batch.', self.network),
            ):
                lines += [*_head(name, 'histogram', what), *histogram.lines(name)]
        for name, (what, value) in now.items():
            lines += [*_head(name, 'gauge', what), f'{name} {value}']
        return '\n'.join(lines) + '\n'


def _head(name: str, kind: str, what: str) -> List[str]:
    return [f'# HELP {name} {what}', f'# TYPE {name} {kind}']
