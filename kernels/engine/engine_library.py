"""A compiled engine and its plans, called from Python. Exported folders contain a copy, which only needs NumPy."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np

__all__ = ['Library', 'OpenPlan']


class Library:
    """The functions of a compiled library; see `engine.cc`. `OSError` where it cannot be loaded."""

    def __init__(self, path: Any) -> None:
        whole, address = ctypes.c_int64, ctypes.c_void_p
        library = ctypes.CDLL(str(path))
        for name, result, arguments in (
            ('engine_lanes', ctypes.c_int, []),
            ('engine_narrow', ctypes.c_int, [ctypes.c_int]),
            ('engine_error', ctypes.c_char_p, []),
            ('engine_open', address, [address, whole, address, whole, ctypes.c_int]),
            ('engine_run', ctypes.c_int, [address, address, address, whole]),
            ('engine_profile', ctypes.c_int, [address, address, address, whole]),
            ('engine_size', whole, [address]),
            ('engine_kind', ctypes.c_char_p, [address, whole]),
            ('engine_seconds', ctypes.c_double, [address, whole]),
            ('engine_macs', ctypes.c_double, [address, whole]),
            ('engine_sums', None, [address, whole, address]),
            ('engine_close', None, [address]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name[len('engine_') :], function)
        self.path = path
        self.width: int = self.lanes()  # floats in a vector

    def digest_of(self, weights: np.ndarray) -> bytes:
        """Return 256 numbers that change with any bit of the weights, at memory speed."""
        sums = np.empty(256, np.uint32)
        self.sums(weights.ctypes.data, weights.size, sums.ctypes.data)
        return sums.tobytes()


class OpenPlan:
    """A plan with its threads and memory, which takes any number of images; calls from several threads take turns.

    ``table`` is int64, ``weights`` are float32, and may be memory-mapped. ``inputs`` and ``outputs`` are the floats per
    image and per answer. `ValueError` for an invalid table.
    """

    def __init__(self, library: Library, table: np.ndarray, weights: np.ndarray, threads: int) -> None:
        self._library, self._table, self._weights, self._threads = library, table, weights, threads
        self._handle: Any = None
        self._process = 0
        self._open()
        self.inputs, self.outputs = int(table[9]), int(table[11])

    def _open(self) -> None:
        table, weights = self._table, self._weights
        handle = self._library.open(table.ctypes.data, table.size, weights.ctypes.data, weights.size, self._threads)
        if not handle:
            raise ValueError(self._library.error().decode())
        self._handle, self._process = handle, os.getpid()

    @property
    def handle(self) -> Any:
        """Return the handle for the library's functions.

        A child of fork, which has none of the threads, opens it anew.
        """
        if self._process != os.getpid():
            self._open()
        return self._handle

    def __del__(self) -> None:
        # A child of fork has none of the threads that closing would wait for.
        if self._handle and self._process == os.getpid():
            self._library.close(self._handle)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the answers (N, outputs) to images of ``inputs`` floats each; `ValueError` for images of others."""
        images = np.ascontiguousarray(images, np.float32)
        if images[:1].size != self.inputs * len(images[:1]):
            raise ValueError(f'images are {images.shape}; this network was made for {self.inputs} numbers each')
        answers = np.empty((len(images), self.outputs), np.float32)
        if len(images) and self._library.run(self.handle, images.ctypes.data, answers.ctypes.data, len(images)):
            raise MemoryError(self._library.error().decode())
        return answers
