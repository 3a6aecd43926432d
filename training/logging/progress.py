"""Show the progress of a run: a bar on a terminal, and otherwise a line now and then."""

import math
import os
import sys
import time
from contextlib import suppress
from typing import Any, Optional, TextIO

from common.console import quiet

__all__ = ['Progress', 'clock']

EVERY = 30  # seconds from one line to the next, without a terminal


def clock(seconds: float) -> str:
    """Return 3725 as '1:02:05'."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{second:02d}'


def _has_room(stream: TextIO) -> bool:
    """Return whether a terminal says how large it is: tqdm draws nothing on those of some containers, of no lines."""
    try:
        return min(os.get_terminal_size(stream.fileno())) > 0
    except OSError:  # it is not a device
        return True


class Progress:
    """A bar for one epoch: loss, accuracy, images/s, and the time left for the whole run.

    `epoch` counts from 0, and `epochs` are those of the run; `total` and `first` are the batches of an epoch and those
    of this one that are done already; a batch has `batch` images. Without a terminal there is no bar, but a line every
    `EVERY` seconds, unless another process tells them. Under -q there is neither.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        total: int,
        first: int,
        batch: int,
        stream: Optional[TextIO] = None,
        telling: bool = True,
    ) -> None:
        self.stream = stream = sys.stderr if stream is None else stream
        self.place = f'epoch {epoch + 1}/{epochs}'
        self.telling, self.told = telling and not quiet(), time.monotonic()
        self.bar: Any = None
        if stream.isatty() and _has_room(stream) and not quiet():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total,
                initial=first,
                desc=f'epoch {epoch + 1} of {epochs}',
                file=stream,
                bar_format='{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}',
                leave=False,
                dynamic_ncols=True,
            )
        self.batch, self.first, self.later = batch, first, (epochs - epoch - 1) * total
        self.total, self.start = total, time.perf_counter()

    def update(self, done: int, loss: float, accuracy: Optional[float] = None) -> None:
        """Show batch number `done` (from 1) of the epoch; means are over the epoch so far."""
        if done <= self.first:  # the first figures are still computed
            return
        if self.bar is None and (not self.telling or time.monotonic() < self.told + EVERY):
            return
        rate = (done - self.first) / max(time.perf_counter() - self.start, 1e-9)
        left = (self.total - done + self.later) / max(rate, 1e-9)
        known = [
            f'{name} {mean:.3f}, '
            for name, mean in (('loss', loss), ('accuracy', accuracy))
            if mean is not None and not math.isnan(mean)  # as they are before the first figures are read
        ]
        speed = rate * self.batch
        text = f'{"".join(known)}{speed:.{0 if speed >= 10 else 1}f} images/s, {clock(left)} left'
        if self.bar is None:
            self.told = time.monotonic()
            with suppress(OSError):  # the reader has gone away, which does not matter for a run
                print(f'{self.place}, {100 * done // self.total} %, {text}', file=self.stream, flush=True)
            return
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
