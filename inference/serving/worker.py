"""Let one thread own the network, and answer questions from a queue in batches."""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

from inference.serving.limits import Limits, Refused
from inference.serving.metrics import Metrics

__all__ = ['Question', 'Worker']

log = logging.getLogger(__name__)


@dataclass
class Question:
    """An image for the network.

    Attributes:
        image: what the network's preprocessing has read.
        top, threshold: see `inference.network.LoadedNetwork.predict`.
        explain: whether a picture of the answer is wanted as well.
        answer: a future for (prediction, picture or None).
    """

    image: Any
    top: int
    threshold: float
    explain: bool = False
    answer: Future = field(default_factory=Future)

    @property
    def kind(self) -> Tuple[Any, ...]:
        """Return what images must have in common to go through the network together."""
        return (tuple(self.image.shape), self.top, self.threshold, self.explain)


# Answers questions of one kind, in order.
Ask = Callable[[List[Question]], List[Any]]


class Worker:
    """A thread that answers questions in batches, of those that arrive until the network is free or shortly after."""

    def __init__(self, ask: Ask, limits: Limits, metrics: Metrics) -> None:
        self._ask, self._limits, self._metrics = ask, limits, metrics
        self._queue: queue.Queue[Optional[Question]] = queue.Queue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='network', daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether questions are being answered."""
        return self._thread.is_alive() and not self._closed

    def submit(self, questions: List[Question]) -> List[Future]:
        """Queue the questions of one request. Raises `Refused` if the worker is closed."""
        if not self.alive:
            raise Refused(503, 'the server is stopping; try another one', retry=5, limit='stopping')
        for question in questions:
            self._queue.put(question)
        return [question.answer for question in questions]

    def close(self) -> None:
        """Accept no more questions, and return when all those accepted have been answered."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            first = self._queue.get()
            if first is None:
                return
            batch, open_ = self._gather(first)
            by_kind: Dict[Any, List[Question]] = {}
            for question in batch:
                # False: the client is gone, or no longer waiting
                if question.answer.set_running_or_notify_cancel():
                    by_kind.setdefault(question.kind, []).append(question)
            for questions in by_kind.values():
                self._answer(questions)

    def _gather(self, first: Question) -> Tuple[List[Question], bool]:
        """Return `first` with what arrives within the wait, and whether more may follow."""
        batch, end = [first], time.monotonic() + self._limits.wait
        while len(batch) < self._limits.batch:
            try:
                following = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if following is None:
                return batch, False
            batch.append(following)
        return batch, True

    def _answer(self, questions: List[Question]) -> None:
        start = time.monotonic()
        try:
            answers = self._ask(questions)
        except Exception as error:  # all its clients get the error, and the next batch may succeed
            log.exception('the network failed on %d images', len(questions))
            for question in questions:
                question.answer.set_exception(error)
            return
        self._metrics.computed(len(questions), time.monotonic() - start)
        for question, answer in zip(questions, answers):
            question.answer.set_result(answer)
