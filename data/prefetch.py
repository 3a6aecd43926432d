"""Prepare batches in threads, a bounded number ahead, in order."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Callable, Deque, Iterator, List, Optional, Tuple

__all__ = ['prefetch']

PIECE = 4  # rows that a thread takes at a time


class _Batch:
    def __init__(self, content: Any, rows: int) -> None:
        self.content, self.rows = content, rows
        self.begun = self.done = 0

    @property
    def complete(self) -> bool:
        return self.done == self.rows


class _Shop:
    """Batches with rows to process, oldest first, and the threads that process them."""

    def __init__(self, work: Callable[[Any, int], None]) -> None:
        self.work = work
        self.open: Deque[_Batch] = deque()  # with rows that nobody has taken
        self.changed = threading.Condition()
        self.error: Optional[BaseException] = None
        self.closed = False

    def add(self, batch: _Batch) -> None:
        with self.changed:
            self.open.append(batch)
            self.changed.notify_all()

    def take(self) -> Optional[Tuple[_Batch, range]]:
        """Return some rows of the oldest batch; None when the shop closes."""
        with self.changed:
            while not self.open and not self.closed:
                self.changed.wait()
            if self.closed:
                return None
            batch = self.open[0]
            rows = range(batch.begun, min(batch.begun + PIECE, batch.rows))
            batch.begun = rows.stop
            if batch.begun == batch.rows:
                self.open.popleft()
            return batch, rows

    def run(self) -> None:
        try:
            for batch, rows in iter(self.take, None):
                for row in rows:
                    if self.closed:
                        return
                    self.work(batch.content, row)
                with self.changed:
                    batch.done += len(rows)
                    if batch.complete:
                        self.changed.notify_all()
        except BaseException as error:  # told to the consumer, in whose thread it is raised again
            with self.changed:
                self.error = self.error or error
            self.close()

    def wait_for(self, batch: _Batch) -> None:
        with self.changed:
            while not batch.complete and self.error is None:
                self.changed.wait()
            if self.error is not None:
                raise self.error

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()


def prefetch(
    begin: Callable[[int], Tuple[Any, int]],
    work: Callable[[Any, int], None],
    first: int,
    end: int,
    threads: int,
    ahead: int,
) -> Iterator[Any]:
    """Yield the content of the batches `first` to `end` - 1, each once `work` has processed all its rows.

    An exception in a thread is raised here and ends all threads; closing the iterator ends them too.

    Args:
        begin: returns the content of a batch and its number of rows. It runs in the consumer's thread, where the C
            library keeps large blocks of memory; it returns those of other threads to the system.
        work: processes a row of a batch, as `work(content, row)`.
        first: number of the first batch.
        end: number after that of the last batch.
        threads: number of threads that call `work`, several of them for one batch.
        ahead: number of batches begun before they are requested.
    """
    shop, begun = _Shop(work), deque()
    workers: List[threading.Thread] = []
    try:
        for number in range(first, end):
            for following in range(number + len(begun), min(number + ahead + 1, end)):
                begun.append(_Batch(*begin(following)))
                shop.add(begun[-1])
            while len(workers) < threads:
                worker = threading.Thread(target=shop.run, name=f'decode-{len(workers)}', daemon=True)
                worker.start()
                workers.append(worker)
            shop.wait_for(begun[0])
            yield begun.popleft().content
    finally:
        shop.close()
        for worker in workers:
            worker.join()
