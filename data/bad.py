"""Count and name unusable images, and stop the run if there are too many."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Dict, Tuple

from environment import UserError

__all__ = ['BadImages', 'Tolerance']

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tolerance:
    """The number of unusable images of a data set that is tolerated, and the share of all images.

    Among few images one may be bad regardless of the share, unless the number is 0. Errors name the `flags` that set
    both, if there are any.
    """

    number: int = 100
    share: float = 0.1
    flags: bool = True

    def __post_init__(self) -> None:
        if self.number < 0 or not 0 <= self.share <= 1:
            raise ValueError(f'the number {self.number} must be 0 or more, and the share {self.share} in 0 .. 1')

    def of(self, images: int) -> int:
        """Return how many of this many images may be unusable."""
        return min(self.number, max(1, int(self.share * images)))

    def refusal(self, count: int, images: int, name: str, first: str) -> UserError:
        """Return the error of a data set `name` with `count` unusable ones; `first` says what is wrong with one."""
        allowed, otherwise = f'at most {self.of(images)} of {images} may be like this', ''
        if self.flags:
            flags = f'--max-bad {self.number} and --max-bad-share {self.share:g}'
            allowed, otherwise = f'{flags} allow {self.of(images)} of {images}', ', or raise both'
        return UserError(
            f'{count} images of {name} cannot be used, and {allowed}: {first}; mend or remove them (python '
            f'scripts/make_recordio.py --check FILE.rec lists those of a RecordIO file){otherwise}'
        )


class BadImages:
    """The unusable images of one data set met so far, each once.

    Args:
        tolerance: one more than it allows raises `UserError`.
        images: of the data set, all of them.
        name: the data set's, for messages.
    """

    def __init__(self, tolerance: Tolerance, images: int, name: str) -> None:
        self.tolerance, self.images, self.name = tolerance, images, name
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
        if count > self.tolerance.of(self.images):
            raise self.tolerance.refusal(count, self.images, self.name, sentence)
        log.warning('image skipped, %d so far: %s', count, sentence)
