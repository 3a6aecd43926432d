"""Count and name unusable images, and stop the run if there are too many."""

from __future__ import annotations

import logging
import threading
from typing import Dict, Tuple

from environment import UserError

__all__ = ['BadImages']

log = logging.getLogger(__name__)


class BadImages:
    """The unusable images of one data set met so far, each once.

    Args:
        max_bad: the number tolerated; one more raises `UserError`.
        name: the data set's, for messages.
    """

    def __init__(self, max_bad: int, name: str) -> None:
        if max_bad < 0:
            raise ValueError(f'max_bad {max_bad} must be 0 or more')
        self.max_bad, self.name = max_bad, name
        self._sentences: Dict[int, str] = {}
        self._lock = threading.Lock()

    def __contains__(self, index: int) -> bool:
        return index in self._sentences

    def __len__(self) -> int:
        return len(self._sentences)

    @property
    def sentences(self) -> Tuple[str, ...]:
        """Return one sentence per image, in the data set's order: which record or file, and what is wrong with it."""
        with self._lock:
            return tuple(sentence for _, sentence in sorted(self._sentences.items()))

    def add(self, index: int, sentence: str) -> None:
        """Record the image `index` with a warning in the log. Raises `UserError` if it is one too many."""
        with self._lock:
            if index in self._sentences:
                return
            self._sentences[index] = sentence
            count = len(self._sentences)
        if count > self.max_bad:
            raise UserError(
                f'{count} images of {self.name} cannot be used, and --max-bad allows {self.max_bad}: {sentence}; mend '
                'or remove them (python scripts/make_recordio.py --check FILE.rec lists those of a RecordIO file), or '
                'raise --max-bad'
            )
        log.warning('image skipped, %d so far: %s', count, sentence)
