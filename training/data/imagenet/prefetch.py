"""Batches prepared by threads, a bounded number ahead, in their order."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterator, List, Optional

__all__ = ['prefetch']

PIECE = 4  # rows that a thread takes at a time


class _Batch:
    def __init__(self, content: Any, rows: int) -> None:
        self.content, self.rows = content, rows
        self.begun = self.done = 0


class _Shop:
    """Threads that work on the oldest batch with rows left, and on none that is too far ahead of the consumer."""

    def __init__(
        self,
        begin: Callable[[int], Any],
        rows: Callable[[int], int],
        work: Callable[[Any, int], None],
        first: int,
        end: int,
    ) -> None:
        self.begin, self.rows, self.work, self.end = begin, rows, work, end
        self.next = self.wanted = first
        self.limit = first
        self.batches: Dict[int, _Batch] = {}
        self.changed = threading.Condition()
        self.error: Optional[BaseException] = None
        self.closed = False

    def take(self) -> Optional[range]:
        """The next piece of work and its batch; None when the shop closes."""
        with self.changed:
            while not self.closed:
                batch = self.batches.get(self.next)
                if batch is not None and batch.begun < batch.rows:
                    rows = range(batch.begun, min(batch.begun + PIECE, batch.rows))
                    batch.begun = rows.stop
                    return batch, rows
                if batch is not None:
                    self.next += 1
                elif self.next < min(self.limit, self.end):
                    self.batches[self.next] = _Batch(self.begin(self.next), self.rows(self.next))
                else:
                    self.changed.wait()
            return None

    def run(self) -> None:
        try:
            while True:
                taken = self.take()
                if taken is None:
                    return
                batch, rows = taken
                for row in rows:
                    if self.closed:
                        return
                    self.work(batch.content, row)
                with self.changed:
                    batch.done += len(rows)
                    if batch.done == batch.rows:
                        self.changed.notify_all()
        except BaseException as error:  # told to the consumer, in whose thread it is raised again
            with self.changed:
                self.error = self.error or error
                self.closed = True
                self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()


def prefetch(
    begin: Callable[[int], Any],
    rows: Callable[[int], int],
    work: Callable[[Any, int], None],
    first: int,
    end: int,
    threads: int,
    ahead: int,
) -> Iterator[Any]:
    """Yield what `begin(batch)` made for the batches first .. end - 1, once `work(content, row)` did all of its rows.

    Args:
        rows: the number of rows of a batch, 1 or more.
        threads: that call `work`, several at a time for one batch, and `begin`, one at a time.
        ahead: batches that are begun before they are asked for.

    An exception in a thread is raised here, and ends all threads; so does closing the iterator.
    """
    shop = _Shop(begin, rows, work, first, end)
    shop.limit = first + ahead + 1
    workers = [threading.Thread(target=shop.run, name=f'decode-{i}', daemon=True) for i in range(threads)]
    started: List[threading.Thread] = []
    try:
        for worker in workers:
            worker.start()
            started.append(worker)
        for number in range(first, end):
            with shop.changed:
                while shop.error is None and not (
                    number in shop.batches and shop.batches[number].done == shop.batches[number].rows
                ):
                    shop.changed.wait()
                if shop.error is not None:
                    raise shop.error
                content = shop.batches.pop(number).content
                shop.next = max(shop.next, number + 1)
                shop.limit = number + ahead + 2
                shop.changed.notify_all()
            yield content
    finally:
        shop.close()
        for worker in started:
            worker.join()
