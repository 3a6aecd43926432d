"""Handle Ctrl-C, the scheduler's SIGTERM and a closed terminal as a request: finish the batch, save, then exit."""

import os
import signal
import threading
from contextlib import suppress
from typing import Any, Dict, Optional

__all__ = ['StopRequest']

_MESSAGE = '{name}: finishing the batch and saving; repeat to stop at once\n'


class StopRequest:
    """While entered, the first SIGINT, SIGTERM or SIGHUP is only noted; a further SIGINT or SIGTERM kills the process.

        with StopRequest() as stop:
            for batch in batches:
                step(batch)
                if stop.requested:
                    save()
                    return stop.status

    A signal that is ignored already (`nohup`, a shell's background job) stays ignored. Python handles signals
    in the main thread only: in another one the request never comes.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._received: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Return whether a signal has come."""
        return self._received is not None

    @property
    def status(self) -> int:
        """Return the exit status: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP, 0 if none came."""
        return 0 if self._received is None else 128 + self._received

    @property
    def by(self) -> str:
        """Return the end of a phrase on what has stopped: ' by SIGHUP', or nothing if no signal has come."""
        return '' if self._received is None else f' by {signal.Signals(self._received).name}'

    def __enter__(self) -> 'StopRequest':
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not set from Python and cannot be set again from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _note(self, number: int, frame: Any) -> None:
        self._received = number
        for other in self._previous:
            # Of a terminal that closes, both the kernel and the shell tell.
            signal.signal(other, signal.SIG_IGN if other == signal.SIGHUP else signal.SIG_DFL)
        with suppress(OSError):  # whoever read stderr may be gone, which is often why the signal came
            # Past Python's buffer, which the interrupted code may be writing to at this moment.
            os.write(2, _MESSAGE.format(name=signal.Signals(number).name).encode())
