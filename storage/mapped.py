"""A file read through the page cache, without a copy and with little memory counted against us.

Reading a file that is in the page cache copies every byte; mapping it does not, and took half the
time of averaging. Two things follow from mapping. Whoever cuts a mapped file short while it is
read kills this process: only files of our own state folder are mapped. And pages touched count as
this process's memory until `forget`.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from protocol.errors import Misconfigured

HUGE_PAGE_BYTES: Final = 2 << 20


class MappedFile:
    """The first `size` bytes of a file, as the uint8 array `data`.

    `window` is about how many bytes are read before they are forgotten: where that is less than a
    huge page, pages are mapped singly, so that touching one byte does not count as two megabytes.
    Raises Misconfigured when the file has less than `size` bytes, or `size` is 0.
    """

    def __init__(self, path: Path, size: int, window: int = HUGE_PAGE_BYTES) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            if os.fstat(file).st_size < size:
                raise Misconfigured(f"{path} is shorter than the {size:,} bytes the spec asks for")
            if not size:
                raise Misconfigured(f"{path} is empty")
            self._map = mmap.mmap(file, size, access=mmap.ACCESS_READ)
        finally:
            os.close(file)
        if size > window:  # else it is read at one go
            self._map.madvise(mmap.MADV_SEQUENTIAL)
            if window < HUGE_PAGE_BYTES and hasattr(mmap, "MADV_NOHUGEPAGE"):
                self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.data: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def forget(self, start: int, stop: int) -> None:
        """Take the bytes from `start` to `stop` off this process's memory; they may be read again.

        Both are rounded down to a page, so that windows in a row leave nothing behind.
        """
        start -= start % mmap.PAGESIZE
        if stop < len(self.data):
            stop -= stop % mmap.PAGESIZE
        if start < stop and stop - start < len(self.data):  # `close` forgets all of it
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def close(self) -> None:
        """Forget all of it; arrays made of `data` must no longer be used."""
        self.data = np.empty(0, np.uint8)
        with suppress(BufferError):  # somebody still holds an array: it closes with that one
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
